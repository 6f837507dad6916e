"""HTTP to addresses that users write: bounded in size and time, and never into private networks unless allowed.

A host is resolved here, every address it has is checked, and the connection goes to an address that was checked: a
name that is resolved anew between check and connection (DNS rebinding) gains nothing. Redirects pass the same way.
"""

import asyncio
import hashlib
import hmac
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from core.errors import KaskadError
from core.wire import Line, TooLong, Wire, request_of

SIZE_LIMIT = 1_000_000
REDIRECTS_LIMIT = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPS_BODY = frozenset({307, 308})
_BASE = {"accept": "*/*", "accept-encoding": "identity"}
_TRAVELS = frozenset({"content-type", "user-agent", "idempotency-key", "kaskad-id", "kaskad-signature"})
"""Headers that hold no secret of the address: they go on to another host that a redirect names."""
_TRIED = 4
"""Addresses of a host that are tried, one after the other."""
_SAFE = "%/:@!$&'()*+,;=~-._"
_NAT64 = ip_network("64:ff9b::/96")
# What Python takes for global: IPv4 in IPv6's old clothes (RFC 4291, 2.5.5.1; RFC 2765), translation within a network
# (RFC 8215), and site-local addresses, which RFC 3879 deprecated and routers still know.
_NEVER_PUBLIC = tuple(map(ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fec0::/10")))


class Refused(KaskadError):
    """The address must not be called; trying again does not help."""


class NoAnswer(KaskadError):
    """Nobody answered, or not in time; trying again may help."""


class Unreached(NoAnswer):
    """There was no connection, so surely nothing has left."""


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


@dataclass
class _Trip:
    """A call with its redirects, as far as it has come."""

    seconds: float
    left: bool = False
    """Whether a request has begun to leave."""


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
            headers: besides Host. To another host that redirects lead to go only those that hold no secret.
            body: None for none.
            timeout_seconds: for everything together, redirects included.

        Raises:
            Refused: a private address, another scheme, what is no address, too many redirects, or an answer of more
                than SIZE_LIMIT bytes.
            Unreached: there was no connection.
            NoAnswer: it took too long, or the connection went away, after something may have left.
        """
        trip = _Trip(timeout_seconds)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._follow(trip, method, url, dict(headers), body)
        except TimeoutError:
            raise _silence(trip)(f"no answer within {timeout_seconds:g} s") from None
        except OSError as error:
            raise _silence(trip)(f"no answer: {type(error).__name__}") from error
        except ValueError as error:
            # Of an address that cannot be read, or a name that cannot be looked up, wherever it came from.
            raise Refused("this cannot be an address or a header") from error

    async def _follow(self, trip: _Trip, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        for _ in range(REDIRECTS_LIMIT + 1):
            answer = await self._once(trip, method, url, headers, body)
            there = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not there:
                return answer
            onward = urljoin(url, there)
            if answer.status not in _KEEPS_BODY:
                method, body = ("GET" if method != "HEAD" else method), None
            if urlsplit(onward)[:2] != urlsplit(url)[:2]:
                headers = {name: value for name, value in headers.items() if name.lower() in _TRAVELS}
            url = onward
        raise Refused(f"more than {REDIRECTS_LIMIT} redirects")

    async def _once(self, trip: _Trip, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise Refused("only plain http and https addresses are called")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host, netloc = (one.encode("ascii" if one.isascii() else "idna").decode() for one in _names(parts))
        request = request_of(method, _target(parts), {**_BASE, **_lower(headers), "host": netloc}, body)
        line = await self._connected(trip, parts.scheme == "https", host, port)
        trip.left = True
        try:
            answer = await self._wire.ask(line, request)
        except TooLong:
            raise Refused(f"the answer has more than {SIZE_LIMIT} bytes") from None
        return Answer(answer.status, answer.headers, bytes(answer.body))

    async def _connected(self, trip: _Trip, tls: bool, host: str, port: int) -> Line:
        """A connection to the first of a host's addresses that takes one, each in its share of the time."""
        *others, last = (await self._checked(host, port))[:_TRIED]
        for address in others:
            with suppress(OSError):  # the next one may be there; what the last one says is told
                async with asyncio.timeout(trip.seconds / (len(others) + 1)):
                    return await self._wire.line(tls, host, str(address), port)
        return await self._wire.line(tls, host, str(last), port)

    async def _checked(self, host: str, port: int) -> list[IPv4Address | IPv6Address]:
        """The addresses of the host to connect to, once all that it has are seen to be public."""
        try:
            addresses = [ip_address(host)]
        except ValueError:
            addresses = await self._resolved(host, port)
        if not self._allow_private:
            for address in addresses:
                if not is_public(address):
                    raise Refused(f"{host} is in a private network; set KASKAD_CALL_PRIVATE=true to allow such calls")
        return addresses

    async def _resolved(self, host: str, port: int) -> list[IPv4Address | IPv6Address]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(ip_address(str(row[4][0]).partition("%")[0]) for row in found))


def _silence(trip: _Trip) -> type[NoAnswer]:
    return NoAnswer if trip.left else Unreached


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet; IPv4 inside IPv6 is judged as IPv4."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if any(address in network for network in _NEVER_PUBLIC):
            return False
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
