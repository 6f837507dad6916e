"""The rejects file: rows that were left out, with line, column and reason."""

import csv
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contacts import sheets
from contacts.importing.deciding import Decided
from contacts.importing.reading import Chunk


@dataclass(frozen=True)
class Reject:
    """A row that was left out: where it began, which column, why, and its cells."""

    line: int
    column: str
    reason: str
    cells: tuple[str, ...] = ()


def rejects_of(chunk: Chunk, decided: Decided) -> list[Reject]:
    return [
        Reject(chunk.records[n][0], column, reason, tuple(chunk.records[n][1]))
        for n, (column, reason) in sorted(decided.rejects.items())
    ]


def append_rejects(path: Path, header: Sequence[str], rejects: Sequence[Reject]) -> None:
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


def keep_rejects(path: Path, last_line: int) -> None:
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
