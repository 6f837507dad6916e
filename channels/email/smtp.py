"""The SMTP provider: a batch of letters over a pool of kept connections, and one receipt for each."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import prometheus_client
import structlog

from channels.email import addresses, mime, replies
from channels.email.dkim import Draft, Signer
from channels.email.pool import Pool
from channels.email.settings import SmtpSettings
from channels.email.wire import Conversation, Envelope, Lost, Refused
from channels.provider import Letter, Outcome, Receipt
from core.clock import now
from core.errors import InvalidInput, KaskadError, Misconfigured, Unavailable

_CHUNK = 16
_AHEAD = 64
_STRIKES = 2

_log = structlog.get_logger()
_RECEIPTS = prometheus_client.Counter("kaskad_smtp_receipts", "Letters handed to SMTP, by receipt", ["outcome"])


class _LostLetter(Exception):
    """A conversation that ended over a letter, and the letter's receipt."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        wait = replies.SOON if outcome is Outcome.DEFERRED else None
        self.receipt = Receipt(outcome, reason=reason, retry_after=wait)


@dataclass(slots=True)
class _Job:
    """A letter on its way through one call of `hand_over`: `head` and `body` as they go on the wire."""

    index: int
    envelope: Envelope
    head: bytes
    body: bytes
    drafts: list[Draft]
    signatures: bytes = b""

    @property
    def size(self) -> int:
        """Octets to be sent; a few more than RFC 1870 counts, for doubled dots."""
        return len(self.signatures) + len(self.head) + len(self.body)


class _Batch:
    """The letters of one call: those made and ready, and what became of each."""

    def __init__(self, letters: Sequence[Letter]) -> None:
        self.letters = letters
        self.failure: KaskadError | None = None
        self._receipts: list[Receipt | None] = [None] * len(letters)
        self._ready: deque[_Job] = deque()
        self._coming = True
        self._takers: deque[asyncio.Future[None]] = deque()
        self._room = asyncio.Event()
        self._room.set()

    async def take(self) -> _Job | None:
        """The next job; None when none will come any more."""
        while not self._ready:
            if not self._coming:
                return None
            taker = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            await taker
        job = self._ready.popleft()
        if len(self._ready) < _AHEAD:
            self._room.set()
        return job

    def put(self, jobs: Sequence[_Job]) -> None:
        """Jobs that may leave now."""
        self._ready.extend(jobs)
        if len(self._ready) >= _AHEAD:
            self._room.clear()
        self._wake(len(jobs))

    def made(self) -> None:
        """The maker is done."""
        self._coming = False
        self._wake(len(self._takers))

    async def room(self) -> None:
        """Wait until fewer than _AHEAD jobs lie ready."""
        await self._room.wait()

    def _wake(self, count: int) -> None:
        while count and self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                count -= 1

    def settle(self, index: int, receipt: Receipt) -> None:
        """Write down what became of a letter."""
        self._receipts[index] = receipt
        _RECEIPTS.labels(receipt.outcome.value).inc()

    def settled(self) -> list[Receipt]:
        """All receipts. A letter that has none was not tried, because of `failure`."""
        for index, receipt in enumerate(self._receipts):
            if receipt is None:
                self.settle(index, _untried(self.failure))
        return [receipt for receipt in self._receipts if receipt is not None]


def _untried(failure: KaskadError | None) -> Receipt:
    wait = replies.LATER if isinstance(failure, Misconfigured) else replies.SOON
    return Receipt(Outcome.DEFERRED, reason=str(failure or "not tried"), retry_after=wait)


class SmtpProvider:
    """Hands letters to one SMTP server. See docs/email.md for what each reply becomes."""

    def __init__(self, settings: SmtpSettings, signer: Signer | None = None) -> None:
        """Make it without connecting.

        Args:
            settings: where to connect and how.
            signer: signs every letter, if given.
        """
        self._settings = settings
        self._signer = signer
        self._pool: Pool | None = None
        path = settings.options.return_path
        self._return_path = addresses.parse(path).spec if path else None
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="dkim") if signer else None

    async def hand_over(self, letters: Sequence[Letter]) -> list[Receipt]:
        """Hand the letters over and give one receipt each, in the same order.

        A server that cannot be reached or used makes DEFERRED receipts; nothing is raised for that.
        """
        batch = _Batch(letters)
        width = min(self._settings.options.connections, len(letters))
        async with asyncio.TaskGroup() as tasks:
            maker = tasks.create_task(self._make_all(batch))
            senders = [tasks.create_task(self._send_all(batch)) for _ in range(width)]
            if senders:
                await asyncio.wait(senders)
            maker.cancel()
        if batch.failure is not None:
            _log.warning("smtp_not_all_tried", server=str(self._settings), why=str(batch.failure))
        return batch.settled()

    async def check(self) -> None:
        """Connect, encrypt and sign in.

        Raises:
            Misconfigured: the settings cannot work, said in words.
            Unavailable: the server does not answer now.
        """
        async with self._connections().lend(fresh=True):
            pass

    async def close(self) -> None:
        """Give the connections back."""
        if self._pool is not None:
            await self._pool.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    def _connections(self) -> Pool:
        """The pool; made by the loop that uses it."""
        if self._pool is None:
            self._pool = Pool(self._settings)
        return self._pool

    # Making letters

    async def _make_all(self, batch: _Batch) -> None:
        """Build and sign in chunks, a little ahead of the senders."""
        try:
            for start in range(0, len(batch.letters), _CHUNK):
                await batch.room()
                at = now()
                indexes = range(start, min(start + _CHUNK, len(batch.letters)))
                jobs = [job for index in indexes if (job := self._made(batch, index, at)) is not None]
                await self._sign(jobs)
                batch.put(jobs)
        except KaskadError as error:
            batch.failure = error
        finally:
            batch.made()

    def _made(self, batch: _Batch, index: int, at: datetime) -> _Job | None:
        try:
            letter = batch.letters[index]
            built = mime.build(letter, at)
            sender = self._return_path or letter.return_path or built.sender.spec
            envelope = Envelope(sender, built.recipient.spec, built.needs_utf8)
            drafts = self._signer.draft(built.fields, built.body, at) if self._signer else []
            return _Job(index, envelope, built.head(), _stuffed(built.body), drafts)
        except InvalidInput as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - one letter's defect, logged and in its receipt
            _log.exception("letter_not_made", server=str(self._settings), message=str(batch.letters[index].message_id))
            why = f"the letter cannot be made: {type(error).__name__}: {error}"
        batch.settle(index, Receipt(Outcome.REJECTED, reason=why))
        return None

    async def _sign(self, jobs: Sequence[_Job]) -> None:
        if self._threads is not None:
            await asyncio.get_running_loop().run_in_executor(self._threads, _seal, jobs)

    # Sending

    async def _send_all(self, batch: _Batch) -> None:
        """Send what is ready until nothing comes any more, or no connection can be had or kept.

        A server that falls silent would put every further letter in doubt, so after _STRIKES this sender stops.
        """
        pool = self._connections()
        strikes = 0
        while (job := await batch.take()) is not None:
            try:
                receipt = await self._send(pool, job)
            except KaskadError as error:
                batch.failure = error
                batch.put([job])
                if not pool.has_idle:
                    return
                continue
            except _LostLetter as lost:
                batch.settle(job.index, lost.receipt)
                strikes += 1
                if strikes == _STRIKES:
                    batch.failure = Unavailable(f"{self._settings} loses connections: {lost.receipt.reason}")
                    return
                continue
            strikes = 0
            batch.settle(job.index, receipt)

    async def _send(self, pool: Pool, job: _Job) -> Receipt:
        """Send one letter; a second time where a kept connection turned out to be dead before the letter left.

        Raises:
            _LostLetter: the connection went away over it.
            Misconfigured, Unavailable: there is no connection; the letter was not tried.
        """
        for fresh in (False, True):
            async with pool.lend(fresh) as conversation:
                kept = conversation.letters > 0
                try:
                    return await self._converse(conversation, job)
                except Lost as lost:
                    if conversation.body_left:
                        raise _LostLetter(Outcome.UNKNOWN, f"{lost}, after the letter had left") from lost
                    if not kept:
                        raise _LostLetter(Outcome.DEFERRED, str(lost)) from lost
        raise AssertionError("a fresh connection is never a kept one")

    async def _converse(self, conversation: Conversation, job: _Job) -> Receipt:
        hindrance = _hindrance(conversation, job)
        if hindrance:
            return Receipt(Outcome.REJECTED, reason=hindrance)
        options = self._settings.options
        try:
            await conversation.open_letter(job.envelope, job.size, options.timeout)
        except Refused as refused:
            return replies.of_refusal(refused.reply, refused.at)
        pieces = (job.signatures, job.head, job.body)
        return replies.of_answer(await conversation.send_body(pieces, options.timeout, options.answer))


def _hindrance(conversation: Conversation, job: _Job) -> str:
    """Why this server cannot take this letter, as it said itself at the beginning."""
    if job.envelope.utf8 and "SMTPUTF8" not in conversation.extensions:
        return "the server takes no addresses with letters outside ASCII before the @ (SMTPUTF8)"
    limit = conversation.extensions.get("SIZE", "")
    if limit.isdecimal() and 0 < int(limit) < job.size:
        return f"the letter has {job.size} bytes and the server takes at most {limit}"
    return ""


def _stuffed(body: bytes) -> bytes:
    """Double the dots at line starts (RFC 5321, section 4.5.2)."""
    if b"\r\n." in body:
        body = body.replace(b"\r\n.", b"\r\n..")
    return b"." + body if body.startswith(b".") else body


def _seal(jobs: Sequence[_Job]) -> None:
    """The private keys' part of a chunk; runs in a thread."""
    for job in jobs:
        job.signatures = b"".join([draft.seal() for draft in job.drafts])
