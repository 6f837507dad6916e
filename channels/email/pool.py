"""Connections to one SMTP server, opened when needed, kept while used, closed when idle."""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

from prometheus_client import Counter, Gauge

from channels.email.replies import is_about_session
from channels.email.settings import SmtpSettings
from channels.email.wire import Conversation, Lost, Refused
from core.errors import KaskadError, Misconfigured, Unavailable

_OPENED = Counter("kaskad_smtp_connections_opened", "SMTP connections opened", ["server"])
_OPEN = Gauge("kaskad_smtp_connections_open", "SMTP connections open now", ["server"])


class Pool:
    """At most `connections` conversations at a time; whoever asks longest gets the next one."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._free = asyncio.Semaphore(settings.options.connections)
        self._lent = 0
        self._idle: deque[Conversation] = deque()
        self._reaper: asyncio.TimerHandle | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None
        self._open = _OPEN.labels(str(settings))

    @asynccontextmanager
    async def lend(self, fresh: bool = False) -> AsyncIterator[Conversation]:
        """Lend a conversation that is ready for a letter; a new one if `fresh` or none is idle.

        Raises:
            Misconfigured: the server will never talk with us like this.
            Unavailable: it does not answer now.
        """
        async with self._free:
            self._lent += 1
            try:
                conversation = None if fresh else self._take_idle()
                if conversation is None:
                    self._make_room()
                    conversation = await self.connect()
                try:
                    yield conversation
                except BaseException:
                    self._drop(conversation)
                    raise
            finally:
                self._lent -= 1
            self._give_back(conversation)

    @property
    def has_idle(self) -> bool:
        """Whether a conversation lies ready."""
        return any(conversation.usable for conversation in self._idle)

    def _make_room(self) -> None:
        """Close idle conversations, the oldest first, until a new one is within the limit."""
        while self._idle and self._lent + len(self._idle) > self._settings.options.connections:
            self._drop(self._idle.popleft())

    def _take_idle(self) -> Conversation | None:
        while self._idle:
            conversation = self._idle.pop()
            if conversation.usable:
                return conversation
            self._drop(conversation)
        return None

    def _give_back(self, conversation: Conversation) -> None:
        if not conversation.usable:
            self._drop(conversation)
        elif conversation.letters >= self._settings.options.letters_per_connection:
            self._leave(conversation)
        else:
            conversation.idle_since = asyncio.get_running_loop().time()
            self._idle.append(conversation)
            self._watch()

    def _drop(self, conversation: Conversation) -> None:
        conversation.abort()
        self._open.dec()

    def _leave(self, conversation: Conversation) -> None:
        """Say good-bye without keeping anyone waiting."""
        self._open.dec()
        task = asyncio.get_running_loop().create_task(conversation.quit())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _watch(self) -> None:
        if self._reaper is None:
            loop = asyncio.get_running_loop()
            self._reaper = loop.call_later(self._settings.options.idle, self._reap)

    def _reap(self) -> None:
        """Close what was idle too long; the oldest stand at the left."""
        self._reaper = None
        now = asyncio.get_running_loop().time()
        while self._idle and now - self._idle[0].idle_since >= self._settings.options.idle * 0.9:
            self._leave(self._idle.popleft())
        if self._idle:
            self._watch()

    async def close(self) -> None:
        """Say good-bye on every idle connection."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        while self._idle:
            self._leave(self._idle.pop())
        await asyncio.gather(*self._leaving)

    async def connect(self) -> Conversation:
        """Open a conversation: connect, encrypt, say who we are, sign in.

        Raises:
            Misconfigured: wrong password, bad certificate, no encryption offered, or a server that refuses us for good.
            Unavailable: it does not answer, or says "not now".
        """
        conversation = Conversation()
        try:
            await self._begin(conversation)
        except BaseException as error:
            conversation.abort()
            known = _in_words(error, self._settings)
            if known is None:
                raise
            raise known from error
        _OPENED.labels(str(self._settings)).inc()
        self._open.inc()
        return conversation

    async def _begin(self, conversation: Conversation) -> None:
        settings, timeout = self._settings, self._settings.options.timeout
        loop = asyncio.get_running_loop()
        if self._tls is None and settings.scheme != "smtp":
            self._tls = settings.tls()
        direct = settings.scheme == "smtps"
        async with asyncio.timeout(timeout):
            transport, _ = await loop.create_connection(
                lambda: conversation,
                settings.host,
                settings.port,
                ssl=self._tls if direct else None,
                server_hostname=settings.host if direct else None,
                ssl_handshake_timeout=timeout if direct else None,
            )
        name = settings.options.name or own_name(transport.get_extra_info("sockname"))
        await conversation.greet(name, timeout)
        if settings.scheme == "smtp+starttls":
            assert self._tls is not None  # noqa: S101 - made above
            await conversation.start_tls(self._tls, settings.host, timeout)
            await conversation.hello(name, timeout)
        if settings.user:
            await conversation.log_in(settings.user, settings.password.get_secret_value(), timeout)


def own_name(address: tuple[str, int]) -> str:
    """What to say in EHLO: the machine's full name, or its address as a literal (RFC 5321, section 4.1.4)."""
    name = socket.gethostname()
    if "." in name and name.isascii():
        return name
    ip = ip_address(address[0].partition("%")[0])
    return f"[IPv6:{ip}]" if ip.version == 6 else f"[{ip}]"


def _in_words(error: BaseException, settings: SmtpSettings) -> KaskadError | None:
    """What a failed beginning means to the operator; None for what is no failure of the server (a cancellation)."""
    match error:
        case Refused():
            lasting = error.reply.code >= 500 or is_about_session(error.reply)
            kind = Misconfigured if lasting else Unavailable
            return kind(f"{settings} refuses us at {error}")
        case Lost():
            return Unavailable(f"{settings}: {error}")
        case UnicodeError():
            return Misconfigured(f"{settings.host!r} cannot be the name of a server")
        case OSError():
            return _network_failure(error, settings)
        case _:
            return None


def _network_failure(error: OSError, settings: SmtpSettings) -> KaskadError:
    match error:
        case ssl.SSLCertVerificationError():
            return Misconfigured(
                f"the certificate of {settings} cannot be trusted: {error.verify_message} "
                "(ca=FILE names the authority; verify=no switches the check off)"
            )
        case ssl.SSLError():
            return Unavailable(f"{settings} cannot agree with us on encryption: {error.reason or error}")
        case socket.gaierror():
            return Unavailable(f"the name {settings.host} cannot be resolved: {error.strerror}")
        case TimeoutError():
            return Unavailable(f"{settings} does not answer within {settings.options.timeout:g} s")
        case _:
            return Unavailable(f"{settings} cannot be reached: {error.strerror or error}")
