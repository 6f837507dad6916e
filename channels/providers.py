"""The providers of an installation: kept in the database, their URLs encrypted at rest, never shown or logged."""

import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from urllib.parse import urlencode

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.keys import derived_key
from channels.registry import Scheme, redacted, scheme_of
from core.errors import Conflict, InvalidInput, Misconfigured, NotFound, Problem
from core.settings import Settings

DEFAULT = "default"
STATES = ("active", "paused", "removed")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# What may be set on every provider, with its lowest and highest value. Other settings belong to its URL.
OPTIONS: dict[str, tuple[float, float]] = {"give_up_hours": (0.01, 24 * 14)}


@dataclass(frozen=True)
class Provider:
    """One configured provider. The URL, which holds its password, stays out of its repr."""

    id: int
    name: str
    channel: str
    state: str
    options: dict[str, float]
    url: str = field(repr=False)

    @property
    def scheme(self) -> Scheme:
        """Its kind."""
        return scheme_of(self.url)

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return redacted(self.url)


async def add(
    connection: AsyncConnection, settings: Settings, name: str, url: str, options: dict[str, str] | None = None
) -> Provider:
    """Store a provider.

    Args:
        connection: an open transaction.
        settings: for the key.
        name: lower-case letters, digits and hyphens; names its task queue, too.
        url: where it is, with user and password.
        options: those in OPTIONS, and what the URL of this kind takes as its query.

    Raises:
        InvalidInput: the name, URL or an option cannot be used.
        Conflict: there is a provider of that name.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(Problem(f"{name!r} is no name for a provider", "use a-z, 0-9 and hyphens, at most 63"))
    scheme = scheme_of(url)
    own = {key: value for key, value in (options or {}).items() if key not in OPTIONS}
    if own and not scheme.query:
        raise InvalidInput(Problem(f"{', '.join(own)}: no setting of this provider", f"there are {', '.join(OPTIONS)}"))
    if own:
        url += ("&" if "?" in url else "?") + urlencode(own)
    scheme.open(url, settings, None)
    parsed = parse_options({key: value for key, value in (options or {}).items() if key in OPTIONS})
    row = await connection.execute(
        text(
            "insert into provider (name, channel, secret, settings) values (:name, :channel, :secret, :options) "
            "on conflict (name) do update set channel = :channel, secret = :secret, settings = :options, "
            "state = 'active' where provider.state = 'removed' returning id"
        ).bindparams(bindparam("options", type_=JSONB)),
        {"name": name, "channel": scheme.channel, "secret": _seal(settings, url), "options": parsed},
    )
    number = row.scalar_one_or_none()
    if number is None:
        raise Conflict(f"there is a provider {name!r} already; remove it first or choose another name")
    return Provider(number, name, scheme.channel, "active", parsed, url)


async def ensure_default(connection: AsyncConnection, settings: Settings) -> None:
    """Make the provider that the settings name: KASKAD_EMAIL, or the built-in mailbox in demo mode.

    Called when a worker starts. A changed URL replaces the old one; a pause stays.
    """
    url = settings.email.get_secret_value() if settings.email else "mailbox://" if settings.demo else None
    if url is None:
        return
    scheme = scheme_of(url)
    present = await connection.execute(
        text("select secret from provider where name = :name for update"), {"name": DEFAULT}
    )
    secret = present.scalar_one_or_none()
    if secret is not None and _open(settings, secret, DEFAULT, strict=False) == url:
        return
    await connection.execute(
        text(
            "insert into provider (name, channel, secret) values (:name, :channel, :secret) "
            "on conflict (name) do update set channel = :channel, secret = :secret, "
            "state = case when provider.state = 'removed' then 'active' else provider.state end"
        ),
        {"name": DEFAULT, "channel": scheme.channel, "secret": _seal(settings, url)},
    )


async def find(connection: AsyncConnection, settings: Settings, name: str) -> Provider:
    """The provider of that name.

    Raises:
        NotFound: there is none, or it was removed.
        Misconfigured: its URL was encrypted with another key.
    """
    for provider in await listing(connection, settings):
        if provider.name == name:
            return provider
    raise NotFound(f"there is no provider {name!r}; `kaskad provider list` shows those there are")


async def listing(connection: AsyncConnection, settings: Settings) -> list[Provider]:
    """All providers that were not removed, in the order they were added."""
    rows = await connection.execute(
        text("select id, name, channel, state, settings, secret from provider where state <> 'removed' order by id")
    )
    return [
        Provider(number, name, channel, state, options, _open(settings, secret, name))
        for number, name, channel, state, options, secret in rows
    ]


async def choose(connection: AsyncConnection, channel: str) -> tuple[int, str]:
    """The number and name of the provider that carries a channel's new messages: the first one active.

    If all are paused it is the first of those: its messages wait.

    Raises:
        Misconfigured: the channel has no provider.
    """
    rows = await connection.execute(
        text(
            "select id, name from provider where channel = :channel and state <> 'removed' "
            "order by state <> 'active', id limit 1"
        ),
        {"channel": channel},
    )
    row = rows.one_or_none()
    if row is None:
        raise Misconfigured(f"no provider carries {channel}; set KASKAD_EMAIL or add one: kaskad provider add NAME URL")
    return row.id, row.name


async def set_state(connection: AsyncConnection, name: str, state: str) -> None:
    """Pause, resume or remove a provider. What is queued for it waits, or goes to nobody once it is removed.

    Raises:
        NotFound: there is none of that name.
        Conflict: it is to be removed and has messages waiting.
    """
    if state == "removed":
        await _refuse_if_busy(connection, name)
    changed = await connection.execute(
        text("update provider set state = :state where name = :name and state <> 'removed'"),
        {"state": state, "name": name},
    )
    if not changed.rowcount:
        raise NotFound(f"there is no provider {name!r}; `kaskad provider list` shows those there are")


async def _refuse_if_busy(connection: AsyncConnection, name: str) -> None:
    waiting = await connection.execute(
        text(
            "select exists (select from message m join provider p on p.id = m.provider_id "
            "where p.name = :name and m.state in (10, 20))"
        ),
        {"name": name},
    )
    if waiting.scalar_one():
        raise Conflict(f"messages wait for the provider {name!r}; let them leave first, or pause it")


def parse_options(given: dict[str, str]) -> dict[str, float]:
    """The options of a provider as numbers.

    Raises:
        InvalidInput: a value out of its range.
    """
    problems, parsed = [], {}
    for key, value in given.items():
        low, high = OPTIONS[key]
        try:
            parsed[key] = float(value)
        except ValueError:
            parsed[key] = float("nan")
        if not low <= parsed[key] <= high:
            problems.append(Problem(f"{key} cannot be {value!r}", f"give a number from {low:g} to {high:g}"))
    if problems:
        raise InvalidInput(*problems)
    return parsed


def _fernet(settings: Settings) -> Fernet:
    return Fernet(urlsafe_b64encode(derived_key(settings.secret, "provider")))


def _seal(settings: Settings, url: str) -> bytes:
    return _fernet(settings).encrypt(url.encode())


def _open(settings: Settings, secret: bytes, name: str, strict: bool = True) -> str:
    try:
        return _fernet(settings).decrypt(secret).decode()
    except InvalidToken as error:
        if not strict:
            return ""
        raise Misconfigured(
            f"the URL of provider {name!r} was encrypted with another secret key; "
            "set KASKAD_SECRET_KEY to that one, or remove the provider and add it again"
        ) from error
