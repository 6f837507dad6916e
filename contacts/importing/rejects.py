"""Rows that an import left out: in a file beside it or, of uploads, for a few days in a table."""

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts.importing.deciding import Decided
from contacts.importing.reading import Chunk
from core.errors import NotFound

COLUMNS = ("line", "column", "reason")
REMEMBERED = 10_000
"""Rows of one import that the table keeps."""


@dataclass(frozen=True)
class Reject:
    """A row that was left out: where it began, which column, why, and its cells."""

    line: int
    column: str
    reason: str
    cells: tuple[str, ...] = ()

    @property
    def row(self) -> tuple[object, ...]:
        """As a row of the rejects file."""
        return self.line, self.column, self.reason, *self.cells


def rejects_of(chunk: Chunk, decided: Decided) -> list[Reject]:
    """The rows of a chunk that were left out, in their order."""
    return [
        Reject(chunk.records[n][0], column, reason, tuple(chunk.records[n][1]))
        for n, (column, reason) in sorted(decided.rejects.items())
    ]


def read_rejects(path: Path, limit: int) -> list[Reject]:
    """The first rejects of a file that an import wrote."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = itertools.islice(csv.reader(file), 1, limit + 1)
        return [Reject(int(row[0]), row[1], row[2], tuple(row[3:])) for row in rows]


async def remember(connection: AsyncConnection, import_id: int, before: int, rejects: Sequence[Reject]) -> None:
    """Keep rejects in the table; `before` of the import were rejected earlier."""
    kept = rejects[: max(0, REMEMBERED - before)]
    if kept:
        await connection.execute(
            text(
                'insert into import_reject (import_id, line, "column", reason, cells) '
                "values (:import, :line, :column, :reason, :cells)"
            ),
            [
                {
                    "import": import_id,
                    "line": one.line,
                    "column": one.column,
                    "reason": one.reason,
                    "cells": [*one.cells],
                }
                for one in kept
            ],
        )


async def remembered(connection: AsyncConnection, import_id: int, after: int = 0, limit: int = 1000) -> list[Reject]:
    """What the table has of an import's rejects, in the order of their lines.

    Raises:
        NotFound: there is no such import.
    """
    found = await connection.execute(text("select from contact_import where id = :id"), {"id": import_id})
    if found.first() is None:
        raise NotFound(f"there is no import {import_id}")
    rows = await connection.execute(
        text(
            'select line, "column", reason, cells from import_reject where import_id = :id and line > :after '
            "order by line limit :limit"
        ),
        {"id": import_id, "after": after, "limit": limit},
    )
    return [Reject(row.line, row.column, row.reason, tuple(row.cells)) for row in rows]
