"""Taking chunks in, one transaction each, until the file is done."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import psycopg
from prometheus_client import Counter
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts.importing.deciding import Decided
from contacts.importing.job import Job, Taken
from contacts.importing.reading import Chunk, Reader
from contacts.importing.rejects import Reject, rejects_of, remember
from contacts.importing.writing import write
from contacts.profiles import Limits
from core import eventlog
from core.clock import now
from core.database import Database
from core.errors import Conflict, Unavailable

_ATTEMPTS = 6
_ROWS = Counter("kaskad_import_rows", "Rows of files taken in or refused", ["outcome"])


@dataclass(frozen=True)
class Progress:
    """How far an import is."""

    rows: int
    """Rows of the file done, from its beginning."""
    total: int
    rejected: int


class _Nothing(Exception):
    """Ends the transaction of a dry run without a commit."""


class Run:
    """One run of an import over its remaining chunks."""

    def __init__(self, database: Database, job: Job, taken: Taken, progress: Callable[[Progress], None]) -> None:
        self._database = database
        self._job = job
        self._taken = taken
        self._progress = progress
        self._reader = Reader(job)
        self._limits = Limits.of(job.settings)
        self._seen: set[int] = set()

    async def all(self) -> None:
        """Take in every chunk that is left, then say that the import is finished."""
        await asyncio.to_thread(self._resume)
        coming = asyncio.create_task(asyncio.to_thread(self._reader.next, self._job.chunk))
        try:
            while (chunk := await coming) is not None:
                coming = asyncio.create_task(asyncio.to_thread(self._reader.next, self._job.chunk))
                await self._take_in(chunk)
                self._progress(Progress(self._taken.position, self._job.sheet.records, self._taken.rejected))
        finally:
            await asyncio.wait([coming])
        await self._finish()

    def _resume(self) -> None:
        """Pass over the rows that are in already, remembering whom they were about; mend the rejects file."""
        left, line = self._taken.position, 0
        while left > 0 and (chunk := self._reader.next(min(left, self._job.chunk))) is not None:
            self._seen.update(_marks(chunk, chunk.good))
            left, line = left - len(chunk.records), chunk.records[-1][0]
        if self._job.rejects is not None:
            self._job.rejects.open(line, self._taken.rejected)

    async def _take_in(self, chunk: Chunk) -> None:
        """One chunk, again as long as somebody else makes the same contacts at the same time."""
        for attempt in itertools.count(1):
            try:
                return await self._attempt(chunk)
            except (exc.DBAPIError, psycopg.Error) as error:
                if not _is_race(error):
                    raise
                if attempt == _ATTEMPTS:
                    raise Unavailable("others keep writing the same contacts; run the import again later") from error
        return None

    async def _attempt(self, chunk: Chunk) -> None:
        try:
            async with self._database.begin() as connection:
                if not self._job.dry_run:
                    await self._claim(connection)
                decided = await write(connection, chunk, self._job, self._limits, self._taken)
                marks, counts = self._count(chunk, decided)
                await self._note(connection, rejects_of(chunk, decided))
                if self._job.dry_run:
                    raise _Nothing
                await connection.execute(_SAVE, {"id": self._taken.id, **counts})
                if self._job.options.enter is not None:
                    await _enter(connection, self._job.options.enter, [*decided.plain_ids, *decided.people])
        except _Nothing:
            pass
        if self._job.rejects is not None:
            self._job.rejects.confirm()
        for name, value in counts.items():
            setattr(self._taken, name, value)
        self._seen |= marks
        _ROWS.labels("accepted").inc(len(chunk.good))
        _ROWS.labels("rejected").inc(len(decided.rejects))

    async def _note(self, connection: AsyncConnection, rejects: Sequence[Reject]) -> None:
        """Write down what was left out, before the chunk is committed."""
        if self._job.rejects is None:
            await remember(connection, self._taken.id, self._taken.rejected, rejects)
        else:
            await asyncio.to_thread(self._job.rejects.append, [one.row for one in rejects])

    async def _claim(self, connection: AsyncConnection) -> None:
        """Make sure that nobody else took the chunk in, or is about to."""
        row = await connection.execute(
            text("select position from contact_import where id = :id for update"), {"id": self._taken.id}
        )
        if row.scalar_one() != self._taken.position:
            raise Conflict("another process is importing this file; let it finish")

    def _count(self, chunk: Chunk, decided: Decided) -> tuple[set[int], dict[str, int]]:
        """The counts after this chunk, and the marks of its rows."""
        marks = set(_marks(chunk, decided.plain))
        repeated = len(marks & self._seen)
        duplicates, created = repeated, len(decided.plain) - repeated
        first_rows = {person.rows[0] for person in decided.people.values() if person.new}
        others = sorted(n for person in decided.people.values() for n in person.rows)
        for n, mark in zip(others, _marks(chunk, others), strict=True):
            # In a dry run a row can be new and yet seen: the contact of the earlier chunk was not kept.
            seen = mark in marks or mark in self._seen
            duplicates += seen
            created += n in first_rows and not seen
            marks.add(mark)
        taken = self._taken
        return marks, {
            "position": taken.position + len(chunk.records),
            "accepted": taken.accepted + len(decided.plain) + len(others),
            "rejected": taken.rejected + len(decided.rejects),
            "created": taken.created + created,
            "duplicates": taken.duplicates + duplicates,
        }

    async def _finish(self) -> None:
        if not self._job.dry_run:
            async with self._database.begin() as connection:
                await self._claim(connection)
                await connection.execute(
                    text("update contact_import set finished_at = now() where id = :id"), {"id": self._taken.id}
                )
        self._taken.finished = True


async def _enter(connection: AsyncConnection, name: str, contact_ids: Sequence[int]) -> None:
    """Ask for contacts to enter a journey; in the transaction of their chunk, so once."""
    names = await eventlog.name_ids(connection, [eventlog.ENTER])
    body, at = msgspec.json.encode({"journey": name, "key": ""}), now()
    await eventlog.append(
        connection, [eventlog.NewEvent(contact, names[eventlog.ENTER], at, body) for contact in contact_ids]
    )


_SAVE = text(
    "update contact_import set position = :position, accepted = :accepted, rejected = :rejected, created = :created, "
    "duplicates = :duplicates where id = :id"
)


def _marks(chunk: Chunk, rows: Sequence[int]) -> list[int]:
    """A number for the first identity of each row; 64 bits tell millions of them apart."""
    first = chunk.kinds[0][1]
    values: list[str | None] = [first[n] for n in rows]
    for _, others in chunk.kinds[1:]:
        if None not in values:
            break
        values = [others[n] if value is None else value for n, value in zip(rows, values, strict=True)]
    return list(map(hash, values))


def _is_race(error: exc.DBAPIError | psycopg.Error) -> bool:
    """Whether another transaction was in the way, so that doing the same again can succeed."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return isinstance(cause, psycopg.errors.UniqueViolation | psycopg.errors.DeadlockDetected)
