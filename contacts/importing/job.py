"""One import: what was decided before its first row, and how far it is."""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime

import msgspec
from sqlalchemy import text

from contacts import sheets
from contacts.columns import Column, Options
from contacts.rejects import RejectsFile
from core.database import Database
from core.settings import Settings


@dataclass(frozen=True)
class Job:
    """One import, as decided before its first row."""

    sheet: sheets.Sheet
    columns: list[Column]
    options: Options
    settings: Settings
    chunk: int
    dry_run: bool
    rejects: RejectsFile | None
    """Where rows that are left out go; None for the table."""

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
class Taken:
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


async def begin(database: Database, job: Job, name: str, again: bool) -> Taken:
    """Find how far earlier runs came."""
    async with database.begin() as connection:
        row = await connection.execute(_BEGIN, {"fingerprint": job.fingerprint, "file": name, "again": again})
        taken = Taken(**row.mappings().one())
        if not taken.position:
            await connection.execute(text("delete from import_reject where import_id = :id"), {"id": taken.id})
        return taken
