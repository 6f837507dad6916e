"""Which web origins (RFC 6454) may report for a site. Pure."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from core.errors import InvalidInput, Problem

ANYWHERE = "*"
ORIGINS_LIMIT = 100
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\]")
_MEND = "write it as in https://example.com, https://*.example.com or http://localhost:8080, or * for everywhere"


def normalise(text: str) -> str:
    """An origin as browsers write it; its host may begin with `*.` for all hosts below, without the domain itself.

    Raises:
        InvalidInput: it is none.
    """
    text = text.strip()
    if text == ANYWHERE:
        return ANYWHERE
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        host = f"[{host}]" if ":" in host else host.encode("idna").decode() if not host.isascii() else host
    except ValueError as error:
        raise InvalidInput(Problem(f"{text[:100]!r} is no origin: {error}", _MEND, path="origin")) from None
    is_bare = parts.path in {"", "/"} and not parts.query and not parts.fragment and "@" not in parts.netloc
    if parts.scheme not in _PORTS or not is_bare or not _HOST.fullmatch(host):
        raise InvalidInput(Problem(f"{text[:100]!r} is no origin", _MEND, path="origin"))
    return f"{parts.scheme}://{host}" + ("" if port in {None, _PORTS[parts.scheme]} else f":{port}")


def sent(origin: str | None, referer: str | None) -> str | None:
    """The origin a request comes from: what the Origin header says, else that of the Referer header; None if neither
    does.

    Browsers send Origin with every POST; `null` stands for pages that have none (sandboxes, files).
    """
    if origin:
        return origin
    scheme, found, rest = (referer or "").partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}".lower() if found else None


def allows(allowed: Sequence[str], origin: str | None) -> bool:
    """Whether one of a site's (normalised) origins is this one."""
    if ANYWHERE in allowed:
        return True
    if not origin:
        return False
    if origin in allowed:
        return True
    scheme, _, host = origin.partition("://")
    return any(_is_below(scheme, host, one) for one in allowed if "*" in one)


def _is_below(scheme: str, host: str, pattern: str) -> bool:
    wanted_scheme, _, wanted = pattern.partition("://")
    below = wanted.removeprefix("*")
    return scheme == wanted_scheme and host.endswith(below) and bool(_HOST.fullmatch(host.removesuffix(below)))
