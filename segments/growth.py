"""How segments grew: a row for each day.

Where members are kept, a trigger counts comings and goings as they are written. Other segments are counted once a day.
"""

from datetime import date, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import now
from segments import membership, store, trouble


async def growth(connection: AsyncConnection, name: str, days: int = 30) -> list[dict[str, Any]]:
    """The last days on which something is known, oldest first: day, members, entered, gone (None if not tracked).

    Raises:
        NotFound: no such segment.
    """
    row = await store.row_of(connection, name)
    rows = await connection.execute(
        text(
            "select day, members, entered, gone from segment_day where segment_id = :id and day > :first order by day"
        ),
        {"id": row.id, "first": _today() - timedelta(days=days)},
    )
    return [dict(one) for one in rows.mappings()]


async def count_next(connection: AsyncConnection) -> bool:
    """Count one of the segments that nobody has counted today.

    Returns:
        Whether there was one.
    """
    row = (
        await connection.execute(
            text(
                "select id, name, tracking, members from segment s where not exists (select from segment_day d "
                "where d.segment_id = s.id and d.day = :today) and coalesce(rests_until <= now(), true) "
                "order by id limit 1"
            ),
            {"today": _today()},
        )
    ).first()
    if row is None:
        return False
    async with trouble.noted(connection, row.id, row.name):
        kept = row.tracking == "on"
        criteria = await store.members_are(connection, row.name)
        await connection.execute(
            text(
                "insert into segment_day (segment_id, day, members, entered, gone) values (:id, :today, :members, "
                "case when :kept then 0 end, case when :kept then 0 end) on conflict do nothing"
            ),
            {
                "id": row.id,
                "today": _today(),
                "members": row.members if kept else await membership.count(connection, criteria),
                "kept": kept,
            },
        )
    return True


def _today() -> date:
    return now().date()
