"""Importing contacts from files: all of a file or nothing of a chunk, again from where it stopped.

A file is read in chunks. While PostgreSQL takes one in, the next is read and checked in a thread. A chunk is one
transaction together with the position in `contact_import`, so a killed import goes on at the chunk it had begun.
Contacts that are new go to their tables by COPY with ids reserved before; if somebody else makes one of them in
between, the unique index refuses the chunk and it is done again. Contacts that exist are updated as a set.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy import select

from contacts import attributes, sheets
from contacts.columns import SAMPLE, Column, Options, plan
from contacts.importing.job import Job, Taken, begin
from contacts.importing.rejects import COLUMNS, Reject, read_rejects, remembered
from contacts.importing.running import Progress, Run
from contacts.rejects import RejectsFile, beside
from core.clock import now
from core.database import Database
from core.documents import did_you_mean
from core.errors import Conflict, InvalidInput, Problem
from core.schema.journeys import journey
from core.settings import Settings

__all__ = ["CHUNK", "Progress", "Reject", "Report", "import_file", "read_rejects", "remembered"]

CHUNK = 20_000


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
    id: int | None = None
    """The import's number; a dry run has none."""
    columns: list[dict[str, str]] = field(default_factory=list)


async def import_file(
    database: Database,
    path: Path,
    options: Options | None = None,
    *,
    settings: Settings | None = None,
    name: str | None = None,
    rejects: Path | None = None,
    remember: bool = False,
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
        rejects: where bad rows are written; by default beside the file as FILE.rejects.csv, of a dry run as
            FILE.dry-run.rejects.csv. A file of that name which this import did not write is moved aside.
        remember: keep bad rows in the database for some days, by the import's number, and write no file. A dry run,
            which has no number, writes one all the same.
        dry_run: check everything against the database and write nothing but the rejects file.
        again: import a finished (or interrupted) file from its beginning.
        chunk: rows in one transaction.
        progress: told after each chunk.

    Raises:
        InvalidInput: the file cannot be read, its columns make no sense, or there is no such journey; nothing was
            imported.
        Unavailable: the rejects file could not be written; run it again to go on.
        Conflict: another process is importing the same file, or the journey is stopped.
        DatabaseUnavailable: PostgreSQL went away; run it again to go on.
    """
    started = time.monotonic()
    options, settings = options or Options(), settings or Settings()
    if options.enter is not None:
        await _check_journey(database, options.enter)
    sheet = await asyncio.to_thread(
        sheets.open_sheet, path, options.encoding, options.delimiter, settings.workbook_bytes_limit
    )
    columns = await _columns(database, sheet, options, dry_run)
    file = RejectsFile(rejects or beside(path, dry_run=dry_run), [*COLUMNS, *sheet.header])
    job = Job(sheet, columns, options, settings, chunk, dry_run, None if remember and not dry_run else file)
    taken = Taken(now()) if dry_run else await begin(database, job, name or path.name, again)
    report = Report(name or path.name, "checked" if dry_run else "finished", resumed_at=taken.position)
    report.columns = [{"column": c.header, "means": c.target or c.role, "type": c.type} for c in columns]
    if taken.finished:
        report.state = "already"
    else:
        await Run(database, job, taken, progress).all()
    report.rows, report.accepted, report.rejected = taken.position, taken.accepted, taken.rejected
    report.created, report.duplicates = taken.created, taken.duplicates
    report.updated = taken.accepted - taken.created - taken.duplicates
    if job.rejects is not None and job.rejects.path.exists() and taken.rejected:
        report.rejects_file = str(job.rejects.path)
    report.id = taken.id or None
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


async def _check_journey(database: Database, name: str) -> None:
    async with database.begin() as connection:
        rows = await connection.execute(select(journey.c.name, journey.c.state))
        states = {row.name: row.state for row in rows}
    if name not in states:
        raise InvalidInput(Problem(f"there is no journey {name}", did_you_mean(name, tuple(states))))
    if states[name] in {"finishing", "stopped"}:
        raise Conflict(f"the journey {name} is {states[name]}; resume it first")
