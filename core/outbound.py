"""HTTP to addresses that users write: bounded in size and time, and never into private networks unless allowed.

A host is resolved here, every address it has is checked, and the connection goes to an address that was checked: a
name that is resolved anew between check and connection (DNS rebinding) gains nothing. Redirects pass the same way.
"""

import asyncio
import hashlib
import hmac
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from core.errors import KaskadError
from core.wire import TooLong, Wire, request_of

SIZE_LIMIT = 1_000_000
REDIRECTS_LIMIT = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPS_BODY = frozenset({307, 308})
_BASE = {"accept": "*/*", "accept-encoding": "identity"}
_SAFE = "%/:@!$&'()*+,;=~-._"
_NAT64 = ip_network("64:ff9b::/96")


class Refused(KaskadError):
    """The address must not be called; trying again does not help."""


class NoAnswer(KaskadError):
    """Nobody answered, or not in time; trying again may help."""


@dataclass(frozen=True)
class Answer:
    """What came back: its status, its headers in small letters, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def signature(key: bytes, body: bytes, at: float) -> str:
    """The value of `Kaskad-Signature`: `t=…,v1=…`, HMAC-SHA256 (RFC 2104) of the second, a dot and the body."""
    moment = str(int(at))
    digest = hmac.new(key, moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


class Caller:
    """Calls addresses; holds the connections of a process."""

    def __init__(self, allow_private: bool, connections: int = 20) -> None:
        self._allow_private = allow_private
        # It knows no proxy: that would connect on our behalf, unchecked.
        self._wire = Wire(SIZE_LIMIT, connections)

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def call(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_seconds: float
    ) -> Answer:
        """Call an address and read its whole answer.

        Args:
            method: of HTTP.
            url: http or https.
            headers: besides Host; those of ours are not sent on to another host that redirects lead to.
            body: None for none.
            timeout_seconds: for everything together, redirects included.

        Raises:
            Refused: a private address, another scheme, too many redirects, or an answer of more than SIZE_LIMIT bytes.
            NoAnswer: no connection, or it took too long.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._follow(method, url, dict(headers), body)
        except TimeoutError:
            raise NoAnswer(f"no answer within {timeout_seconds:g} s") from None
        except OSError as error:
            raise NoAnswer(f"no answer: {type(error).__name__}") from error

    async def _follow(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        for _ in range(REDIRECTS_LIMIT + 1):
            answer = await self._once(method, url, headers, body)
            there = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not there:
                return answer
            onward = urljoin(url, there)
            if answer.status not in _KEEPS_BODY:
                method, body = ("GET" if method != "HEAD" else method), None
            if urlsplit(onward)[:2] != urlsplit(url)[:2]:
                headers = {}
            url = onward
        raise Refused(f"more than {REDIRECTS_LIMIT} redirects")

    async def _once(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise Refused("only plain http and https addresses are called")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise Refused("this is no port") from None
        try:
            host, netloc = (one.encode("ascii" if one.isascii() else "idna").decode() for one in _names(parts))
            request = request_of(method, _target(parts), {**_BASE, **_lower(headers), "host": netloc}, body)
        except ValueError:
            raise Refused("this cannot be an address or a header") from None
        address = await self._checked(host, port)
        try:
            answer = await self._wire.ask(parts.scheme == "https", host, str(address), port, request)
        except TooLong:
            raise Refused(f"the answer has more than {SIZE_LIMIT} bytes") from None
        return Answer(answer.status, answer.headers, bytes(answer.body))

    async def _checked(self, host: str, port: int) -> IPv4Address | IPv6Address:
        """An address of the host to connect to, once all that it has are seen to be public."""
        try:
            addresses = [ip_address(host)]
        except ValueError:
            addresses = await self._resolved(host, port)
        if not self._allow_private:
            for address in addresses:
                if not is_public(address):
                    raise Refused(f"{host} is in a private network; set KASKAD_CALL_PRIVATE=true to allow such calls")
        return addresses[0]

    async def _resolved(self, host: str, port: int) -> list[IPv4Address | IPv6Address]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [ip_address(str(row[4][0]).partition("%")[0]) for row in found]


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet; IPv4 inside IPv6 is judged as IPv4."""
    inner: Any = None
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _names(parts: SplitResult) -> tuple[str, str]:
    """The host, and what stands in the header of that name."""
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return host, f"{shown}:{parts.port}" if parts.port else shown


def _target(parts: SplitResult) -> str:
    """Path and query; what may not stand there is escaped."""
    path = quote(parts.path or "/", safe=_SAFE)
    return f"{path}?{quote(parts.query, safe=_SAFE + '?')}" if parts.query else path
