"""Writing checked events to the log: one transaction for many requests, each event once."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts.identities import resolve
from core import eventlog
from core.database import Database, driver
from core.ids import derived_hex
from core.schema import partitions
from core.schema.partitions import month_start
from tracker.wire import Incoming

_NAMES_LOCK = 0x6B61736E  # "kasn": one maker of event names at a time


class Entry(msgspec.Struct, frozen=True):
    """An event on its way into the log; `key`, a UUID in hexadecimal, is None for events that came without an id."""

    event: Incoming
    key: str | None


def entries(events: Iterable[Incoming], sender: int) -> list[Entry]:
    """Give events the keys they are deduplicated by: an id counts within the API key that sent it."""
    space = str(sender)
    return [Entry(event, None if event.id is None else derived_hex(space, event.id)) for event in events]


class Names:
    """The numbers of event names, remembered for the life of the process: they never change."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.numbers: dict[str, int] = {}

    async def learn(self, database: Database, names: Iterable[str]) -> None:
        """Find or make the numbers of names; those beyond the limit stay without one.

        In its own transaction, so that nobody waits for a name that a long one has just made.
        """
        unknown = set(names) - self.numbers.keys()
        if not unknown:
            return
        async with database.begin() as connection:
            await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _NAMES_LOCK})
            rows = await connection.execute(text("select name from event_name"))
            existing = set(rows.scalars())
            room = max(0, self.limit - len(existing))
            wanted = [*(unknown & existing), *sorted(unknown - existing)[:room]]
            found = await eventlog.name_ids(connection, wanted)
        self.numbers.update(found)


class Months:
    """The months that the log has partitions for, as far as this process knows."""

    def __init__(self) -> None:
        self.known: set[datetime] = set()

    async def provide(self, database: Database, times: Iterable[datetime]) -> None:
        """Make the partitions that are missing for events of these times."""
        wanted = {(at.year, at.month): at for at in times}
        for at in wanted.values():
            month = month_start(at.astimezone(UTC))
            if month not in self.known:
                async with database.begin() as connection:
                    await partitions.ensure(connection, "event", month, month)
                self.known.add(month)


async def store(connection: AsyncConnection, batch: Sequence[Entry], names: Mapping[str, int]) -> list[bool]:
    """Append to the log those entries whose key has not been seen, in the order given.

    The last thing of its transaction, since `eventlog.append` holds the log's lock until the commit. Every process
    takes its locks in the same order here: keys (sorted), identities, the log.

    Returns:
        For each entry whether it was new.
    """
    new = await _claim(connection, [entry.key for entry in batch])
    events = [entry.event for entry, is_new in zip(batch, new, strict=True) if is_new]
    if events:
        contacts = await resolve(connection, [(event.kind, event.identity) for event in events])
        rows = [
            eventlog.NewEvent(contact_id, names[event.name], event.at, event.properties, event.value)
            for event, contact_id in zip(events, contacts, strict=True)
        ]
        await eventlog.append(connection, rows)
    return new


_CLAIM = """
with given as materialized (select unnest(%s::uuid[]) as key),
new as (insert into event_key (key) select key from given on conflict do nothing returning key)
select replace(key::text, '-', '') from given where key not in (select key from new)
"""


async def _claim(connection: AsyncConnection, keys: Sequence[str | None]) -> list[bool]:
    """Which keys are new, each the first time it stands in the list; they are remembered with this transaction."""
    wanted = sorted({key for key in keys if key is not None})
    if not wanted:
        return [True] * len(keys)
    raw = await driver(connection)
    cursor = await raw.execute(_CLAIM, (f"{{{','.join(wanted)}}}",))
    used: set[str | None] = {key for (key,) in await cursor.fetchall()}
    if not used and len(wanted) == len(keys):
        return [True] * len(keys)
    new = []
    for key in keys:
        new.append(key is None or key not in used)
        if key is not None:
            used.add(key)
    return new
