"""One way to write a link, so that links that lead to the same place are equal."""

import re
from urllib.parse import quote, urlsplit, urlunsplit

import idna

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ENCODED = re.compile("%([0-9a-fA-F]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_AS_WRITTEN = "%!$&'()*+,;=:@/?[]"
"""What `quote` has to leave alone: all that has a meaning in a URL or is encoded already."""


def normal(url: str) -> str:
    """A link in the form of RFC 3986, 6.2.2 and 6.2.3, as far as that cannot lead elsewhere.

    Scheme and host are in small letters (other scripts as IDNA), a scheme's own port and an empty path are written the
    same, and so are percent-encodings. What a server may tell apart stays: the order of parameters, a slash at the end,
    the fragment. What is no link with a host comes back as it is.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return url
    if not host or parts.scheme not in _DEFAULT_PORTS:
        return url
    who, at, _ = parts.netloc.rpartition("@")
    place = _host(host) + (f":{port}" if port not in (None, _DEFAULT_PORTS[parts.scheme]) else "")
    rest = (_encoded(part) for part in (parts.path or "/", parts.query, parts.fragment))
    return urlunsplit((parts.scheme, f"{who}{at}{place}", *rest))


def _host(host: str) -> str:
    if ":" in host:
        return f"[{host}]"
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError:
        return host


def _encoded(text: str) -> str:
    return _ENCODED.sub(_one, quote(text, safe=_AS_WRITTEN + "~"))


def _one(found: re.Match[str]) -> str:
    letter = chr(int(found[1], 16))
    return letter if letter in _UNRESERVED else f"%{found[1].upper()}"
