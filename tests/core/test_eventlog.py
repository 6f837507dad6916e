"""The log keeps the order of commits, and its rows are what was appended."""

import asyncio
from datetime import UTC, timedelta, timezone

from sqlalchemy import text

from core import eventlog
from core.clock import now
from core.database import Database

WAITING = """
select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database
where locktype = 'advisory' and not granted and datname = current_database()
"""


async def test_rows_are_what_was_appended(database: Database) -> None:
    at = now().replace(microsecond=1)
    elsewhere = at.astimezone(timezone(timedelta(hours=-9, minutes=-30)))
    body = b'{\n\t"a": "back\\\\slash, \\"quote\\", {brace} \\n \\u00e9", "n": null}'
    events = [
        eventlog.NewEvent(1, 1, at, body, 1e300),
        eventlog.NewEvent(2, 1, elsewhere, '{"a": 1.10}', -0.1),
        eventlog.NewEvent(3, 2, at.replace(microsecond=0)),
    ]
    async with database.begin() as connection:
        await eventlog.append(connection, events)
    async with database.begin() as connection:
        rows = await connection.execute(
            text("select contact_id, name_id, occurred_at, value, properties from event order by id")
        )
        assert [tuple(row) for row in rows] == [
            (1, 1, at, 1e300, {"a": 'back\\slash, "quote", {brace} \n é', "n": None}),
            (2, 1, at, -0.1, {"a": 1.1}),
            (3, 2, at.replace(microsecond=0).astimezone(UTC), None, None),
        ]


async def test_whoever_reads_has_seen_everything_before(database: Database) -> None:
    """A transaction that appends waits for one that has appended before and not yet committed."""

    async def append(contact: int) -> None:
        async with database.begin() as connection:
            await eventlog.append(connection, [eventlog.NewEvent(contact, 1, now()) for _ in range(3)])

    async with database.begin() as first:
        await eventlog.append(first, [eventlog.NewEvent(1, 1, now())])
        others = [asyncio.ensure_future(append(contact)) for contact in (2, 3)]
        async with database.begin() as watcher:
            waiting = 0
            while waiting < len(others):
                found = await watcher.execute(text(WAITING))
                waiting = found.scalar_one()
                assert not any(other.done() for other in others)
        async with database.begin() as reader:
            drawn = await reader.execute(text("select last_value from event_id_seq"))
            assert drawn.scalar_one() == 1  # nobody draws an id while he waits
    await asyncio.gather(*others)
    async with database.begin() as reader:
        contacts = (await reader.execute(text("select contact_id from event order by id"))).scalars().all()
    assert len(contacts) == 7
    assert contacts[0] == 1
    assert contacts[1:4] in ([2] * 3, [3] * 3)
