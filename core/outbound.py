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
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx

from core.errors import KaskadError

SIZE_LIMIT = 1_000_000
REDIRECTS_LIMIT = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPS_BODY = frozenset({307, 308})
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

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
        # No proxy from the environment: it would connect on our behalf, unchecked.
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False, limits=limits)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

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
        except (httpx.TransportError, OSError) as error:
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
        address = await self._checked(parts.hostname, port)
        host = f"[{address}]" if address.version == 6 else str(address)
        direct = urlunsplit((parts.scheme, f"{host}:{port}", parts.path or "/", parts.query, ""))
        request = self._client.build_request(
            method,
            direct,
            headers={**headers, "Host": parts.netloc},
            content=body,
            extensions={"sni_hostname": parts.hostname},
            timeout=None,
        )
        response = await self._client.send(request, stream=True)
        try:
            return Answer(response.status_code, _lower(response.headers), await _read(response))
        finally:
            await response.aclose()

    async def _checked(self, host: str, port: int) -> IPv4Address | IPv6Address:
        """An address of the host to connect to, once all that it has are seen to be public."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ip_address(str(row[4][0]).partition("%")[0]) for row in found]
        if not self._allow_private:
            for address in addresses:
                if not is_public(address):
                    raise Refused(f"{host} is in a private network; set KASKAD_CALL_PRIVATE=true to allow such calls")
        return addresses[0]


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


def _lower(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


async def _read(response: httpx.Response) -> bytes:
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > SIZE_LIMIT:
            raise Refused(f"the answer has more than {SIZE_LIMIT} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
