"""A small SMTP server that takes every letter: behind the built-in mailbox, and a sink for benchmarks.

It speaks what our sender uses (EHLO, PIPELINING, SIZE, 8BITMIME, SMTPUTF8), relays nothing and knows no users; it is
meant for the loopback interface. A letter is acknowledged when `keep` has returned.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import structlog

from core.errors import KaskadError

SIZE_LIMIT = 30_000_000
_LINE_LIMIT = 4096
_RECIPIENTS = 100
_SILENCE = 300.0  # seconds; RFC 5321, section 4.5.3.2.7
_END = b"\r\n.\r\n"
_EXTENSIONS = ("kaskad mailbox", "PIPELINING", f"SIZE {SIZE_LIMIT}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
_PATH = re.compile(r"(?:FROM|TO):\s*<([^<>]*)>(.*)", re.IGNORECASE | re.DOTALL)
_SIZE = re.compile(r"\bSIZE=(\d{1,12})\b", re.IGNORECASE)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Received:
    """A letter with its envelope; `source` is as it was before dot-stuffing."""

    sender: str
    recipients: tuple[str, ...]
    source: bytes


Keep = Callable[[Received], Awaitable[str]]
"""Stores a letter and gives it a name. An error makes the sender try again later."""


class Receiver(asyncio.Protocol):
    """The server's end of one SMTP conversation."""

    def __init__(self, keep: Keep, open_ones: set["Receiver"]) -> None:
        self._keep = keep
        self._open_ones = open_ones
        self._buffer = bytearray()
        self._searched = 0
        self._in_data = False
        self._gone = False
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._keeping: asyncio.Task[None] | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        self._open_ones.add(self)
        self._say("220 kaskad mailbox ESMTP")
        self._listen()

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the conversation; a letter that is being kept is kept to its end."""
        self._open_ones.discard(self)
        self._gone = True
        if self._silence is not None:
            self._silence.cancel()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came and answer what can be answered."""
        self._buffer += data
        self._listen()
        self._advance()

    def _listen(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = asyncio.get_running_loop().call_later(_SILENCE, self._hang_up, "421 4.4.2 silent for too long")

    def _hang_up(self, words: str) -> None:
        self._say(words)
        self._gone = True
        if self._transport is not None:
            self._transport.close()

    def _say(self, line: str) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(f"{line}\r\n".encode())

    def _advance(self) -> None:
        while (
            not self._gone and self._keeping is None and (self._take_letter() if self._in_data else self._take_line())
        ):
            pass
        if self._keeping is not None and len(self._buffer) > SIZE_LIMIT:
            self.abort()  # it does not wait for our answers

    def _take_line(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0 or end > _LINE_LIMIT:
            if len(self._buffer) > _LINE_LIMIT:
                self._buffer.clear()
                self._hang_up("500 5.5.2 the line is too long")
            return False
        line = self._buffer[:end].rstrip(b"\r").decode("utf-8", "replace")
        del self._buffer[: end + 1]
        verb, _, rest = line.partition(" ")
        self._obey(verb.upper(), rest)
        return True

    def _obey(self, verb: str, rest: str) -> None:
        match verb:
            case "EHLO":
                self._reset()
                self._say("\r\n".join([f"250-{word}" for word in _EXTENSIONS[:-1]] + [f"250 {_EXTENSIONS[-1]}"]))
            case "HELO":
                self._reset()
                self._say("250 kaskad mailbox")
            case "MAIL":
                self._say(self._begin(rest))
            case "RCPT":
                self._say(self._add(rest))
            case "DATA":
                self._say(self._open())
            case "RSET" | "NOOP":
                if verb == "RSET":
                    self._reset()
                self._say("250 2.0.0 Ok")
            case "QUIT":
                self._hang_up("221 2.0.0 Bye")
            case _:
                self._say("502 5.5.1 not known here")

    def _reset(self) -> None:
        self._sender, self._recipients = None, []

    def _begin(self, rest: str) -> str:
        path = _PATH.fullmatch(rest)
        if path is None or not rest.upper().startswith("FROM:"):
            return "501 5.5.4 MAIL FROM:<address>"
        if self._sender is not None:
            return "503 5.5.1 one letter at a time"
        size = _SIZE.search(path[2])
        if size and int(size[1]) > SIZE_LIMIT:
            return "552 5.3.4 the letter is too big"
        self._sender = path[1]
        return "250 2.1.0 Ok"

    def _add(self, rest: str) -> str:
        path = _PATH.fullmatch(rest)
        if self._sender is None:
            return "503 5.5.1 MAIL first"
        if path is None or not path[1] or not rest.upper().startswith("TO:"):
            return "501 5.5.4 RCPT TO:<address>"
        if len(self._recipients) >= _RECIPIENTS:
            return "452 4.5.3 too many recipients"
        self._recipients.append(path[1])
        return "250 2.1.5 Ok"

    def _open(self) -> str:
        if not self._recipients:
            return "503 5.5.1 RCPT first" if self._sender is None else "554 5.5.1 no valid recipients"
        self._in_data = True
        self._buffer[:0] = b"\r\n"  # so that a letter without lines ends as every other does
        self._searched = 0
        return "354 end with a dot on a line of its own"

    def _take_letter(self) -> bool:
        end = self._buffer.find(_END, max(0, self._searched - len(_END)))
        self._searched = len(self._buffer)
        if end < 0:
            if len(self._buffer) > SIZE_LIMIT:
                self._buffer.clear()
                self._hang_up("552 5.3.4 the letter is too big")
            return False
        source = bytes(self._buffer[: end + 2]).replace(b"\r\n..", b"\r\n.")[2:]
        del self._buffer[: end + len(_END)]
        letter = Received(self._sender or "", tuple(self._recipients), source)
        self._in_data = False
        self._reset()
        self._keeping = asyncio.get_running_loop().create_task(self._acknowledge(letter))
        return False

    async def _acknowledge(self, letter: Received) -> None:
        try:
            name = await self._keep(letter)
        except Exception as error:  # noqa: BLE001 - logged; without an answer the sender would wait for minutes
            _log.warning("mailbox_cannot_keep", why=str(error), exc_info=not isinstance(error, KaskadError))
            self._say("451 4.3.0 cannot store it now")
        else:
            self._say(f"250 2.0.0 Ok: queued as {name}")
        self._keeping = None
        self._advance()


@asynccontextmanager
async def receiving(keep: Keep, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[tuple[str, int]]:
    """Listen while the block lasts; gives host and port. Open conversations are dropped at its end."""
    open_ones: set[Receiver] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Receiver(keep, open_ones), host, port)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        for receiver in list(open_ones):
            receiver.abort()
        await server.wait_closed()
