"""Importing contacts from files: all of a file or nothing of a chunk, again from where it stopped.

A file is read in chunks. While PostgreSQL takes one in, the next is read and checked in a thread. A chunk is one
transaction together with the position in `contact_import`, so a killed import goes on at the chunk it had begun.
Contacts that are new go to their tables by COPY with ids reserved before; if somebody else makes one of them in
between, the unique index refuses the chunk and it is done again. Contacts that exist are updated as a set.
"""

import asyncio
import csv
import hashlib
import io
import itertools
import os
import time
from collections import Counter as Counted
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import psycopg
from prometheus_client import Counter
from sqlalchemy import exc, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import attributes, identities, sheets
from contacts.columns import SAMPLE, Column, Options, plan, reader
from contacts.profiles import Limits
from core import eventlog
from core.clock import now
from core.database import Database, driver
from core.documents import did_you_mean
from core.errors import Conflict, InvalidInput, Problem, Unavailable
from core.schema.journeys import journey
from core.settings import Settings

CHUNK = 20_000
_ATTEMPTS = 6
_ROWS = Counter("kaskad_import_rows", "Rows of files taken in or refused", ["outcome"])


@dataclass(frozen=True)
class Progress:
    """How far an import is."""

    rows: int
    """Rows of the file done, from its beginning."""
    total: int
    rejected: int


@dataclass(frozen=True)
class Reject:
    """A row that was left out: where it began, which column, why, and its cells."""

    line: int
    column: str
    reason: str
    cells: tuple[str, ...] = ()


@dataclass
class Report:
    """What an import did, over all the runs it took."""

    file: str
    state: Literal["finished", "already", "checked"]
    """`already`: this file was imported before, with the same options; `checked`: a dry run."""
    rows: int = 0
    accepted: int = 0
    created: int = 0
    updated: int = 0
    duplicates: int = 0
    """Rows whose first identity had already come up in the file; the last one wins."""
    rejected: int = 0
    resumed_at: int = 0
    """The row at which an interrupted import was taken up again."""
    seconds: float = 0.0
    rejects_file: str | None = None
    columns: list[dict[str, str]] = field(default_factory=list)


async def import_file(
    database: Database,
    path: Path,
    options: Options | None = None,
    *,
    settings: Settings | None = None,
    name: str | None = None,
    rejects: Path | None = None,
    dry_run: bool = False,
    again: bool = False,
    chunk: int = CHUNK,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Import a CSV or XLSX file: every row becomes a contact or updates the one it identifies.

    An empty cell leaves what is there; rows that cannot be used go to the rejects file. A run that was interrupted
    is taken up where it stopped; a file that was finished is left alone.

    Args:
        database: where the contacts go.
        path: the file.
        options: what its columns mean, as far as their names do not say it.
        settings: limits, and the country of phone numbers without +.
        name: what to call the file, when `path` is only a copy of it.
        rejects: where bad rows are written; beside the file as FILE.rejects.csv by default.
        dry_run: check everything against the database and write nothing but the rejects file.
        again: import a finished (or interrupted) file from its beginning.
        chunk: rows in one transaction.
        progress: told after each chunk.

    Raises:
        InvalidInput: the file cannot be read, its columns make no sense, or there is no such journey; nothing was
            imported.
        Conflict: another process is importing the same file, or the journey is stopped.
        DatabaseUnavailable: PostgreSQL went away; run it again to go on.
    """
    started = time.monotonic()
    options, settings = options or Options(), settings or Settings()
    if options.enter is not None:
        await _check_journey(database, options.enter)
    sheet = await asyncio.to_thread(sheets.open_sheet, path, options.encoding, options.delimiter)
    columns = await _columns(database, sheet, options, dry_run)
    job = _Job(sheet, columns, options, settings, chunk, dry_run, rejects or path.with_name(path.name + ".rejects.csv"))
    taken = _Taken(now()) if dry_run else await _begin(database, job, name or path.name, again)
    report = Report(name or path.name, "checked" if dry_run else "finished", resumed_at=taken.position)
    report.columns = [{"column": c.header, "means": c.target or c.role, "type": c.type} for c in columns]
    if taken.finished:
        report.state = "already"
    else:
        await _Run(database, job, taken, progress).all()
    report.rows, report.accepted, report.rejected = taken.position, taken.accepted, taken.rejected
    report.created, report.duplicates = taken.created, taken.duplicates
    report.updated = taken.accepted - taken.created - taken.duplicates
    report.rejects_file = str(job.rejects) if job.rejects.exists() and taken.rejected else None
    report.seconds = round(time.monotonic() - started, 3)
    return report


async def _columns(database: Database, sheet: sheets.Sheet, options: Options, dry_run: bool) -> list[Column]:
    """What the columns mean; attributes that are new are registered."""
    sample = [cells for _, cells in itertools.islice(sheet.read(), SAMPLE)]
    async with database.begin() as connection:
        columns = plan(sheet.header, sample, options, await attributes.types(connection))
        if not dry_run:
            await attributes.register(connection, {c.target: c.type for c in columns if c.role == "attribute"})
    return columns


@dataclass(frozen=True)
class _Job:
    """One import, as decided before its first row."""

    sheet: sheets.Sheet
    columns: list[Column]
    options: Options
    settings: Settings
    chunk: int
    dry_run: bool
    rejects: Path

    @property
    def fingerprint(self) -> str:
        """Of the file's bytes and of what is done with them."""
        return hashlib.sha256(self.sheet.digest.encode() + msgspec.json.encode(asdict(self.options))).hexdigest()

    @property
    def kinds(self) -> list[Column]:
        """The identity columns, the one that rows are found by first."""
        found = [column for column in self.columns if column.role == "identity"]
        return sorted(found, key=lambda column: column.target != self.options.identity)


@dataclass
class _Taken:
    """What `contact_import` says of this import."""

    started_at: datetime
    id: int = 0
    position: int = 0
    accepted: int = 0
    rejected: int = 0
    created: int = 0
    duplicates: int = 0
    finished: bool = False


_BEGIN = text(
    """
    insert into contact_import as i (fingerprint, file) values (:fingerprint, :file)
    on conflict (fingerprint) do update set file = excluded.file,
        position = case when :again then 0 else i.position end,
        accepted = case when :again then 0 else i.accepted end,
        rejected = case when :again then 0 else i.rejected end,
        created = case when :again then 0 else i.created end,
        duplicates = case when :again then 0 else i.duplicates end,
        started_at = case when :again then now() else i.started_at end,
        finished_at = case when :again then null else i.finished_at end
    returning started_at, id, position, accepted, rejected, created, duplicates, finished_at is not null as finished
    """
)


async def _begin(database: Database, job: _Job, name: str, again: bool) -> _Taken:
    async with database.begin() as connection:
        row = await connection.execute(_BEGIN, {"fingerprint": job.fingerprint, "file": name, "again": again})
        return _Taken(**row.mappings().one())


# --- reading and checking, in a thread


@dataclass
class _Chunk:
    """Rows that were read and checked, column by column, and those that were refused."""

    records: list[sheets.Record]
    kinds: list[tuple[str, list[str | None]]]
    good: list[int]
    """Which of the records hold; all the lists here go by their place in `records`."""
    fragments: list[str]
    """The inside of the attributes' JSON object."""
    language: Sequence[str | None]
    time_zone: Sequence[str | None]
    tags: Sequence[list[str] | None]
    consent: Sequence[bool | None]
    evidence: Sequence[str | None]
    rejects: dict[int, tuple[str, str]]


class _Reader:
    """Turns the records of a file into chunks."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._records = job.sheet.read()
        self._width = len(job.sheet.header)
        self._readers = {c.place: reader(c, job.settings.phone_region) for c in job.columns}

    def next(self, size: int) -> _Chunk | None:
        """The next rows, checked; None after the last one."""
        records = list(itertools.islice(self._records, size))
        return self._check(records) if records else None

    def _check(self, records: list[sheets.Record]) -> _Chunk:
        rejects: dict[int, tuple[str, str]] = {}
        width = self._width
        rows: list[list[str]] = []
        for n, (_, cells) in enumerate(records):
            fitted = cells if len(cells) == width else self._fitted(cells)
            if fitted is None:
                rejects[n] = ("", f"the row has {len(cells)} cells and the header has {width}")
            rows.append(fitted or [""] * width)
        cells_of = list(zip(*rows, strict=True)) if rows else []
        values = {c.place: self._column(c, cells_of[c.place], rejects) for c in self._job.columns}
        kinds = [(c.target, values[c.place]) for c in self._job.kinds]
        blank = {n for n, cells in enumerate(rows) if not any(cells) and n not in rejects}
        self._check_identities(kinds, len(records), rejects, blank)
        fragments = self._fragments(values, len(records))
        self._check_sizes(fragments, rejects)
        count = len(records)
        return _Chunk(
            records=records,
            kinds=kinds,
            good=[n for n in range(count) if n not in rejects and n not in blank],
            fragments=fragments,
            language=self._single("language", values, count),
            time_zone=self._single("time_zone", values, count),
            tags=self._single("tags", values, count),
            consent=self._single("consent", values, count),
            evidence=self._single("evidence", values, count),
            rejects=rejects,
        )

    def _fitted(self, cells: list[str]) -> list[str] | None:
        """Cells as many as the header has, where empty ones can make it so."""
        if len(cells) > self._width and not any(cells[self._width :]):
            return cells[: self._width]
        return [""] * self._width if not any(cells) else None

    def _column(self, column: Column, cells: Sequence[str], rejects: dict[int, tuple[str, str]]) -> list[Any]:
        """Read one column. Each distinct cell is read once: names, cities and yes or no repeat a lot."""
        if column.role == "ignore":
            return []
        read, values, reasons = self._readers[column.place], dict[str, Any](), dict[str, str]()
        for cell in set(cells):
            shown = cell.strip()
            if shown[:1] == "'":
                shown = sheets.restored(shown)
            try:
                values[cell] = read(shown) if shown else None
            except InvalidInput as error:
                values[cell] = None
                reasons[cell] = "; ".join(str(Problem(p.message, p.mend)) for p in error.problems)
        if reasons:
            for n, cell in enumerate(cells):
                if cell in reasons:
                    rejects.setdefault(n, (column.header, reasons[cell]))
        return [values[cell] for cell in cells]

    def _check_identities(
        self,
        kinds: list[tuple[str, list[str | None]]],
        count: int,
        rejects: dict[int, tuple[str, str]],
        blank: set[int],
    ) -> None:
        required = kinds[:1] if self._job.options.identity else kinds
        names = " or ".join(kind for kind, _ in required)
        for n in range(count):
            if not any(values[n] for _, values in required) and n not in blank:
                rejects.setdefault(n, (self._job.kinds[0].header, f"the row has no {names} to know the contact by"))

    def _fragments(self, values: dict[int, list[Any]], count: int) -> list[str]:
        columns = [values[c.place] for c in self._job.columns if c.role == "attribute"]
        if not columns:
            return [""] * count
        return [",".join(filter(None, parts)) for parts in zip(*columns, strict=True)]

    def _check_sizes(self, fragments: list[str], rejects: dict[int, tuple[str, str]]) -> None:
        limit = self._job.settings.contact_bytes_limit
        for n, fragment in enumerate(fragments):
            if len(fragment) * 4 > limit and len(fragment.encode()) > limit:
                rejects.setdefault(n, ("", f"the row's attributes take more than {limit} bytes"))

    def _single(self, role: str, values: dict[int, list[Any]], count: int) -> Sequence[Any]:
        """The values of the one column that has this role, or nothing for every row."""
        for column in self._job.columns:
            if column.role == role:
                return values[column.place]
        return [None] * count


# --- deciding which row is which contact


@dataclass
class _Person:
    """What the rows of a chunk say about one contact, later ones over earlier ones."""

    id: int
    new: bool
    rows: list[int]
    fragment: str = ""
    language: str | None = None
    time_zone: str | None = None
    tags: list[str] | None = None
    consent: bool | None = None
    consent_row: int = 0


@dataclass
class _Decided:
    """A chunk whose rows have found their contacts."""

    plain: list[int]
    """Rows that each make a contact of their own, which is what nearly all rows of a first import do."""
    plain_ids: list[int]
    people: dict[int, _Person]
    """The contacts of the other rows."""
    attached: list[tuple[str, str, int]]
    """Identities nobody had, with whom they go to."""
    rejects: dict[int, tuple[str, str]]


def _others(chunk: _Chunk, known: dict[identities.Pair, int]) -> set[int]:
    """The good rows with an identity that somebody has, or that comes twice in the chunk."""
    others: set[int] = set()
    for kind, values in chunk.kinds:
        mine = [values[n] for n in chunk.good]
        given = [value for value in mine if value is not None]
        twice = (
            {value for value, count in Counted(given).items() if count > 1} if len(set(given)) < len(given) else set()
        )
        if known or twice:
            others.update(
                n for n, value in zip(chunk.good, mine, strict=True) if value in twice or (kind, value) in known
            )
    return others


def _decide(
    chunk: _Chunk, known: dict[identities.Pair, int], others: set[int], fresh: Iterator[int], columns: Sequence[Column]
) -> _Decided:
    """Give every good row its contact: the one that its identities point to, or a new one."""
    plain = [n for n in chunk.good if n not in others] if others else chunk.good
    plain_ids = list(itertools.islice(fresh, len(plain)))
    decided = _Decided(plain, plain_ids, {}, [], dict(chunk.rejects))
    for kind, values in chunk.kinds:
        mine = [values[n] for n in plain]
        pairs = zip(itertools.repeat(kind), mine, plain_ids)
        decided.attached += [pair for pair in pairs if pair[1] is not None] if None in mine else list(pairs)  # type: ignore[arg-type,misc]
    people, owner = decided.people, dict(known)
    for n in sorted(others):
        pairs_of_row = [(kind, value) for kind, values in chunk.kinds if (value := values[n]) is not None]
        owners = {owner[pair] for pair in pairs_of_row if pair in owner}
        if len(owners) > 1:
            decided.rejects[n] = (columns[0].header, _different(pairs_of_row, owner))
            continue
        contact_id = owners.pop() if owners else next(fresh)
        if contact_id not in people:
            people[contact_id] = _Person(contact_id, not any(pair in known for pair in pairs_of_row), [])
        for pair in pairs_of_row:
            if pair not in owner:
                owner[pair] = contact_id
                decided.attached.append((*pair, contact_id))
        _lay_over(people[contact_id], chunk, n)
    return decided


def _leave_out(decided: _Decided, contact_ids: set[int], reason: str) -> None:
    """Refuse all rows about some contacts."""
    for contact_id in contact_ids:
        for n in decided.people.pop(contact_id).rows:
            decided.rejects[n] = ("", reason)
    if contact_ids:
        decided.attached = [one for one in decided.attached if one[2] not in contact_ids]


def _different(pairs: Iterable[identities.Pair], owner: dict[identities.Pair, int]) -> str:
    kinds = " and ".join(kind for kind, value in pairs if (kind, value) in owner)
    return f"its {kinds} belong to different contacts"


def _lay_over(person: _Person, chunk: _Chunk, n: int) -> None:
    """Add a row to what is said about a contact. In JSON, PostgreSQL keeps the last of two equal names."""
    person.rows.append(n)
    fragment = chunk.fragments[n]
    person.fragment = f"{person.fragment},{fragment}" if person.fragment and fragment else person.fragment or fragment
    person.language = chunk.language[n] or person.language
    person.time_zone = chunk.time_zone[n] or person.time_zone
    if tags := chunk.tags[n]:
        person.tags = list(dict.fromkeys([*(person.tags or ()), *tags]))
    if (consent := chunk.consent[n]) is not None:
        person.consent, person.consent_row = consent, n


# --- taking a chunk in


class _Nothing(Exception):
    """Ends the transaction of a dry run without a commit."""


class _Run:
    """One run of an import over its remaining chunks."""

    def __init__(self, database: Database, job: _Job, taken: _Taken, progress: Callable[[Progress], None]) -> None:
        self._database = database
        self._job = job
        self._taken = taken
        self._progress = progress
        self._reader = _Reader(job)
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
        _keep_rejects(self._job.rejects, line)

    async def _take_in(self, chunk: _Chunk) -> None:
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

    async def _attempt(self, chunk: _Chunk) -> None:
        rejects = self._job.rejects
        try:
            async with self._database.begin() as connection:
                if not self._job.dry_run:
                    await self._claim(connection)
                decided = await _write(connection, chunk, self._job, self._limits, self._taken)
                marks, counts = self._count(chunk, decided)
                await asyncio.to_thread(_append_rejects, rejects, self._job.sheet.header, _rejects(chunk, decided))
                if self._job.dry_run:
                    raise _Nothing
                await connection.execute(_SAVE, {"id": self._taken.id, **counts})
                if self._job.options.enter is not None:
                    await _enter(connection, self._job.options.enter, [*decided.plain_ids, *decided.people])
        except _Nothing:
            pass
        for name, value in counts.items():
            setattr(self._taken, name, value)
        self._seen |= marks
        _ROWS.labels("accepted").inc(len(chunk.good))
        _ROWS.labels("rejected").inc(len(decided.rejects))

    async def _claim(self, connection: AsyncConnection) -> None:
        """Make sure that nobody else took the chunk in, or is about to."""
        row = await connection.execute(
            text("select position from contact_import where id = :id for update"), {"id": self._taken.id}
        )
        if row.scalar_one() != self._taken.position:
            raise Conflict("another process is importing this file; let it finish")

    def _count(self, chunk: _Chunk, decided: _Decided) -> tuple[set[int], dict[str, int]]:
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


async def _check_journey(database: Database, name: str) -> None:
    async with database.begin() as connection:
        rows = await connection.execute(select(journey.c.name, journey.c.state))
        states = {row.name: row.state for row in rows}
    if name not in states:
        raise InvalidInput(Problem(f"there is no journey {name}", did_you_mean(name, tuple(states))))
    if states[name] in {"finishing", "stopped"}:
        raise Conflict(f"the journey {name} is {states[name]}; resume it first")


_SAVE = text(
    "update contact_import set position = :position, accepted = :accepted, rejected = :rejected, created = :created, "
    "duplicates = :duplicates where id = :id"
)


def _marks(chunk: _Chunk, rows: Sequence[int]) -> list[int]:
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


async def _write(connection: AsyncConnection, chunk: _Chunk, job: _Job, limits: Limits, taken: _Taken) -> _Decided:
    """Write one chunk: who the rows are about, then contacts, identities and consents."""
    await identities.hold_off_erasure(connection)
    known = await _known(connection, chunk)
    others = _others(chunk, known)
    decided = _decide(chunk, known, others, await _reserve(connection, len(chunk.good)), job.columns)
    met = [person for person in decided.people.values() if not person.new]
    if met:
        over = await _stage(connection, met, limits)
        _leave_out(decided, over, "the contact would carry more attributes or tags than a contact may")
        await connection.execute(_UPDATE)
    await _copy(connection, "contact (id, language, time_zone, tags, attributes)", _contacts(chunk, decided))
    await _copy(connection, "identity (kind, value, contact_id)", sorted(decided.attached))
    if job.options.consents:
        await _write_consents(connection, chunk, decided, job, taken)
    return decided


async def _known(connection: AsyncConnection, chunk: _Chunk) -> dict[identities.Pair, int]:
    """The contacts behind those identities of the good rows that somebody has."""
    given = [(kind, value) for kind, values in chunk.kinds for n in chunk.good if (value := values[n]) is not None]
    return await identities.lookup(connection, given)


def _contacts(chunk: _Chunk, decided: _Decided) -> Iterator[Sequence[object]]:
    """The contacts to be made, as COPY takes them."""
    plain = decided.plain
    yield from zip(
        decided.plain_ids,
        [chunk.language[n] for n in plain],
        [chunk.time_zone[n] for n in plain],
        [_array(chunk.tags[n]) for n in plain],
        [f"{{{chunk.fragments[n]}}}" for n in plain],
        strict=True,
    )
    for person in decided.people.values():
        if person.new:
            yield _staged(person)


def _staged(person: _Person) -> Sequence[object]:
    return person.id, person.language, person.time_zone, _array(person.tags), f"{{{person.fragment}}}"


async def _reserve(connection: AsyncConnection, count: int) -> Iterator[int]:
    """Ids for contacts about to be made. Those that turn out not to be needed stay unused."""
    raw = await driver(connection)
    query = "select nextval((select pg_get_serial_sequence('contact', 'id')::regclass)) from generate_series(1, %s)"
    cursor = await raw.execute(query, (count,), binary=True)
    return itertools.chain.from_iterable(await cursor.fetchall())


async def _copy(connection: AsyncConnection, target: str, rows: Iterable[Sequence[object]]) -> None:
    """COPY rows; None becomes null. The CSV form, because Python writes it without a loop of ours."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    data = buffer.getvalue()
    if not data:
        return
    raw = await driver(connection)
    async with raw.cursor() as cursor, cursor.copy(f"copy {target} from stdin (format csv)".encode()) as copy:
        await copy.write(data.encode())


def _array(values: Iterable[str] | None) -> str:
    """Texts as PostgreSQL writes an array."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values or ())
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


# A contact that is met again: locked in the order of ids, and only rewritten where something changes.
_STAGE = """
create temporary table staged_contact (
    id bigint not null, language text, time_zone text, tags text[] not null, attributes jsonb not null
) on commit drop
"""
_OVER = text(
    """
    with person as materialized (
        select id, attributes, tags from contact where id in (select id from staged_contact) order by id
        for no key update
    ), merged as (
        select id, person.attributes || s.attributes as attributes,
            array(select distinct unnest(person.tags || s.tags)) as tags
        from person join staged_contact s using (id)
        where s.attributes <> '{}' or s.tags <> '{}'
    ), refused as (
        select id from merged
        where octet_length(attributes::text) > :bytes or cardinality(tags) > :tags
           or (select count(*) from jsonb_object_keys(attributes)) > :attributes
    )
    delete from staged_contact where id in (select id from refused) returning id
    """
)
_UPDATE = text(
    """
    update contact c
    set attributes = c.attributes || s.attributes, language = coalesce(s.language, c.language),
        time_zone = coalesce(s.time_zone, c.time_zone), updated_at = now(),
        tags = c.tags || array(select t from unnest(s.tags) t where t <> all(c.tags))
    from staged_contact s
    where c.id = s.id and (c.attributes || s.attributes <> c.attributes
        or not c.tags @> s.tags or s.language <> coalesce(c.language, '')
        or s.time_zone <> coalesce(c.time_zone, ''))
    """
)


async def _stage(connection: AsyncConnection, people: Iterable[_Person], limits: Limits) -> set[int]:
    """Lay what is said about known contacts beside them; gives those who would carry too much, and drops them."""
    await connection.execute(text(_STAGE))
    await _copy(connection, "staged_contact", map(_staged, people))
    await connection.execute(text("analyze staged_contact"))
    over = await connection.execute(
        _OVER, {"bytes": limits.bytes, "tags": limits.tags, "attributes": limits.attributes}
    )
    return set(over.scalars())


_STAGE_CONSENTS = """
create temporary table staged_consent (
    contact_id bigint not null, channel text not null, purpose text not null, granted boolean not null
) on commit drop
"""
_MERGE_CONSENTS = text(
    """
    insert into consent as held (contact_id, channel, purpose, granted, changed_at)
    select contact_id, channel, purpose, granted, :at from staged_consent order by contact_id
    on conflict (contact_id, channel, purpose) do update
    set granted = excluded.granted, changed_at = excluded.changed_at
    where excluded.changed_at >= held.changed_at
    """
)


async def _write_consents(
    connection: AsyncConnection, chunk: _Chunk, decided: _Decided, job: _Job, taken: _Taken
) -> None:
    """What the rows say about consent, said at the time the import began: a later row of the file overrules it."""
    at, pairs = taken.started_at.isoformat(), job.options.consents
    new = [
        (contact_id, granted, n)
        for contact_id, n in zip(decided.plain_ids, decided.plain, strict=True)
        if (granted := chunk.consent[n]) is not None
    ]
    met: list[tuple[int, bool, int]] = []
    for person in decided.people.values():
        if person.consent is not None:
            (new if person.new else met).append((person.id, person.consent, person.consent_row))
    await _copy(
        connection,
        "consent_record (contact_id, channel, purpose, granted, recorded_at, source, evidence)",
        (
            (contact_id, channel, purpose, granted, at, "import", _evidence(chunk, n, taken))
            for channel, purpose in pairs
            for contact_id, granted, n in itertools.chain(new, met)
        ),
    )
    await _copy(
        connection,
        "consent (contact_id, channel, purpose, granted, changed_at)",
        ((contact_id, channel, purpose, granted, at) for channel, purpose in pairs for contact_id, granted, _ in new),
    )
    if met:
        rows = ((contact_id, channel, purpose, granted) for channel, purpose in pairs for contact_id, granted, _ in met)
        await connection.execute(text(_STAGE_CONSENTS))
        await _copy(connection, "staged_consent", rows)
        await connection.execute(_MERGE_CONSENTS, {"at": taken.started_at})


def _evidence(chunk: _Chunk, n: int, taken: _Taken) -> str:
    """Which import and which line said so, and what stood in the evidence column."""
    told = chunk.evidence[n]
    shown = "" if told is None else f',"text":{msgspec.json.encode(told).decode()}'
    return f'{{"import":{taken.id},"line":{chunk.records[n][0]}{shown}}}'


# --- the rejects file


def _rejects(chunk: _Chunk, decided: _Decided) -> list[Reject]:
    return [
        Reject(chunk.records[n][0], column, reason, tuple(chunk.records[n][1]))
        for n, (column, reason) in sorted(decided.rejects.items())
    ]


def _append_rejects(path: Path, header: Sequence[str], rejects: Sequence[Reject]) -> None:
    """Write rejects down, on disk before the chunk is committed; what no commit followed is removed on resuming."""
    if not rejects:
        return
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(["line", "column", "reason", *sheets.defused(header)])
        for reject in rejects:
            writer.writerow([reject.line, *sheets.defused([reject.column, reject.reason, *reject.cells])])
        file.flush()
        os.fsync(file.fileno())


def _keep_rejects(path: Path, last_line: int) -> None:
    """Keep only the rejects up to a line, which are those of chunks that were committed."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", newline="", errors="replace") as file:  # a kill may have torn the last row
        header, *rows = list(csv.reader(file)) or [[]]
    kept = [row for row in rows if len(row) > 3 and row[0].isdigit() and int(row[0]) <= last_line]
    path.unlink()
    if kept:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *kept])


def read_rejects(path: Path, limit: int) -> list[Reject]:
    """The first rejects of a file that an import wrote."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = itertools.islice(csv.reader(file), 1, limit + 1)
        return [Reject(int(row[0]), row[1], row[2], tuple(row[3:])) for row in rows]
