"""Who comes into a segment and who leaves it, as events of the log: `segment.entered` and `segment.left`.

Segments that somebody listens to are tracked: the table `segment_presence` says who was in when it was last looked at,
and what differs from that is written to the log in the same transaction. Contacts to whom something happened are looked
at at once; everybody is gone through in pages over and over, because time passes and facts change without an event. A
page is one transaction, and its effort is bounded by the members in it (200,000 contacts of whom half are members: 51
pages in 0.2 s when nothing has changed). Who is in when tracking begins has not entered.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import eventlog
from core.clock import now
from segments import criteria, membership

ENTERED = "segment.entered"
LEFT = "segment.left"

PAGE = 2000
_LEAST_REST = timedelta(seconds=10)
_REST_FACTOR = 9
"""After going through everybody, rest so many times as long as it took."""


async def listen(connection: AsyncConnection, names: Collection[str] | None) -> None:
    """Track these segments (all, if None) from now on, and no others."""
    wanted = {"names": sorted(names or ()), "all": names is None}
    await connection.execute(
        text(
            "delete from segment_presence p using segment s where s.id = p.segment_id and s.tracking is not null "
            "and not (:all or s.name = any(:names))"
        ),
        wanted,
    )
    await connection.execute(
        text("update segment set tracking = null where tracking is not null and not (:all or name = any(:names))"),
        wanted,
    )
    await connection.execute(
        text(
            "update segment set tracking = 'beginning', sweep_position = 0, sweep_begun_at = now(), "
            "sweep_due_at = now() where tracking is null and (:all or name = any(:names))"
        ),
        wanted,
    )


async def look_at(connection: AsyncConnection, contact_ids: Sequence[int]) -> int:
    """Look at contacts to whom something happened. The last thing of its transaction, as it writes to the log.

    Returns:
        How many came or left.
    """
    rows = await connection.execute(text("select id, name from segment where tracking = 'on' order by id for update"))
    changes = 0
    events: list[tuple[str, str, int]] = []
    for row in rows.all():
        members = await membership.matching(connection, criteria.parse({"contact.segments": row.name}), contact_ids)
        before = set(
            (
                await connection.execute(
                    text(
                        "select contact_id from segment_presence where segment_id = :segment and contact_id = any(:ids)"
                    ),
                    {"segment": row.id, "ids": list(contact_ids)},
                )
            ).scalars()
        )
        events += await _write(connection, row.id, row.name, members, before)
        changes += len(members ^ before)
    await _tell(connection, events)
    return changes


async def sweep(connection: AsyncConnection, limit: int = PAGE) -> bool:
    """Go through the next page of the segment whose turn it is. The last thing of its transaction.

    Returns:
        Whether there was one.
    """
    row = (
        await connection.execute(
            text(
                "select id, name, tracking, sweep_position, sweep_begun_at from segment where tracking is not null "
                "and sweep_due_at <= now() order by sweep_due_at, id limit 1 for update skip locked"
            )
        )
    ).first()
    if row is None:
        return False
    found = await membership.page(connection, criteria.parse({"contact.segments": row.name}), row.sweep_position, limit)
    last = found[-1] if len(found) == limit else None
    before = set(
        (
            await connection.execute(
                text(
                    "select contact_id from segment_presence where segment_id = :segment and contact_id > :after "
                    "and (cast(:last as bigint) is null or contact_id <= :last)"
                ),
                {"segment": row.id, "after": row.sweep_position, "last": last},
            )
        ).scalars()
    )
    events = await _write(connection, row.id, row.name, set(found), before)
    begun = row.sweep_begun_at or now()
    rest = max(_LEAST_REST, _REST_FACTOR * (now() - begun)) if last is None else timedelta()
    await connection.execute(
        text(
            "update segment set sweep_position = :position, "
            "tracking = case when :done then 'on' else tracking end, "
            "sweep_begun_at = case when :done then null when sweep_begun_at is null then :begun "
            "else sweep_begun_at end, sweep_due_at = :due where id = :id"
        ),
        {"id": row.id, "position": last or 0, "done": last is None, "begun": begun, "due": now() + rest},
    )
    await _tell(connection, events if row.tracking == "on" else [])
    return True


async def _write(
    connection: AsyncConnection, segment_id: int, name: str, members: set[int], before: set[int]
) -> list[tuple[str, str, int]]:
    """Bring the table to what is true; gives (event, segment, contact) for each who came or left."""
    came, gone = sorted(members - before), sorted(before - members)
    if came:
        await connection.execute(
            text(
                "insert into segment_presence (segment_id, contact_id) "
                "select :segment, unnest(cast(:ids as bigint[])) on conflict do nothing"
            ),
            {"segment": segment_id, "ids": came},
        )
    if gone:
        await connection.execute(
            text("delete from segment_presence where segment_id = :segment and contact_id = any(:ids)"),
            {"segment": segment_id, "ids": gone},
        )
    return [*((ENTERED, name, contact) for contact in came), *((LEFT, name, contact) for contact in gone)]


async def _tell(connection: AsyncConnection, events: Sequence[tuple[str, str, int]]) -> None:
    if events:
        numbers = await eventlog.name_ids(connection, [ENTERED, LEFT])
        at = now()
        await eventlog.append(
            connection,
            [
                eventlog.NewEvent(contact, numbers[event], at, msgspec.json.encode({"segment": name}))
                for event, name, contact in events
            ],
        )
