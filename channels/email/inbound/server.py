"""The SMTP server that bounces and replies come to from anywhere: for our own addresses only, bounded in everything.

It relays nothing and knows no users. A recipient whose signature does not hold is refused at RCPT, so that spam costs
a few lines of talk; a letter is acknowledged when its reports are committed.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from channels.email.inbound.letters import Incoming
from channels.email.inbound.taking import Inbox
from core.clock import now
from core.errors import KaskadError, Misconfigured
from core.settings import Settings

CONNECTIONS_LIMIT = 100
_CALLS = {"*": 200, "NOOP": 20, "RSET": 20, "VRFY": 5, "EXPN": 5}
_RECIPIENTS = 50
_SILENCE = 60.0
_LONGEST = 600.0
_log = structlog.get_logger()


class _Handler:
    """What aiosmtpd asks while it talks."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Only addresses that this installation made. Feedback reports and postmaster come to a mailbox instead."""
        if len(envelope.rcpt_tos) >= _RECIPIENTS:
            return "452 4.5.3 too many recipients"
        if self._inbox.addresses.read(address) is None:
            return "550 5.1.1 no such address here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Take the letter; the answer tells the other side whether it may forget it."""
        content = envelope.original_content or b""
        try:
            await self._inbox.take(Incoming(content, now(), tuple(envelope.rcpt_tos)))
        except KaskadError as error:
            _log.warning("mail_not_taken", why=str(error))
            return "451 4.3.0 cannot store it now, come again"
        return "250 2.0.0 Ok"

    async def handle_exception(self, error: Exception) -> str:
        """A defect of ours loses no letter and says nothing about us: by itself aiosmtpd would refuse for good."""
        _log.error("mail_not_taken", exc_info=error)
        return "451 4.3.0 cannot take it now, come again"


@asynccontextmanager
async def serving(inbox: Inbox, settings: Settings) -> AsyncIterator[tuple[str, int]]:
    """Take mail while the block lasts; gives host and port. Several workers of a machine share the port.

    Raises:
        Misconfigured: the certificate or the port cannot be used.
    """
    tls = _tls(settings)
    talks: set[_Talk] = set()
    handler = _Handler(inbox)

    def talk() -> _Talk:
        return _Talk(
            talks,
            handler,
            hostname=inbox.addresses.domain,
            ident="Kaskad",
            data_size_limit=settings.inbound_bytes_limit,
            enable_SMTPUTF8=True,
            tls_context=tls,
            timeout=_SILENCE,
            command_call_limit=_CALLS,
            loop=asyncio.get_running_loop(),
        )

    try:
        server = await asyncio.get_running_loop().create_server(
            talk, settings.inbound_host, settings.inbound_port, reuse_port=True
        )
    except OSError as error:
        where = f"{settings.inbound_host}:{settings.inbound_port}"
        raise Misconfigured(f"cannot take mail at {where}: {error.strerror or error}") from error
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        for one in list(talks):
            one.abort()
        await server.wait_closed()


class _Talk(SMTP):
    """One conversation, with an end: however slowly the other side talks, and however many there are."""

    def __init__(self, talks: "set[_Talk]", handler: _Handler, **options: Any) -> None:
        super().__init__(handler, **options)
        self._talks = talks
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, unless there are too many."""
        if len(self._talks) >= CONNECTIONS_LIMIT and self not in self._talks:
            if isinstance(transport, asyncio.WriteTransport):
                transport.write(b"421 4.3.2 too busy, come again\r\n")
            transport.close()
            return
        self._talks.add(self)
        if self._end is None:
            self._end = asyncio.get_running_loop().call_later(_LONGEST, self.abort)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        if self not in self._talks:
            return
        self._talks.discard(self)
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(error)

    def abort(self) -> None:
        """Drop the connection at once."""
        if isinstance(self.transport, asyncio.WriteTransport):
            with suppress(AttributeError):  # of Python 3.11.2, when an encrypted one was closed twice and is on its way
                self.transport.abort()


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.inbound_tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.inbound_tls_cert, settings.inbound_tls_key)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"KASKAD_INBOUND_TLS_CERT cannot be used: {error}") from error
    return context
