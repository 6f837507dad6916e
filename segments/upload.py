"""Putting a table of identities on a segment's list."""

import asyncio
import csv
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identities
from contacts.sheets import Sheet, defused, open_sheet, restored
from core.errors import InvalidInput, Problem
from core.schema.contacts import IDENTITY_KINDS
from segments import store

_PIECE = 2000


@dataclass(frozen=True)
class Reject:
    """A row that put nobody on the list."""

    line: int
    value: str
    reason: str


@dataclass
class Uploaded:
    """What became of a table."""

    rows: int = 0
    found: int = 0
    added: int = 0
    rejects: tuple[Reject, ...] = ()


async def upload(
    connection: AsyncConnection, name: str, path: Path, column: str | None = None, region: str = "RU"
) -> Uploaded:
    """Put the contacts that a CSV or XLSX file names on a segment's list; rows that name nobody become rejects.

    Args:
        connection: an open transaction.
        name: of a segment with a list.
        path: a table whose first row names the columns.
        column: the one to go by, named like a kind of identity, or `id`; the only such one if None.
        region: country of phones without +.

    Raises:
        NotFound, Conflict: no such segment, or its members follow from criteria.
        InvalidInput: the file cannot be read, or has no such column.
    """
    await store.list_id(connection, name)
    sheet = await asyncio.to_thread(open_sheet, path)
    place, kind = _column(sheet, column)
    done, rejects = Uploaded(), []
    records = sheet.read()
    while piece := await asyncio.to_thread(list, islice(records, _PIECE)):
        wanted: list[tuple[int, tuple[str, str]]] = []
        ids: list[int] = []
        for line, cells in piece:
            value = restored(cells[place].strip()) if place < len(cells) else ""
            if not any(cells):
                continue
            done.rows += 1
            read = _read(kind, value, region)
            if isinstance(read, str):
                rejects.append(Reject(line, value, read))
            else:
                wanted.append((line, read))
        known = await _known(connection, kind, [pair for _, pair in wanted])
        for line, pair in wanted:
            if pair in known:
                ids.append(known[pair])
            else:
                rejects.append(Reject(line, pair[1], f"no contact has this {kind}"))
        done.found += len(ids)
        done.added += await store.add_members(connection, name, ids)
    done.rejects = tuple(sorted(rejects, key=lambda one: one.line))
    return done


def write_rejects(path: Path, rejects: tuple[Reject, ...]) -> None:
    """Write rejects as CSV: line, value, reason."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["line", "value", "reason"])
        writer.writerows(defused([str(one.line), one.value, one.reason]) for one in rejects)


def _column(sheet: Sheet, wanted: str | None) -> tuple[int, str]:
    names = [cell.strip().lower() for cell in sheet.header]
    kinds = (*IDENTITY_KINDS, "id")
    if wanted is not None and wanted not in kinds:
        raise InvalidInput(Problem(f"{wanted} is no kind of identity", "one of " + ", ".join(kinds), path="column"))
    found = [(place, one) for place, one in enumerate(names) if one in kinds and wanted in {None, one}]
    if len(found) != 1:
        message = "no column names contacts" if not found else "several columns could name contacts"
        mend = f"call one of them {wanted or 'email'}" if not found else "say which, with column"
        raise InvalidInput(Problem(message, mend, file=sheet.path.name, line=1, column=1))
    return found[0]


def _read(kind: str, value: str, region: str) -> tuple[str, str] | str:
    """The identity in a cell, or what is wrong with it."""
    if kind == "id":
        return (kind, value) if value.isascii() and value.isdigit() and len(value) < 19 else "this is no number"
    try:
        return kind, identities.normalise(kind, value, region)
    except InvalidInput as error:
        return error.problems[0].message


async def _known(connection: AsyncConnection, kind: str, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    if kind != "id":
        return await identities.lookup(connection, pairs)
    there = await store.existing(connection, [int(value) for _, value in pairs])
    return {pair: int(pair[1]) for pair in pairs if int(pair[1]) in there}
