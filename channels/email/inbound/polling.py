"""Looking into a mailbox now and then, one worker at a time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog
from sqlalchemy import text

from channels.email.inbound.letters import Incoming
from channels.email.inbound.mailbox import BATCH, MailboxUrl, Session, opened
from channels.email.inbound.taking import Inbox
from core.clock import now
from core.database import Database
from core.errors import KaskadError

_LOCK = 0x6B61736D
_PATIENCE = 300.0
_log = structlog.get_logger()


class Poller:
    """Reads one mailbox."""

    def __init__(self, database: Database, inbox: Inbox, url: MailboxUrl, size_limit: int) -> None:
        self._database = database
        self._inbox = inbox
        self._url = url
        self._size_limit = size_limit
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mailbox")
        self._stopping = False

    async def look(self) -> int:
        """Take what lies there, at most BATCH letters; gives how many those were. Another worker's turn is 0.

        Raises:
            Misconfigured, Unavailable: the mailbox cannot be read.
            DatabaseUnavailable: what was not committed lies there still.
        """
        async with self._database.begin() as connection:
            # Held by this transaction: whoever dies gives it back.
            mine = await connection.execute(text("select pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            if not mine.scalar():
                return 0
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._thread, self._read, loop)
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                self._stopping = True  # after the letter in hand, which this loop still has to take
                await asyncio.wait([work])
                raise

    def _read(self, loop: asyncio.AbstractEventLoop) -> int:
        """In the thread: fetch a letter, let the loop take it, mark it."""
        taken: list[str] = []
        with opened(self._url) as session:
            try:
                for name, source in session.letters(self._size_limit):
                    if self._stopping:
                        break
                    if source is None:
                        _log.warning("mail_too_big", mailbox=str(self._url), letter=name)
                    else:
                        self._take(loop, source)
                    taken.append(name)
            finally:
                self._done(session, taken)
        return len(taken)

    def _take(self, loop: asyncio.AbstractEventLoop, source: bytes) -> None:
        coming = asyncio.run_coroutine_threadsafe(self._inbox.take(Incoming(source, now())), loop)
        coming.result(_PATIENCE)

    def _done(self, session: Session, names: list[str]) -> None:
        if names:
            session.done(names)

    async def repeat(self, seconds: float) -> None:
        """Look again and again; at once after a full batch."""
        while True:
            found = 0
            try:
                found = await self.look()
            except KaskadError as error:
                _log.warning("mailbox_unread", mailbox=str(self._url), why=str(error))
            if found < BATCH:
                await asyncio.sleep(seconds)

    def close(self) -> None:
        """Give the thread back; a look under way ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)
