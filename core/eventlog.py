"""Appending to and reading the event log.

The log has one order, the order of commits, and no gaps: whoever appends holds an advisory lock from the moment
ids are given out until the commit. A reader that has seen event N has seen everything before N, so a position in
the log is one number. (`id > last` alone would lose rows, because ids are given out before the commit.) See
docs/decisions/0001-one-order-for-the-event-log.md.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database import Direct, array_of, driver

ENTER = "journey.enter"
"""The event by which people and programs put a contact into a journey; its properties name the journey and the key."""

_LOG_LOCK = 0x6B61736B  # "kask"


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event about to be written; `properties` is a JSON object, as text or bytes, or None."""

    contact_id: int
    name_id: int
    occurred_at: datetime
    properties: bytes | str | None = None
    value: float | None = None
    site_id: int | None = None
    """The site whose page reported it: only what takes in hits may say so."""


# The lock is taken before the first row draws its id. Nothing is read here, so it does not matter that the
# statement's snapshot is older than the lock. The elements come in the order they are stored in. The properties travel
# as one JSON array: as an array of texts each was quoted here, and unquoted and parsed alone there (3 µs an event).
_APPEND = """
with held as materialized (select pg_advisory_xact_lock(%s::bigint))
insert into event (occurred_at, contact_id, name_id, value, site_id, properties)
select at, contact, name, value, site, nullif(properties, 'null')
from held, rows from (
    unnest(%s::timestamptz[], %s::bigint[], %s::int[], %s::float8[], %s::int[]), jsonb_array_elements(%s::jsonb)
) as given (at, contact, name, value, site, properties)
"""


async def append(connection: AsyncConnection | Direct, events: Sequence[NewEvent]) -> None:
    """Write events at the end of the log. Call it as the last thing of a transaction: others wait meanwhile.

    One statement takes the lock and writes, so that on a pipeline with its commit nobody waits for this process while
    the lock is held. Measured at 500 events: 0.9 µs of this process for an event and 5.6 of PostgreSQL; COPY, which
    no pipeline takes, 1.1 and 5.2.
    """
    if not events:
        return
    raw = await driver(connection)
    await raw.execute(_APPEND, (_LOG_LOCK, *_columns(events)))


async def make_history(connection: AsyncConnection, count: int) -> None:
    """Let the last `count` events, which this transaction has just appended, be history, which the router passes over.

    Their ids are one stretch, because whoever appends holds the lock of the log until it commits.
    """
    await connection.execute(
        text(
            "with mine as (select currval('event_id_seq') as last_id), "
            "longer as (update log_history h set last_id = mine.last_id from mine "
            "where h.last_id = mine.last_id - :count returning h.first_id) "
            "insert into log_history (first_id, last_id) select last_id - :count + 1, last_id from mine "
            "where not exists (select from longer)"
        ),
        {"count": count},
    )


async def next_stretch(connection: AsyncConnection, position: int, last: int) -> tuple[int, int]:
    """The next events after a position that are no history: those after the first number, up to the second.

    Both are `last` when there are none.
    """
    rows = await connection.execute(
        text("select first_id, last_id from log_history where last_id > :position and first_id <= :last order by 1"),
        {"position": position, "last": last},
    )
    for row in rows:
        if row.first_id > position + 1:
            return position, min(row.first_id - 1, last)
        position = min(row.last_id, last)
    return position, last


def _columns(events: Sequence[NewEvent]) -> tuple[str, ...]:
    """The columns as array literals, the last as a JSON array."""
    numbers = (
        [event.occurred_at for event in events],
        [event.contact_id for event in events],
        [event.name_id for event in events],
        [event.value for event in events],
        [event.site_id for event in events],
    )
    properties = [
        event.properties.decode() if isinstance(event.properties, bytes) else event.properties or "null"
        for event in events
    ]
    return (*(array_of(column) for column in numbers), f"[{','.join(properties)}]")


async def record(
    connection: AsyncConnection,
    name: str,
    contact_id: int,
    at: datetime,
    properties: dict[str, Any] | None = None,
) -> None:
    """Append one event of our own, such as message.opened. The last thing of its transaction, like `append`."""
    names = await name_ids(connection, [name])
    body = msgspec.json.encode(properties) if properties else None
    await append(connection, [NewEvent(contact_id, names[name], at, body)])


async def name_ids(connection: AsyncConnection, names: Sequence[str]) -> dict[str, int]:
    """The numbers of event names; new names get one. Names are few and numbers never change: callers may cache."""
    wanted = sorted(set(names))
    await connection.execute(
        text(
            "insert into event_name (name) select n from unnest(cast(:names as text[])) n "
            "where n not in (select name from event_name) on conflict do nothing"
        ),
        {"names": wanted},
    )
    rows = await connection.execute(text("select name, id from event_name where name = any(:names)"), {"names": wanted})
    return {row.name: row.id for row in rows}
