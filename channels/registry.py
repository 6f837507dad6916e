"""Every kind of provider there is: the scheme of its URL, and what opens it. A new kind is one line here."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from urllib.parse import urlsplit

from channels.blackhole import Blackhole
from channels.provider import EmailProvider
from core.errors import InvalidInput, Problem
from core.settings import Settings

Take = Callable[[str, float, int, timedelta], Awaitable[timedelta]]
"""Reserves turns that all workers share: a name, messages a second, how many, within what time; see channels.limits."""
Opener = Callable[[str, Settings, Take | None], EmailProvider]


@dataclass(frozen=True)
class Scheme:
    """A kind of provider and what delivery has to know about it."""

    channel: str
    open: Opener
    """Makes the provider from its URL without connecting; raises InvalidInput for a URL that cannot work. Without a
    `Take` its rate limits hold for this process alone."""
    needs_content: bool = True
    """False only for the black hole: letters are not rendered, and values they lack are not noticed."""
    idempotent: bool = False
    """Whether it knows a letter by its message id and never sends it twice; in-doubt letters are then repeated."""
    batch: int = 100
    """Letters claimed and handed over together; as many may be in doubt after a crash."""
    query: bool = False
    """Whether its URL takes settings as a query."""


def _smtp(url: str, settings: Settings, take: Take | None) -> EmailProvider:
    # Not loaded by processes that send nothing.
    from channels.email import PATIENCE, TOTAL, Allow, SmtpSettings, open_smtp  # noqa: PLC0415

    def allow(take: Take) -> Allow:
        options = SmtpSettings.of(url).options

        async def turn(name: str, n: int) -> timedelta:
            rate = options.per_second if name == TOTAL else options.domain_per_second
            return await take(name, rate, n, PATIENCE) if rate else timedelta()

        return turn

    return open_smtp(url, settings, allow(take) if take else None)


def _mailbox(url: str, settings: Settings, _take: Take | None) -> EmailProvider:
    from channels.email import open_mailbox  # noqa: PLC0415

    return open_mailbox(url, settings)


def _blackhole(_url: str, _settings: Settings, _take: Take | None) -> EmailProvider:
    return Blackhole()


SCHEMES: dict[str, Scheme] = {
    "smtp": Scheme("email", _smtp, query=True),
    "smtps": Scheme("email", _smtp, query=True),
    "smtp+starttls": Scheme("email", _smtp, query=True),
    "mailbox": Scheme("email", _mailbox),
    "blackhole": Scheme("email", _blackhole, needs_content=False, batch=500),
}


def scheme_of(url: str) -> Scheme:
    """The kind of provider that a URL names.

    Raises:
        InvalidInput: no such kind; the URL itself is not repeated, it may hold a password.
    """
    name = url.partition("://")[0] if "://" in url else ""
    scheme = SCHEMES.get(name)
    if scheme is None:
        near = get_close_matches(name, SCHEMES, n=1)
        mend = (
            f"did you mean {near[0]}://?" if near else f"it begins with one of {', '.join(f'{s}://' for s in SCHEMES)}"
        )
        raise InvalidInput(Problem(f"{name or 'what was given'!r} is no kind of provider", mend))
    return scheme


def redacted(url: str) -> str:
    """The URL without user, password and query, fit for a screen."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    secret = "…@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{secret}{host}{port}"
