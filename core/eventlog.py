"""Appending to and reading the event log.

The log has one order, the order of commits, and no gaps: whoever appends holds an advisory lock from the moment
ids are given out until the commit. A reader that has seen event N has seen everything before N, so a position in
the log is one number. (`id > last` alone would lose rows, because ids are given out before the commit.) See
docs/decisions/0001-one-order-for-the-event-log.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database import driver

_LOG_LOCK = 0x6B61736B  # "kask"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event about to be written; `properties` is a JSON object, as text or bytes, or None."""

    contact_id: int
    name_id: int
    occurred_at: datetime
    properties: bytes | str | None = None
    value: float | None = None


async def lock(connection: AsyncConnection) -> None:
    """Take the right to append until the transaction ends. Take it last, and do nothing slow while holding it."""
    await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOG_LOCK})


async def append(connection: AsyncConnection, events: Sequence[NewEvent]) -> None:
    """Write events at the end of the log. Call it as the last thing of a transaction: others wait meanwhile."""
    await lock(connection)
    raw = await driver(connection)
    columns = "occurred_at, contact_id, name_id, value, properties"
    async with raw.cursor() as cursor, cursor.copy(f"copy event ({columns}) from stdin") as copy:
        for event in events:
            properties = event.properties
            if isinstance(properties, bytes):
                properties = properties.decode()
            await copy.write_row(
                (event.occurred_at, event.contact_id, event.name_id, event.value, properties)
            )


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
    rows = await connection.execute(
        text("select name, id from event_name where name = any(:names)"), {"names": wanted}
    )
    return {name: number for name, number in rows}
