"""Looking into a mailbox now and then, one worker at a time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog
from sqlalchemy import text

from channels.email.inbound.letters import Incoming
from channels.email.inbound.mailbox import BATCH, Found, MailboxUrl, Stuck, opened
from channels.email.inbound.taking import Inbox
from core.clock import now
from core.database import Database
from core.errors import KaskadError

_LOCK = 0x6B617362  # "kasb": one reader of a mailbox at a time
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
        self._passed_over: set[str] = set()
        """Letters that this process looks at no more: they lie there still."""

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
        taken: list[Found] = []
        try:
            with opened(self._url) as session:
                try:
                    for letter in session.letters(self._size_limit, self._passed_over):
                        if self._stopping:
                            break
                        if self._take(loop, letter):
                            taken.append(letter)
                finally:
                    session.done(taken)
        except Stuck as error:
            # Those before it come once more: their marks are lost with the session.
            _log.error("mail_left_lying", mailbox=str(self._url), letter=error.name, why=str(error))
            self._passed_over.add(error.name)
        return len(taken)

    def _take(self, loop: asyncio.AbstractEventLoop, letter: Found) -> bool:
        """Let the loop take a letter; whether it may be marked."""
        coming = asyncio.run_coroutine_threadsafe(self._inbox.take(Incoming(letter.source, now())), loop)
        try:
            coming.result(_PATIENCE)
        except KaskadError:
            raise
        except Exception:  # noqa: BLE001 - logged in full; one letter must not hold up all that come after it
            _log.exception("mail_left_lying", mailbox=str(self._url), letter=letter.name)
            self._passed_over.add(letter.name)
            return False
        if not letter.whole:
            _log.warning("mail_too_big", mailbox=str(self._url), letter=letter.name)
            self._passed_over.add(letter.name)
        return True

    async def turn(self) -> float | None:
        """One look of many; gives 0 where more lies there, for the next one to come at once."""
        try:
            return 0.0 if await self.look() == BATCH else None
        except KaskadError as error:
            _log.warning("mailbox_unread", mailbox=str(self._url), why=str(error))
            return None

    def close(self) -> None:
        """Give the thread back; a look under way ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)
