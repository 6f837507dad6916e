"""SMTP servers that behave as a test tells them to."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HANG = "<hang>"
DROP = "<drop>"
HALF = "<half>"
"""Close our side and go on listening."""
EHLO = "250-test\r\n250-PIPELINING\r\n250-SIZE 200000\r\n250 8BITMIME"


_USUAL = {
    "EHLO": EHLO,
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go",
    "END": "250 2.0.0 Ok: queued as Q1",
    "RSET": "250 ok",
    "QUIT": "221 bye",
}


@dataclass
class Script:
    """What a scripted server says to each verb; END is the final dot. A callable is given the line."""

    answers: dict[str, str | Callable[[str], str]] = field(default_factory=dict)
    greeting: str = "220 test ESMTP"
    letters: list[bytes] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    connections: int = 0
    drop_after_bytes: int | None = None
    """Close the connection after so many bytes of a letter."""
    deaf: bool = False
    """Read nothing of a letter."""

    def answer(self, verb: str, line: str) -> str:
        """The words for one command."""
        said = self.answers.get(verb, _USUAL.get(verb, "502 what?"))
        return said if isinstance(said, str) else said(line)


class _Dropped(Exception):
    pass


async def _say(writer: asyncio.StreamWriter, words: str) -> None:
    if words == HANG:
        await asyncio.Event().wait()
    if words == HALF:
        writer.write_eof()
        await asyncio.Event().wait()
    if words == DROP:
        raise _Dropped
    writer.write(words.encode("latin-1") + b"\r\n")
    await writer.drain()


async def _read_letter(script: Script, reader: asyncio.StreamReader) -> bytes:
    letter = b""
    if script.deaf:
        await asyncio.Event().wait()
    while not letter.endswith(b"\r\n.\r\n") and letter != b".\r\n":
        letter += await reader.readline()
        if script.drop_after_bytes is not None and len(letter) >= script.drop_after_bytes:
            raise _Dropped
        if reader.at_eof():
            raise _Dropped
    return letter


async def _converse(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    script.connections += 1
    await _say(writer, script.greeting)
    while line := (await reader.readline()).decode().rstrip("\r\n"):
        script.lines.append(line)
        verb = line.split()[0].upper()
        words = script.answer(verb, line)
        await _say(writer, words)
        if verb == "DATA" and words.startswith("354"):
            letter = await _read_letter(script, reader)
            await _say(writer, script.answer("END", ""))
            script.letters.append(letter)
        if verb == "QUIT":
            return


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[int]:
    """Run a scripted server; gives its port."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _converse(script, reader, writer)
        except (_Dropped, ConnectionError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**20)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@dataclass
class Handler:
    """An aiosmtpd handler that keeps what it gets."""

    letters: list[tuple[str, list[str], bytes]] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        """Keep a letter."""
        self.letters.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return f"250 2.0.0 Ok: queued as A{len(self.letters)}"


def knows(user: bytes, password: bytes) -> Callable[..., AuthResult]:
    """An authenticator with one user."""

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (user, password)
        return AuthResult(success=right, handled=False)

    return authenticate


@asynccontextmanager
async def real(handler: Handler, direct_tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[int]:
    """Run aiosmtpd in this loop; gives its port."""
    loop = asyncio.get_running_loop()
    made: list[SMTP] = []

    def factory() -> SMTP:
        made.append(SMTP(handler, loop=loop, hostname="test.example", **options))
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=direct_tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in made:
            # Python 3.11.2 cannot abort a TLS connection that is closed.
            if isinstance(one.transport, asyncio.Transport) and not one.transport.is_closing():
                one.transport.abort()
        await server.wait_closed()
        await asyncio.gather(
            *[one._handler_coroutine for one in made if one._handler_coroutine], return_exceptions=True
        )


def certificate(folder: Path, names: Sequence[str] = ("localhost",)) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context with a self-signed certificate, and the certificate's file for `ca=`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    at = datetime.now(UTC)
    alternatives = [x509.DNSName(one) for one in names] + [x509.IPAddress(ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(days=1))
        .not_valid_after(at + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    return context, cert_file
