"""HTTP/1.1 from this side, as thin as it can be: connections that are kept, one request at a time on each.

Whoever calls says which address to connect to; names are not resolved here. To connect and to ask are two steps, so
that the caller knows whether anything had left when the time was over.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import cast

import certifi
import httptools

KEPT_FOR = 20.0
"""Seconds after which an unused connection is not used again: servers close theirs after some time, too."""
_Key = tuple[bool, str, str, int]


class Lost(ConnectionError):
    """The connection went away, or spoke no HTTP, after the request had begun to leave."""


class TooLong(Exception):
    """The answer is longer than it may be."""


@dataclass
class Answered:
    """An answer as it came; header names are in small letters."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


class Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, key: _Key, limit: int) -> None:
        self.key = key
        self.limit = limit
        self.used_at = 0.0
        self.transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answered] | None = None
        self._answer = Answered()
        self._parser = httptools.HttpResponseParser(self)
        self._headers_done = False
        self._too_long = False
        """The parser tells of its own errors only, not of those in here."""
        self.keeps = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():  # nobody asked
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(TooLong() if self._too_long else Lost(f"no HTTP: {type(error).__name__}"))

    def connection_lost(self, error: Exception | None) -> None:
        headers = self._answer.headers
        ends_here = self._headers_done and "content-length" not in headers and "transfer-encoding" not in headers
        if ends_here and error is None:
            self.on_message_complete()
        self._fail(Lost("the connection was closed"))

    # the parser's side

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header of the answer."""
        self._too_long = len(self._answer.headers) >= 200
        if self._too_long:
            raise TooLong
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The answer's head is there."""
        self._answer.status = self._parser.get_status_code()
        self._headers_done = True

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self._answer.body += body
        self._too_long = len(self._answer.body) > self.limit
        if self._too_long:
            raise TooLong

    def on_message_complete(self) -> None:
        """It is there in full, unless it only says that another one follows."""
        if 100 <= self._answer.status < 200 and self._answer.status != 101:
            self._answer, self._headers_done = Answered(), False
            return
        self.keeps = self._headers_done and bool(self._parser.should_keep_alive())
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self._answer)

    # ours

    async def ask(self, request: bytes) -> Answered:
        """Send a request and wait for its answer."""
        if self.transport is None:
            raise Lost("there is no connection")
        self._waiter = asyncio.get_running_loop().create_future()
        self._answer, self._parser = Answered(), httptools.HttpResponseParser(self)
        self._headers_done = self.keeps = False
        self.transport.write(request)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.abort()

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.close()


class Wire:
    """The connections of a process."""

    def __init__(self, limit: int, kept: int) -> None:
        self._limit = limit
        self._kept = kept
        self._idle: dict[_Key, deque[Line]] = {}
        self._tls: ssl.SSLContext | None = None

    async def line(self, tls: bool, host: str, address: str, port: int) -> Line:
        """A connection to an address, on which nothing has been said: one that was kept, or a new one.

        Args:
            tls: whether it is encrypted, and the certificate good for `host`.
            host: the name it is called by.
            address: where to connect to.
            port: there.

        Raises:
            OSError: there is none.
        """
        key = (tls, host, address, port)
        return self._take(key) or await self._connect(key)

    async def ask(self, line: Line, request: bytes) -> Answered:
        """Send a request, head and body, on a connection that `line` gave, and read the whole answer.

        Raises:
            Lost: the connection went away after the request had begun to leave.
            TooLong: the answer is longer than the limit.
        """
        try:
            answer = await line.ask(request)
        except BaseException:
            line.close()
            raise
        self._give_back(line)
        return answer

    async def close(self) -> None:
        """Close what is idle."""
        for lines in self._idle.values():
            for line in lines:
                line.close()
        self._idle.clear()
        await asyncio.sleep(0)  # transports close in the next round

    def _take(self, key: _Key) -> Line | None:
        lines = self._idle.get(key)
        now = asyncio.get_running_loop().time()
        while lines:
            line = lines.pop()
            if line.transport is not None and not line.transport.is_closing() and now - line.used_at < KEPT_FOR:
                return line
            line.close()
        return None

    def _give_back(self, line: Line) -> None:
        if not line.keeps or sum(map(len, self._idle.values())) >= self._kept:
            line.close()
            return
        line.used_at = asyncio.get_running_loop().time()
        self._idle.setdefault(line.key, deque()).append(line)

    async def _connect(self, key: _Key) -> Line:
        tls, host, address, port = key
        if tls and self._tls is None:
            self._tls = ssl.create_default_context(cafile=certifi.where())
        _, line = await asyncio.get_running_loop().create_connection(
            lambda: Line(key, self._limit),
            address,
            port,
            ssl=self._tls if tls else None,
            server_hostname=host if tls else None,
        )
        return line


def request_of(method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The bytes of a request.

    Raises:
        ValueError: a name or value that would break the head.
    """
    lines = [f"{method} {target} HTTP/1.1"]
    if body is not None or method in {"POST", "PUT", "PATCH"}:
        headers = {**headers, "content-length": str(len(body or b""))}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise ValueError("a line break in the head of a request")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """What `Retry-After` asks for, in seconds or as a date (RFC 9110, section 10.2.3); None if it says nothing.

    Args:
        headers: of an answer, their names in small letters.
    """
    value = headers.get("retry-after", "").strip()
    try:
        if value.isascii() and value.replace(".", "", 1).isdigit():
            return timedelta(seconds=float(value))
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC), timedelta())
