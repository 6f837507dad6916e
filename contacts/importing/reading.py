"""Reading and checking a file's rows, chunk by chunk; in a thread, so nothing here waits for the database."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contacts import sheets
from contacts.columns import Column, reader
from contacts.importing.job import Job
from core.errors import InvalidInput, Problem


@dataclass
class Chunk:
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
    company: Sequence[str | None]
    consent: Sequence[bool | None]
    evidence: Sequence[str | None]
    rejects: dict[int, tuple[str, str]]


class Reader:
    """Turns the records of a file into chunks."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._records = job.sheet.read()
        self._width = len(job.sheet.header)
        self._readers = {c.place: reader(c, job.settings.phone_region) for c in job.columns}

    def next(self, size: int) -> Chunk | None:
        """The next rows, checked; None after the last one."""
        records = list(itertools.islice(self._records, size))
        return self._check(records) if records else None

    def _check(self, records: list[sheets.Record]) -> Chunk:
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
        return Chunk(
            records=records,
            kinds=kinds,
            good=[n for n in range(count) if n not in rejects and n not in blank],
            fragments=fragments,
            language=self._single("language", values, count),
            time_zone=self._single("time_zone", values, count),
            tags=self._single("tags", values, count),
            company=self._single("company", values, count),
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
