"""Writing a segment's members as CSV, piece by piece: however many there are, memory holds one piece."""

import csv
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Text, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts.sheets import defused
from core.clock import now
from core.documents import did_you_mean
from core.errors import InvalidInput, Problem
from core.schema.contacts import IDENTITY_KINDS, attribute, contact, identity
from segments import membership, store
from segments.members import since_column

DEFAULT_COLUMNS = ("id", "email", "since")
_PIECE = 5000
_COLUMNS_LIMIT = 100
_OWN = ("id", "language", "time_zone", "created_at", "updated_at")


class Piece(NamedTuple):
    """A part of a file, and how many members it tells of."""

    text: str
    contacts: int


async def export(
    connection: AsyncConnection, name: str, columns: Sequence[str] = (), *, as_json: bool = False
) -> AsyncIterator[Piece]:
    """The members of a segment as they all are at one moment: CSV (RFC 4180), in pieces, its header first.

    Args:
        connection: an open transaction, for as long as pieces are taken.
        name: the segment's; `all` is everybody.
        columns: `id`, `since`, `tags`, kinds of identities, `language`, `time_zone`, `created_at`, `updated_at`, and
            attributes by their names. No cell can be taken for a formula by a spreadsheet program.
        as_json: one array of JSON objects in place of CSV.

    Raises:
        NotFound: no such segment.
        InvalidInput: a column that does not exist.
    """
    wanted = list(columns) or list(DEFAULT_COLUMNS)
    expressions = await _expressions(connection, name, wanted)
    criteria = await store.members_are(connection, name)
    yield Piece("[" if as_json else _csv([wanted]), 0)
    begun = False
    async for block in membership.everyone(connection, criteria, now()):
        for ids in _batched(block, _PIECE):
            asked = select(*expressions).where(contact.c.id.in_(ids)).order_by(contact.c.id)
            rows = (await connection.execute(asked)).all()
            text = _objects(wanted, rows, begun=begun) if as_json else _csv([_cells(row) for row in rows])
            begun = begun or bool(rows)
            yield Piece(text, len(rows))
    if as_json:
        yield Piece("\n]\n" if begun else "]\n", 0)


async def _expressions(connection: AsyncConnection, name: str, columns: Sequence[str]) -> list[Any]:
    attributes = set((await connection.execute(select(attribute.c.name))).scalars())
    known = ("since", "tags", *_OWN, *IDENTITY_KINDS, *sorted(attributes))
    problems = [
        Problem(f"there is no column {one}", did_you_mean(one, known), path="columns")
        for one in columns
        if one not in known
    ]
    if len(columns) > _COLUMNS_LIMIT:
        problems.append(Problem(f"more than {_COLUMNS_LIMIT} columns", path="columns"))
    if problems:
        raise InvalidInput(*problems)
    return [_expression(name, one).label(f"c{place}") for place, one in enumerate(columns)]


def _expression(name: str, column: str) -> Any:
    if column in _OWN:
        return contact.c[column]
    if column == "tags":
        return func.array_to_string(contact.c.tags, ",")
    if column == "since":
        return since_column(name)
    if column in IDENTITY_KINDS:
        return (
            select(func.min(cast(identity.c.value, Text)))
            .where(identity.c.contact_id == contact.c.id, identity.c.kind == column)
            .scalar_subquery()
        )
    return contact.c.attributes.op("->>", return_type=Text())(column)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _batched(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (ids[first : first + size] for first in range(0, len(ids), size))


def _cells(row: Sequence[Any]) -> list[str]:
    return defused([_text(value) for value in row])


def _objects(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, begun: bool) -> str:
    """Objects of an array, each on a line of its own, with what parts them from those before."""
    lines = [msgspec.json.encode(dict(zip(columns, row, strict=True))).decode() for row in rows]
    return "".join(f"{',' if begun or place else ''}\n{line}" for place, line in enumerate(lines))


def _csv(rows: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()
