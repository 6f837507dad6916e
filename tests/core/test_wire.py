"""HTTP over TLS: to whom it is spoken, and on which connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from core.outbound import Caller, NoAnswer
from core.wire import Answered, Wire, request_of, retry_after
from tests.channels.email.servers import certificate

NAME = "shop.example"
REQUEST = request_of("POST", "/x", {"host": NAME}, b"hello")
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nthere"


@dataclass
class Secure:
    """An HTTPS server that keeps what came to it."""

    port: int = 0
    names: list[str | None] = field(default_factory=list)
    """By which it was asked for, one a connection (RFC 6066)."""
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each request of a connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head + await reader.readexactly(5))
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def secure(folder: Path) -> AsyncIterator[Secure]:
    """A server with a certificate for NAME."""
    one = Secure()
    context, _ = certificate(folder, [NAME])
    context.sni_callback = lambda _socket, name, _context: one.names.append(name)
    listening = await asyncio.start_server(one.serve, "127.0.0.1", 0, ssl=context)
    one.port = listening.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        listening.close()
        await listening.wait_closed()


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the certificate that this machine trusts, and no other."""
    (tmp_path / "trusted").mkdir()
    _, file = certificate(tmp_path / "trusted", [NAME])
    monkeypatch.setattr("core.wire.certifi.where", lambda: str(file))
    return tmp_path / "trusted"


@asynccontextmanager
async def wired() -> AsyncIterator[Wire]:
    wire = Wire(1000, 4)
    try:
        yield wire
    finally:
        await wire.close()


async def ask(wire: Wire, tls: bool, host: str, port: int) -> Answered:
    return await wire.ask(await wire.line(tls, host, "127.0.0.1", port), REQUEST)


async def test_one_connection_carries_requests_to_the_name_that_its_certificate_is_for(trusted: Path) -> None:
    async with secure(trusted) as server, wired() as wire:
        for _ in range(3):
            answer = await ask(wire, True, NAME, server.port)
            assert (answer.status, bytes(answer.body)) == (200, b"there")
    assert server.requests == [REQUEST] * 3
    assert server.names == [NAME]  # one handshake, by that name


async def test_a_connection_without_encryption_is_not_used_for_one_with_it(trusted: Path) -> None:
    async with secure(trusted) as server, wired() as wire:
        with pytest.raises(ConnectionError):
            await ask(wire, False, NAME, server.port)
        assert (await ask(wire, True, NAME, server.port)).status == 200
    assert server.requests == [REQUEST]


async def test_nothing_is_said_to_another_name(trusted: Path) -> None:
    async with secure(trusted) as server, wired() as wire:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await ask(wire, True, "bank.example", server.port)
    assert server.requests == []


@pytest.mark.usefixtures("trusted")
async def test_nothing_is_said_to_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    async with secure(tmp_path) as server, wired() as wire:
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(wire, True, NAME, server.port)
    assert server.requests == []


@pytest.mark.usefixtures("trusted")
async def test_outbound_calls_say_that_there_was_no_answer(tmp_path: Path) -> None:
    caller = Caller(allow_private=True)
    async with secure(tmp_path) as server:
        with pytest.raises(NoAnswer, match="SSLCertVerificationError"):
            await caller.call("POST", f"https://127.0.0.1:{server.port}/x", {}, b"hello", 5)
    await caller.close()
    assert server.requests == []


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("17", 17), ("0.5", 0.5), ("", None), ("soon", None), ("-3", None), ("9" * 400, None), ("²", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
    ],
)  # fmt: skip
def test_how_long_an_answer_asks_us_to_wait(said: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": said}) == (None if seconds is None else timedelta(seconds=seconds))


def test_a_wait_may_be_a_date() -> None:
    asked = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)})
    assert asked is not None
    assert timedelta(minutes=4) < asked <= timedelta(minutes=5)
