"""How much two segments have in common."""

from typing import Any

from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.schema.contacts import contact
from segments import membership, store
from segments.resolving import resolve


async def overlap(connection: AsyncConnection, one: str, other: str) -> dict[str, Any]:
    """Count who is in both of two segments, and in either, in one look at everybody.

    Returns:
        `one` and `other`: their counts; `both`; `only_one`; `only_other`; `either`; and `share`, the part of `either`
        that is in both (the Jaccard index), None if there is nobody.

    Raises:
        NotFound: no such segment.
    """
    clauses = []
    for name in (one, other):
        criteria = await store.members_are(connection, name)
        clauses.append(literal(True) if criteria is None else (await resolve(connection, criteria)).clause())
    both_of = select(clauses[0].label("first"), clauses[1].label("second")).select_from(contact).subquery()
    first, second = both_of.c.first, both_of.c.second
    await connection.execute(membership.STREAMING)
    row = (
        await connection.execute(
            select(
                func.count().filter(first).label("first"),
                func.count().filter(second).label("second"),
                func.count().filter(first, second).label("both"),
            ).select_from(both_of)
        )
    ).one()
    either = row.first + row.second - row.both
    return {
        "one": row.first,
        "other": row.second,
        "both": row.both,
        "only_one": row.first - row.both,
        "only_other": row.second - row.both,
        "either": either,
        "share": round(row.both / either, 4) if either else None,
    }
