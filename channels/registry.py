"""Every kind of provider there is: the scheme of its URL, and what opens it. A new kind is one line here."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from urllib.parse import urlsplit

from channels.blackhole import Blackhole
from channels.provider import AnyProvider, EmailProvider, Hook, Report, ReportParser
from core.errors import InvalidInput, Problem
from core.settings import Settings

Opener = Callable[[str, Settings], AnyProvider]
Token = Callable[[Hook], str]


@dataclass(frozen=True)
class Scheme:
    """A kind of provider and what delivery has to know about it."""

    channel: str
    open: Opener
    """Makes the provider from its URL without connecting; raises InvalidInput for a URL that cannot work."""
    needs_content: bool = True
    """False only for the black hole: letters are not rendered, and values they lack are not noticed."""
    idempotent: bool = False
    """Whether it knows a letter by its message id and never sends it twice; in-doubt letters are then repeated."""
    batch: int = 40
    """Letters claimed and handed over together; as many may be in doubt after a crash. Twice the usual number of
    connections: fewer letters would leave some of those idle, more only wait for them, claimed."""
    query: bool = False
    """Whether its URL takes settings as a query."""
    reports: ReportParser | None = None
    """Reads its webhooks, where it sends any; see channels.hooks."""
    token: Token | None = None
    """What a webhook that `reports` has read was signed with, for kinds whose signature does not cover the body: it
    comes with one body only."""
    verified: str = ""
    """How its webhooks are told from forged ones."""
    signs: tuple[str, ...] = ()
    """What that covers: `body`, `time` (an old one is refused), or neither."""
    says_when: bool = False
    """Whether "later" comes with a time, which is heeded."""
    sends: str = ""
    """What goes on the wire."""
    names: str = ""
    """Where our id of the message stands there."""
    attachments: bool = False
    """Whether files and inline pictures go with a letter."""


def _smtp(url: str, settings: Settings) -> EmailProvider:
    # Not loaded by processes that send nothing.
    from channels.email import open_smtp  # noqa: PLC0415

    return open_smtp(url, settings)


def _mailbox(url: str, settings: Settings) -> EmailProvider:
    from channels.email import open_mailbox  # noqa: PLC0415

    return open_mailbox(url, settings)


def _blackhole(_url: str, _settings: Settings) -> EmailProvider:
    return Blackhole()


def _calls(url: str, settings: Settings) -> AnyProvider:
    from channels.webhook.provider import open_webhook  # noqa: PLC0415

    return open_webhook(url, settings)


def _vendor(module: str, opener: str) -> Opener:
    """A vendor's adapter, loaded when it is opened."""

    def opened(url: str, settings: Settings) -> EmailProvider:
        made: EmailProvider = getattr(import_module(f"channels.email.vendors.{module}"), opener)(url, settings)
        return made

    return opened


def _webhook(module: str) -> ReportParser:
    """A vendor's reader of webhooks, loaded when one comes."""

    async def read(url: str, hook: Hook) -> list[Report]:
        reports: list[Report] = await import_module(f"channels.email.vendors.{module}").read_webhook(url, hook)
        return reports

    return read


def _mailgun_token(hook: Hook) -> str:
    from channels.email.vendors.mailgun import token_of  # noqa: PLC0415

    return token_of(hook)


def _api(
    module: str, opener: str, sends: str, names: str, verified: str, *signs: str, token: Token | None = None
) -> Scheme:
    return Scheme(
        "email",
        _vendor(module, opener),
        query=True,
        batch=20,
        reports=_webhook(module),
        token=token,
        verified=verified,
        signs=signs,
        says_when=True,
        sends=sends,
        names=names,
        attachments=True,
    )


_SMTP = Scheme("email", _smtp, query=True, sends="MIME, DKIM by us", names="Message-ID", attachments=True)
_FIELDS, _MIME = "JSON, DKIM by them", "MIME, DKIM by them"

SCHEMES: dict[str, Scheme] = {
    "smtp": _SMTP,
    "smtps": _SMTP,
    "smtp+starttls": _SMTP,
    "ses": _api("ses", "open_ses", _MIME, "tag", "certificate of SNS, topic", "body", "time"),
    "sendgrid": _api("sendgrid", "open_sendgrid", _FIELDS, "custom_args", "ECDSA", "body", "time"),
    "postmark": _api("postmark", "open_postmark", _FIELDS, "Metadata", "password (HTTP Basic)"),
    "mailgun": _api(
        "mailgun",
        "open_mailgun",
        _MIME,
        "variable",
        "HMAC of time and token; a token once",
        "time",
        token=_mailgun_token,
    ),
    "unisender-go": _api("unisender", "open_unisender", _FIELDS, "metadata", "MD5 of body and API key", "body"),
    "webhook": Scheme(
        "webhook",
        _calls,
        query=True,
        idempotent=True,
        batch=100,
        says_when=True,
        sends="the template's call, HMAC by us",
        names="kaskad-id",
    ),
    "mailbox": Scheme("email", _mailbox, sends="MIME", names="Message-ID", attachments=True),
    "blackhole": Scheme("email", _blackhole, needs_content=False, batch=500, sends="nothing"),
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
