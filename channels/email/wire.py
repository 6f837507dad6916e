"""One SMTP conversation (RFC 5321), lean enough for thousands of letters a second.

Where the server allows it, MAIL, RCPT and DATA go out together (RFC 2920): a letter costs two round trips instead
of four. And the conversation always knows whether the end of the letter has left us, which is the difference between
a letter that was surely not taken and one in doubt. Neither is to be had from a general SMTP library.
"""

import asyncio
import base64
import re
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

_LINE_LIMIT = 4096  # RFC 5321 allows 512; some servers are talkative
_REPLY_LINES = 200
_PIECE = 65_536
_REPLY = re.compile(rb"([2-5]\d\d)([ -]?)(.*)", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said: a code, and the text of each line."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """All lines as one."""
        return " ".join(self.lines)

    @property
    def good(self) -> bool:
        """A positive completion."""
        return 200 <= self.code < 300

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 3463), or nothing."""
        match = _ENHANCED.match(self.lines[0])
        return match[1] if match else ""

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Lost(Exception):
    """The conversation ended: closed by the server, timed out, or no longer SMTP."""


class Refused(Exception):
    """The server answered, and the answer was no."""

    def __init__(self, reply: Reply, at: str) -> None:
        super().__init__(f"{at}: {reply}")
        self.reply = reply
        self.at = at


@dataclass(frozen=True, slots=True)
class Envelope:
    """Sender and recipient as MAIL and RCPT want them."""

    sender: str
    recipient: str
    utf8: bool = False


class Conversation(asyncio.Protocol):
    """A connection to an SMTP server. One transaction at a time."""

    def __init__(self) -> None:
        self.extensions: dict[str, str] = {}
        self.letters = 0
        self.idle_since = 0.0
        self.body_left = False
        """Whether the end of the present letter was given to the network."""
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._lines: list[str] = []
        self._replies: deque[Reply] = deque()
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._paused = False
        self._lost: Lost | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour only

    def data_received(self, data: bytes) -> None:
        """Cut the stream into replies and wake whoever waits for them."""
        data = self._received + data
        *lines, self._received = data.split(b"\n")
        for line in lines:
            self._take_line(line)
        if len(self._received) > _LINE_LIMIT:
            self._break("the server's line is too long")
        self._wake()

    def _take_line(self, line: bytes) -> None:
        match = _REPLY.fullmatch(line.rstrip(b"\r"))
        if match is None or len(self._lines) > _REPLY_LINES or len(line) > _LINE_LIMIT:
            self._break(f"the server's answer is not SMTP: {line[:80]!r}")
            return
        self._lines.append(match[3].decode("utf-8", "replace"))
        if match[2] != b"-":
            self._replies.append(Reply(int(match[1]), tuple(self._lines)))
            self._lines = []

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        why = f"the connection was lost: {error}" if error else "the server closed the connection"
        if self._replies:
            why += f"; its last words: {self._replies[-1]}"
        self._fail(Lost(why))

    def pause_writing(self) -> None:
        """The network is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """The network takes more."""
        self._paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def _break(self, why: str) -> None:
        self._fail(Lost(why))
        self.abort()

    def _fail(self, lost: Lost) -> None:
        if self._lost is None:
            self._lost = lost
        for waiter in (self._waiter, self._writable):
            if waiter is not None and not waiter.done():
                waiter.set_exception(self._lost)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done() and len(self._replies) >= self._wanted:
            self._waiter.set_result(None)

    # What the client calls

    @property
    def usable(self) -> bool:
        """Whether a letter may be tried on it: nobody closed it, and no unasked reply lies there (421 before close)."""
        return self._lost is None and not self._replies and not self._received

    def abort(self) -> None:
        """Drop the connection at once; nothing can be said on it afterwards."""
        self._fail(Lost("we closed the connection"))
        if self._transport is not None:
            self._transport.abort()

    def say(self, *commands: str) -> None:
        """Write commands in one go."""
        self._write("".join([f"{command}\r\n" for command in commands]).encode())

    def _write(self, data: bytes) -> None:
        if self._lost is not None:
            raise self._lost
        assert self._transport is not None  # noqa: S101 - set before anyone holds the conversation
        self._transport.write(data)

    async def replies(self, count: int, timeout: float) -> list[Reply]:  # noqa: ASYNC109 - it becomes Lost here
        """Wait for so many replies.

        Raises:
            Lost: the connection went away first, the server talked nonsense, or `timeout` seconds passed.
        """
        if len(self._replies) < count:
            if self._lost is not None:
                raise self._lost
            loop = asyncio.get_running_loop()
            self._wanted, self._waiter = count, loop.create_future()
            timer = loop.call_later(timeout, self._time_out, timeout)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return [self._replies.popleft() for _ in range(count)]

    def _time_out(self, seconds: float) -> None:
        self._break(f"no answer within {seconds:g} s")

    async def ask(self, command: str, timeout: float) -> Reply:  # noqa: ASYNC109 - see replies
        """Say one command and wait for its reply."""
        self.say(command)
        return (await self.replies(1, timeout))[0]

    # The beginning

    async def greet(self, name: str, timeout: float) -> None:  # noqa: ASYNC109 - see replies
        """Read the greeting and say EHLO, or HELO to a server that does not know it.

        Raises:
            Refused: the server does not want to talk with us.
            Lost: it went away.
        """
        (greeting,) = await self.replies(1, timeout)
        if not greeting.good:
            raise Refused(greeting, "greeting")
        await self.hello(name, timeout)

    async def hello(self, name: str, timeout: float) -> None:  # noqa: ASYNC109 - see replies
        """Say EHLO and learn the server's extensions; again after STARTTLS."""
        reply = await self.ask(f"EHLO {name}", timeout)
        if reply.good:
            self.extensions = _extensions(reply)
            return
        self.extensions = {}
        reply = await self.ask(f"HELO {name}", timeout)
        if not reply.good:
            raise Refused(reply, "HELO")

    async def start_tls(self, context: ssl.SSLContext, host: str, timeout: float) -> None:  # noqa: ASYNC109
        """Encrypt the connection (RFC 3207).

        Raises:
            Refused: the server does not offer it or says no.
            Lost: it went away, or sent something before encryption began that was meant to be taken for encrypted.
            ssl.SSLError: no common version, or a certificate that cannot be trusted.
        """
        if "STARTTLS" not in self.extensions:
            raise Refused(Reply(502, ("STARTTLS is not offered",)), "STARTTLS")
        reply = await self.ask("STARTTLS", timeout)
        if reply.code != 220:
            raise Refused(reply, "STARTTLS")
        if self._replies or self._received:
            self._break("the server talked before encryption began")
            raise Lost("the server talked before encryption began")
        assert self._transport is not None  # noqa: S101 - it has just answered
        loop = asyncio.get_running_loop()
        secure = await loop.start_tls(
            self._transport, self, context, server_hostname=host, ssl_handshake_timeout=timeout
        )
        if secure is None:
            raise Lost("the server closed the connection")
        self._transport = secure

    async def log_in(self, user: str, password: str, timeout: float) -> None:  # noqa: ASYNC109 - see replies
        """Authenticate (RFC 4954) by PLAIN, or LOGIN where that is all there is.

        Raises:
            Refused: the server knows neither, or not this user and password.
        """
        mechanisms = self.extensions.get("AUTH", "").upper().split()
        if "PLAIN" in mechanisms:
            reply = await self.ask(f"AUTH PLAIN {_base64(f'{chr(0)}{user}{chr(0)}{password}')}", timeout)
        elif "LOGIN" in mechanisms:
            reply = await self.ask("AUTH LOGIN", timeout)
            for answer in (user, password):
                if reply.code != 334:
                    break
                reply = await self.ask(_base64(answer), timeout)
        else:
            raise Refused(Reply(504, ("neither AUTH PLAIN nor AUTH LOGIN is offered",)), "AUTH")
        if not reply.good:
            raise Refused(reply, "AUTH")

    # A letter

    async def open_letter(self, envelope: Envelope, size: int, timeout: float) -> None:  # noqa: ASYNC109
        """MAIL, RCPT and DATA, up to the server's go-ahead.

        Raises:
            Refused: it does not want this letter; the conversation is ready for the next one.
            Lost: the conversation is over.
        """
        self.body_left = False
        commands = (self._mail(envelope, size), f"RCPT TO:<{envelope.recipient}>", "DATA")
        if "PIPELINING" in self.extensions:
            self.say(*commands)
            answers = await self.replies(3, timeout)
        else:
            answers = []
            for command in commands:
                answers.append(await self.ask(command, timeout))
                if not answers[-1].good:
                    break
        await self._agree(answers, timeout)

    def _mail(self, envelope: Envelope, size: int) -> str:
        command = f"MAIL FROM:<{envelope.sender}>"
        if "SIZE" in self.extensions:
            command += f" SIZE={size}"
        if envelope.utf8:
            command += " BODY=8BITMIME SMTPUTF8"
        return command

    async def _agree(self, answers: Sequence[Reply], timeout: float) -> None:  # noqa: ASYNC109 - see replies
        """Find the answer that counts; leave the conversation clean if that is a refusal."""
        for answer, at in zip(answers, ("MAIL", "RCPT", "DATA"), strict=False):
            if not answer.good and not (at == "DATA" and answer.code == 354):
                await self._abandon(answers[-1], timeout)
                raise Refused(answer, at)
        if answers[-1].code != 354:
            self._break(f"an unexpected answer to DATA: {answers[-1]}")
            raise Lost(f"an unexpected answer to DATA: {answers[-1]}")

    async def _abandon(self, last: Reply, timeout: float) -> None:  # noqa: ASYNC109 - see replies
        """End a transaction that was refused; after a stray go-ahead nothing but an empty letter ends it (RFC 2920)."""
        if last.code == 421 or self._lost is not None:
            self.abort()
            return
        try:
            await self.ask("." if last.code == 354 else "RSET", timeout)
        except Lost:
            self.abort()

    async def send_body(self, pieces: Sequence[bytes], timeout: float, answer_within: float) -> Reply:  # noqa: ASYNC109
        """Send the letter, dot-stuffed already, and wait for the word on it.

        Args:
            pieces: the whole letter, ending with CRLF.
            timeout: how long the network may stand still while we write.
            answer_within: how long the server may think after the final dot.

        Raises:
            Lost: the conversation is over; `body_left` tells whether the letter is in doubt.
        """
        data = b"".join([*pieces, b".\r\n"])
        end = len(data) - 3
        start = 0
        while end - start > _PIECE:
            self._write(data[start : start + _PIECE])
            start += _PIECE
            await self._flushed(timeout)
        self._write_last(data[start:])
        reply = (await self.replies(1, answer_within))[0]
        self.letters += 1
        if reply.code == 421 or (reply.code < 400 and not reply.good):
            self.abort()
        return reply

    def _write_last(self, data: bytes) -> None:
        self._write(data)
        self.body_left = True

    async def _flushed(self, timeout: float) -> None:  # noqa: ASYNC109 - see replies
        if not self._paused:
            return
        loop = asyncio.get_running_loop()
        self._writable = loop.create_future()
        timer = loop.call_later(timeout, self._time_out, timeout)
        try:
            await self._writable
        finally:
            timer.cancel()
            self._writable = None

    async def quit(self, timeout: float = 2) -> None:  # noqa: ASYNC109 - see replies
        """Say good-bye and close."""
        try:
            if self.usable:
                await self.ask("QUIT", timeout)
        except Lost:
            pass
        finally:
            self.abort()


def _extensions(reply: Reply) -> dict[str, str]:
    """Keywords and their parameters from the answer to EHLO; its first line is the server's name."""
    words = [line.strip().partition(" ") for line in reply.lines[1:]]
    return {keyword.upper(): parameters for keyword, _, parameters in words}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
