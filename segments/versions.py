"""Each publication of a segment: who, when, and what was different."""

import difflib
from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import NotFound
from core.schema.segments import segment, segment_version


async def keep(connection: AsyncConnection, segment_id: int, by: str) -> int:
    """Write down what a segment says now as its next version; gives its number."""
    kept = await connection.execute(
        text(
            # from the row itself, so that the null of a list stays SQL's
            "insert into segment_version (segment_id, number, title, criteria, source, published_by) "
            "select id, 1 + (select coalesce(max(number), 0) from segment_version where segment_id = s.id), "
            "title, criteria, source, :by from segment s where id = :id returning number"
        ),
        {"id": segment_id, "by": by},
    )
    number = int(kept.scalar_one())
    await connection.execute(update(segment).where(segment.c.id == segment_id).values(version=number))
    return number


async def history(connection: AsyncConnection, name: str) -> list[dict[str, Any]]:
    """The versions of a segment, newest first: number, published_at, published_by, changed (lines).

    Raises:
        NotFound: no such segment.
    """
    rows = await _all(connection, name)
    before = {row.number: row.source for row in rows}
    return [
        {
            "version": row.number,
            "published_at": row.published_at,
            "published_by": row.published_by,
            "changed": _changed(before.get(row.number - 1, ""), row.source),
        }
        for row in rows
    ]


async def difference(connection: AsyncConnection, name: str, old: int, new: int) -> str:
    """What changed from one version to another, as a unified diff; empty if nothing did.

    Raises:
        NotFound: no such segment or version.
    """
    sources = {row.number: row.source for row in await _all(connection, name)}
    for number in (old, new):
        if number not in sources:
            raise NotFound(f"the segment {name} has no version {number}; there are 1 to {max(sources, default=0)}")
    lines = difflib.unified_diff(
        sources[old].splitlines(), sources[new].splitlines(), f"{name} {old}", f"{name} {new}", lineterm=""
    )
    return "\n".join(lines)


async def _all(connection: AsyncConnection, name: str) -> list[Any]:
    rows = await connection.execute(
        select(segment_version)
        .join(segment, segment.c.id == segment_version.c.segment_id)
        .where(segment.c.name == name)
        .order_by(segment_version.c.number.desc())
    )
    found = list(rows.all())
    if not found:
        raise NotFound(f"there is no segment {name}")
    return found


def _changed(old: str, new: str) -> str:
    lines = list(difflib.ndiff(old.splitlines(), new.splitlines()))
    return f"+{sum(line[0] == '+' for line in lines)} -{sum(line[0] == '-' for line in lines)}"
