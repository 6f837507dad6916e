"""Importing past events from files: in chunks, each one transaction together with how far the import is.

A killed import goes on at the chunk it had begun, and no event is there twice. Unless they are told to be live, the
events are history: the router passes over them, so nobody gets a letter for what happened last year.
"""

import asyncio
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import psycopg
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identities
from contacts.rejects import RejectsFile, beside
from core import eventlog
from core.clock import now
from core.database import Database, driver
from core.errors import Conflict, InvalidInput, Problem
from core.retry import ATTEMPTS, RACES, sqlstate
from core.settings import Settings
from tracker.event_files import EventFile, Options, Row, open_file
from tracker.store import Entry, Months, Names, entries
from tracker.wire import Incoming, Limits, parse

CHUNK = 5_000
_COLUMNS = ("row", "line", "field", "reason", "text")
_SENDER = 0  # no API key has this number: ids of files count among themselves
_RETRIED = RACES | {"23514"}
"""The last one: a partition that was dropped meanwhile."""


@dataclass(frozen=True)
class Progress:
    """How far an import is."""

    rows: int
    total: int
    rejected: int


@dataclass
class Report:
    """What an import did, over all the runs it took."""

    file: str
    state: Literal["finished", "already", "checked"]
    """`already`: this file was imported before, with the same options; `checked`: a dry run."""
    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    """Rows whose id had come up before, in this file or another one of the last days."""
    rejected: int = 0
    resumed_at: int = 0
    seconds: float = 0.0
    rejects_file: str | None = None


@dataclass(frozen=True)
class _Reject:
    row: int
    line: int
    problem: Problem
    text: str

    @property
    def cells(self) -> tuple[object, ...]:
        """As a row of the rejects file."""
        mend = f" ({self.problem.mend})" if self.problem.mend else ""
        return self.row + 1, self.line, self.problem.path, self.problem.message + mend, self.text


@dataclass(frozen=True)
class _Chunk:
    """Rows that were read and checked."""

    size: int
    good: list[Incoming]
    """Their `index` is the place among `rows`."""
    rows: list[Row]
    rejects: list[_Reject]


@dataclass
class _Taken:
    """What `event_import` says of an import."""

    id: int = 0
    position: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    finished: bool = False


async def import_events(
    database: Database,
    path: Path,
    options: Options | None = None,
    *,
    settings: Settings | None = None,
    rejects: Path | None = None,
    dry_run: bool = False,
    again: bool = False,
    chunk: int = CHUNK,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Append the events of a file to the log, with the times at which they happened.

    Args:
        database: where the log is.
        path: JSON lines, as the API takes events, or a table with an event a row.
        options: what the file does not say by itself.
        settings: limits.
        rejects: where bad rows are written; by default beside the file as FILE.rejects.csv, of a dry run as
            FILE.dry-run.rejects.csv. A file of that name which this import did not write is moved aside.
        dry_run: check the rows and write nothing but the rejects file.
        again: import a finished (or interrupted) file from its beginning. Events with an id that is still remembered
            are not stored twice; others are.
        chunk: rows in one transaction. Whoever else appends to the log waits while the last part of it is written.
        progress: told after each chunk.

    Raises:
        InvalidInput: the file or the options make no sense; nothing was imported.
        Conflict: another process is importing the same file.
        Unavailable: the rejects file could not be written; run it again to go on.
        DatabaseUnavailable: PostgreSQL went away; run it again to go on.
    """
    began = time.monotonic()
    options, settings = options or Options(), settings or Settings()
    file = await asyncio.to_thread(open_file, path, options)
    refused = RejectsFile(rejects or beside(path, dry_run=dry_run), _COLUMNS)
    run = _Run(database, file, options, settings, refused)
    report = Report(path.name, "checked" if dry_run else "finished")
    taken = _Taken() if dry_run else await run.begin(again)
    report.resumed_at = taken.position
    if taken.finished:
        report.state = "already"
    else:
        await run.all(taken, chunk, progress, dry_run=dry_run)
    report.rows, report.accepted = taken.position, taken.accepted
    report.duplicates, report.rejected = taken.duplicates, taken.rejected
    report.rejects_file = str(refused.path) if taken.rejected and refused.path.exists() else None
    report.seconds = round(time.monotonic() - began, 3)
    return report


class _Run:
    """One import at work."""

    def __init__(
        self, database: Database, file: EventFile, options: Options, settings: Settings, rejects: RejectsFile
    ) -> None:
        self._database = database
        self._file = file
        self._options = options
        self._limits = Limits.of(settings)
        self._names = Names(settings.event_names_limit)
        self._months = Months()
        self._rejects = rejects

    async def begin(self, again: bool) -> _Taken:
        """Find how far earlier runs came."""
        told = self._file.digest.encode() + msgspec.json.encode(asdict(self._options))
        async with self._database.begin() as connection:
            row = await connection.execute(
                _BEGIN,
                {"fingerprint": hashlib.sha256(told).hexdigest(), "file": self._file.path.name, "again": again},
            )
            return _Taken(**row.mappings().one())

    async def all(self, taken: _Taken, size: int, progress: Callable[[Progress], None], *, dry_run: bool) -> None:
        """Take in all chunks that are left: while PostgreSQL writes one, the next is read and checked."""
        await asyncio.to_thread(self._rejects.open, taken.position, taken.rejected)
        rows = self._file.read(taken.position)
        position = taken.position
        coming = asyncio.create_task(asyncio.to_thread(self._read, rows, position, size))
        try:
            while (chunk := await coming) is not None:
                position += chunk.size
                coming = asyncio.create_task(asyncio.to_thread(self._read, rows, position, size))
                await self._take(chunk, taken, dry_run=dry_run)
                progress(Progress(taken.position, self._file.rows, taken.rejected))
        finally:
            await asyncio.gather(coming, return_exceptions=True)
        if not dry_run:
            async with self._database.begin() as connection:
                await connection.execute(
                    text("update event_import set finished_at = now() where id = :id"), {"id": taken.id}
                )

    def _read(self, rows: Iterator[Row], position: int, size: int) -> _Chunk | None:
        """The next rows, checked; in a thread."""
        some = list(itertools.islice(rows, size))
        if not some:
            return None
        good: list[Incoming] = []
        rejects = [_Reject(position + n, row.line, row.problem, row.text) for n, row in enumerate(some) if row.problem]
        places = [n for n, row in enumerate(some) if row.piece and row.problem is None]
        for place, item in zip(places, _parsed([some[n].piece for n in places], self._limits), strict=True):
            if isinstance(item, Problem):
                rejects.append(_Reject(position + place, some[place].line, item, some[place].text))
            else:
                good.append(msgspec.structs.replace(item, index=place))
        return _Chunk(len(some), good, some, rejects)

    async def _take(self, chunk: _Chunk, taken: _Taken, *, dry_run: bool) -> None:
        """Write one chunk, its rejects first: they count once it is committed."""
        rejects, good = list(chunk.rejects), chunk.good
        if not dry_run:
            names = {event.name for event in good}
            await self._names.learn(self._database, names)
            await self._months.provide(self._database, [event.at for event in good])
            if names - self._names.numbers.keys():
                problem = Problem("the installation knows too many names of events", "raise KASKAD_EVENT_NAMES_LIMIT")
                rejects += [self._reject(chunk, taken, e, problem) for e in good if e.name not in self._names.numbers]
                good = [event for event in good if event.name in self._names.numbers]
        for attempt in range(1, ATTEMPTS + 1):
            counts = _after(taken, chunk)
            try:
                if dry_run:
                    counts.accepted += len(good)
                    erased: list[Incoming] = []
                else:
                    async with self._database.begin() as connection:
                        erased = await self._write(connection, good, taken, counts)
                        late = [self._reject(chunk, taken, event, _GONE) for event in erased]
                        counts.rejected += len(rejects) + len(late)
                        await self._note([*rejects, *late])
                        await self._save(connection, taken, counts)
                if dry_run:
                    counts.rejected += len(rejects)
                    await self._note(rejects)
                self._rejects.confirm()
                break
            except (exc.DBAPIError, psycopg.Error) as error:
                if attempt == ATTEMPTS or sqlstate(error) not in _RETRIED:
                    raise
                self._months.known.clear()
                await self._months.provide(self._database, [event.at for event in good])
        taken.position, taken.accepted = counts.position, counts.accepted
        taken.duplicates, taken.rejected = counts.duplicates, counts.rejected

    async def _note(self, rejects: Sequence[_Reject]) -> None:
        rows = [one.cells for one in sorted(rejects, key=lambda reject: reject.row)]
        await asyncio.to_thread(self._rejects.append, rows)

    def _reject(self, chunk: _Chunk, taken: _Taken, event: Incoming, problem: Problem) -> _Reject:
        row = chunk.rows[event.index]
        return _Reject(taken.position + event.index, row.line, problem, row.text)

    async def _write(
        self, connection: AsyncConnection, good: Sequence[Incoming], taken: _Taken, counts: _Taken
    ) -> list[Incoming]:
        """Append what is new; gives the events of people who were erased."""
        await identities.hold_off_erasure(connection)
        new = await _claimed(connection, entries(good, _SENDER))
        pairs = [(event.kind, event.identity) for event in new]
        found = await (await identities.ask(connection, pairs)).contacts()
        contacts = await identities.complete(connection, pairs, found)
        rows = [
            eventlog.NewEvent(contact, self._names.numbers[event.name], event.at, event.properties, event.value)
            for event, contact in zip(new, contacts, strict=True)
            if contact is not None
        ]
        counts.accepted += len(rows)
        counts.duplicates += len(good) - len(new)
        await eventlog.append(connection, rows)
        if rows and not self._options.live:
            await eventlog.make_history(connection, len(rows))
        return [event for event, contact in zip(new, contacts, strict=True) if contact is None]

    async def _save(self, connection: AsyncConnection, taken: _Taken, counts: _Taken) -> None:
        done = await connection.execute(
            text(
                "update event_import set position = :position, accepted = :accepted, duplicates = :duplicates, "
                "rejected = :rejected where id = :id and position = :before"
            ),
            {
                "id": taken.id,
                "before": taken.position,
                "position": counts.position,
                "accepted": counts.accepted,
                "duplicates": counts.duplicates,
                "rejected": counts.rejected,
            },
        )
        if not done.rowcount:
            raise Conflict("another process is importing this very file")


_GONE = Problem("this anonymous id belonged to a contact who was erased")
_BEGIN = text(
    """
    insert into event_import as i (fingerprint, file) values (:fingerprint, :file)
    on conflict (fingerprint) do update set file = excluded.file,
        position = case when :again then 0 else i.position end,
        accepted = case when :again then 0 else i.accepted end,
        duplicates = case when :again then 0 else i.duplicates end,
        rejected = case when :again then 0 else i.rejected end,
        started_at = case when :again then now() else i.started_at end,
        finished_at = case when :again then null else i.finished_at end
    returning id, position, accepted, duplicates, rejected, finished_at is not null as finished
    """
)


def _after(taken: _Taken, chunk: _Chunk) -> _Taken:
    """The counts as they will be after a chunk, but for what becomes of its rows."""
    return replace(taken, position=taken.position + chunk.size)


def _parsed(pieces: Sequence[bytes], limits: Limits) -> list[Incoming | Problem]:
    """Each piece as an event, or what is wrong with it. All at once, unless one of them is no JSON."""
    if not pieces:
        return []
    roomy = replace(limits, events=len(pieces))
    moment = now()
    try:
        items = parse(b"[" + b",".join(pieces) + b"]", roomy, moment).items
    except InvalidInput:
        items = []
    if len(items) != len(pieces):
        return [_alone(piece, roomy) for piece in pieces]
    return [
        item if isinstance(item, Incoming) else replace(item.problem, path=item.problem.path.partition(".")[2])
        for item in items
    ]


def _alone(piece: bytes, limits: Limits) -> Incoming | Problem:
    try:
        parsed = parse(piece, limits, now())
    except InvalidInput as error:
        return error.problems[0]
    if not parsed.single:
        return Problem("a line holds one event", "write each on a line of its own")
    (item,) = parsed.items
    return item if isinstance(item, Incoming) else item.problem


async def _claimed(connection: AsyncConnection, batch: Sequence[Entry]) -> list[Incoming]:
    """The events whose id is new; those without one always are."""
    keys = [entry.key for entry in batch if entry.key is not None]
    if not keys:
        return [entry.event for entry in batch]
    raw = await driver(connection)
    cursor = await raw.execute(
        "insert into event_key (key) select distinct key from unnest(%s::uuid[]) key order by key "
        "on conflict do nothing returning replace(key::text, '-', '')",
        (keys,),
    )
    fresh = {key for (key,) in await cursor.fetchall()}
    new = []
    for entry in batch:
        if entry.key is None or entry.key in fresh:
            fresh.discard(entry.key)
            new.append(entry.event)
    return new
