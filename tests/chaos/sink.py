"""An SMTP server that remembers every letter it took, and that breaks conversations now and then.

Written by hand, because libraries do not break where it hurts: before DATA, in the middle of it, and after the last
dot but before the answer, when the letter is here and the sender cannot know.
"""

import asyncio
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self
from uuid import UUID

Fault = Literal["hang_up", "cut", "swallow", "later", "never"]
FAULTS: dict[Fault, str] = {
    "hang_up": "connection dropped before DATA",
    "cut": "connection dropped within DATA",
    "swallow": "letter taken, connection dropped before the answer",
    "later": "451 after the letter",
    "never": "550 for the recipient",
}
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([0-9a-f-]{36})@", re.IGNORECASE | re.MULTILINE)
_LETTER_LIMIT = 4 << 20


@dataclass(frozen=True)
class Taken:
    """A letter whose last dot arrived."""

    recipient: str
    answered: bool
    """Whether we said 250; False where the connection was dropped instead."""


@dataclass
class Sink:
    """The server and what came to it. `chances` says how often each fault happens, per letter."""

    dice: random.Random
    chances: Mapping[Fault, float] = field(default_factory=dict)
    letters: dict[UUID, list[Taken]] = field(default_factory=lambda: defaultdict(list))
    faults: Counter[Fault] = field(default_factory=Counter)
    strange: list[bytes] = field(default_factory=list)
    """The beginning of letters without a message id."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LETTER_LIMIT)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def _fault(self) -> Fault | None:
        point = self.dice.random()
        for fault, chance in self.chances.items():
            point -= chance
            if point < 0:
                self.faults[fault] += 1
                return fault
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side was killed, which is what this is all about
        finally:
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault: Fault | None = None
        recipient = ""
        writer.write(b"220 sink ESMTP\r\n")
        while line := await reader.readline():
            word = line[:4].upper()
            if word == b"EHLO":
                writer.write(b"250-sink\r\n250-PIPELINING\r\n250-SIZE 4000000\r\n250 SMTPUTF8\r\n")
            elif word == b"MAIL":
                fault, recipient = self._fault(), ""
                if fault == "hang_up":
                    return
                writer.write(b"250 2.1.0 ok\r\n")
            elif word == b"RCPT":
                if fault == "never":
                    writer.write(b"550 5.1.1 no such mailbox\r\n")
                else:
                    recipient = line.partition(b"<")[2].partition(b">")[0].decode()
                    writer.write(b"250 2.1.5 ok\r\n")
            elif word == b"DATA":
                if not recipient:
                    writer.write(b"554 5.5.1 no valid recipients\r\n")
                    continue
                writer.write(b"354 go on\r\n")
                await writer.drain()
                if not await self._letter(reader, writer, recipient, fault):
                    return
            elif word == b"QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                await writer.drain()
                return
            else:
                writer.write(b"250 2.0.0 ok\r\n")
            await writer.drain()

    async def _letter(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, recipient: str, fault: Fault | None
    ) -> bool:
        """Read a letter and answer it; False to drop the connection."""
        if fault == "cut":
            await reader.readexactly(100)
            return False
        letter = await reader.readuntil(b"\r\n.\r\n")
        if fault == "later":
            writer.write(b"451 4.3.0 try again\r\n")
            return True
        found = _MESSAGE_ID.search(letter)
        if found is None:
            self.strange.append(letter[:500])
        else:
            self.letters[UUID(found[1].decode())].append(Taken(recipient, fault != "swallow"))
        if fault == "swallow":
            return False
        writer.write(b"250 2.0.0 taken\r\n")
        return True
