"""Effects that must not happen twice, though the activity that has them may run twice."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


async def first_time(connection: AsyncConnection, members: Sequence[Sequence[int]]) -> list[int]:
    """Those enrollments, given as (enrollment, visit), whose visit has had no effect yet; from now on it has.

    The mark is part of the caller's transaction: it is there if, and only if, the effect is.
    """
    rows = await connection.execute(
        text(
            "insert into applied_visit (enrollment_id, visit) select * from unnest(cast(:ids as bigint[]), "
            "cast(:visits as int[])) order by 1, 2 on conflict do nothing returning enrollment_id"
        ),
        {"ids": [one for one, _ in members], "visits": [visit for _, visit in members]},
    )
    return sorted(rows.scalars())
