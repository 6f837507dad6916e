"""The providers of an installation: kept in the database, their URLs encrypted at rest, never shown or logged."""

import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.keys import derived_key
from channels.options import Options, split
from channels.registry import Scheme, redacted, scheme_of
from core.clock import now
from core.errors import Conflict, InvalidInput, Misconfigured, NotFound, Problem
from core.settings import Settings

DEFAULT = "default"
STATES = ("active", "paused", "removed")
_SELECT = "select id, name, channel, state, settings, secret from provider"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class Provider:
    """One configured provider. The URL, which holds its password, stays out of its repr."""

    id: int
    name: str
    channel: str
    state: str
    options: Options
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
        options: those of channels.options, and what the URL of this kind takes as its query.

    Raises:
        InvalidInput: the name, URL or an option cannot be used.
        Conflict: there is a provider of that name, or there was one of another channel.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(Problem(f"{name!r} is no name for a provider", "use a-z, 0-9 and hyphens, at most 63"))
    scheme = scheme_of(url)
    own = {key: value for key, value in (options or {}).items() if key not in Options.model_fields}
    if own and not scheme.query:
        known = ", ".join(Options.model_fields)
        raise InvalidInput(Problem(f"{', '.join(own)}: no setting of this provider", f"there are {known}"))
    if own:
        url += ("&" if "?" in url else "?") + urlencode(own)
    url, common = split(url)
    scheme.open(url, settings)
    parsed = _options(scheme, common | {key: value for key, value in (options or {}).items() if key not in own})
    row = await connection.execute(
        text(
            "insert into provider (name, channel, secret, settings) values (:name, :channel, :secret, :options) "
            "on conflict (name) do update set channel = :channel, secret = :secret, settings = :options, "
            "state = 'active' where provider.state = 'removed' and provider.channel = :channel returning id"
        ).bindparams(bindparam("options", type_=JSONB)),
        {"name": name, "channel": scheme.channel, "secret": _seal(settings, url), "options": parsed.stored()},
    )
    number = row.scalar_one_or_none()
    if number is None:
        raise Conflict(await _taken(connection, name))
    return Provider(number, name, scheme.channel, "active", parsed, url)


async def _taken(connection: AsyncConnection, name: str) -> str:
    """Why a name cannot be had. The row of a provider that was removed is what its old messages refer to."""
    rows = await connection.execute(text("select channel, state from provider where name = :name"), {"name": name})
    found = rows.one()
    if found.state == "removed":
        return f"{name!r} was a provider of {found.channel}, which messages still name; choose another name"
    return f"there is a provider {name!r} already; remove it first or choose another name"


async def ensure_default(connection: AsyncConnection, settings: Settings) -> None:
    """Make the provider that the settings name: KASKAD_EMAIL, or the built-in mailbox in demo mode.

    Called when the schema is there and when a worker starts. A changed URL replaces the old one; a pause stays.
    """
    url = settings.email.get_secret_value() if settings.email else "mailbox://" if settings.demo else None
    if url is None:
        return
    scheme = scheme_of(url)
    url, common = split(url)
    options = Options.of(common).stored()
    rows = await connection.execute(
        text("select secret, settings from provider where name = :name for update"), {"name": DEFAULT}
    )
    present = rows.one_or_none()
    same = present is not None and _open(settings, present.secret, DEFAULT, strict=False) == url
    if present is not None and same and options.items() <= present.settings.items():
        return
    await connection.execute(
        text(
            "insert into provider (name, channel, secret, settings) values (:name, :channel, :secret, :options) "
            "on conflict (name) do update set channel = :channel, secret = :secret, "
            "settings = provider.settings || :options, "
            "state = case when provider.state = 'removed' then 'active' else provider.state end"
        ).bindparams(bindparam("options", type_=JSONB)),
        {
            "name": DEFAULT,
            "channel": scheme.channel,
            "secret": _seal(settings, url),
            "options": _options(scheme, common).stored(),
        },
    )


async def find(connection: AsyncConnection, settings: Settings, name: str) -> Provider:
    """The provider of that name.

    Raises:
        NotFound: there is none, or it was removed.
        Misconfigured: its URL was encrypted with another key.
    """
    found = await anyone(connection, settings, name)
    if found.state != "removed":
        return found
    raise NotFound(f"there is no provider {name!r}; `kaskad provider list` shows those there are")


async def anyone(connection: AsyncConnection, settings: Settings, name: str) -> Provider:
    """The provider of that name, also one that was removed. Raises as `find` does."""
    rows = await connection.execute(text(f"{_SELECT} where name = :name"), {"name": name})
    row = rows.one_or_none()
    if row is None:
        raise NotFound(f"there is no provider {name!r}; `kaskad provider list` shows those there are")
    return _provider(settings, row)


async def listing(connection: AsyncConnection, settings: Settings) -> list[Provider]:
    """All providers that were not removed, in the order they were added."""
    rows = await connection.execute(text(f"{_SELECT} where state <> 'removed' order by id"))
    return [_provider(settings, row) for row in rows]


def _provider(settings: Settings, row: Any) -> Provider:
    options = Options.model_validate(row.settings)
    return Provider(row.id, row.name, row.channel, row.state, options, _open(settings, row.secret, row.name))


async def change(connection: AsyncConnection, settings: Settings, name: str, given: dict[str, str]) -> Provider:
    """Change options of a provider; those that are not given stay, an empty value takes one back.

    Workers heed it with their next batch.

    Raises:
        NotFound: there is none of that name.
        InvalidInput: a value that cannot be, or a setting that belongs to the URL.
    """
    await connection.execute(text("select from provider where name = :name for update"), {"name": name})
    found = await find(connection, settings, name)
    strange = sorted(set(given) - set(Options.model_fields))
    if strange:
        mend = f"there are {', '.join(Options.model_fields)}; what belongs to the URL is changed by adding it anew"
        raise InvalidInput(Problem(f"{', '.join(strange)}: no setting that can be changed", mend))
    kept = {key: str(value) for key, value in found.options.stored().items() if key not in given}
    options = _options(found.scheme, kept | {key: value for key, value in given.items() if value})
    await connection.execute(
        text("update provider set settings = :options where id = :id").bindparams(bindparam("options", type_=JSONB)),
        {"options": options.stored(), "id": found.id},
    )
    return replace(found, options=options)


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


def _options(scheme: Scheme, given: dict[str, str]) -> Options:
    """The options of a provider; a warm-up without a day begins today."""
    parsed = Options.of(given)
    if parsed.domain_per_second is not None and scheme.channel != "email":
        raise InvalidInput(Problem("only letters go to domains", "leave domain_per_second out; there is per_second"))
    if parsed.undelivered_after is not None and scheme.reports is None:
        mend = "leave undelivered_after out: every message would go out twice"
        raise InvalidInput(Problem("this kind of provider does not report what was delivered", mend))
    if parsed.warm_up is not None and parsed.warm_up_from is None:
        parsed = Options.of(given | {"warm_up_from": now().date().isoformat()})
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
