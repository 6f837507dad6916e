"""Writing checked events to the log: one transaction for many requests, each event once."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import compress
from typing import Any

import msgspec
from psycopg import AsyncCursor
from sqlalchemy import text

from contacts import identities
from core import eventlog
from core.database import Database, Direct
from core.ids import derived_hex
from core.schema import partitions
from core.schema.partitions import month_start
from tracker import sessions
from tracker.wire import Incoming

FULL_SECONDS = 5.0
"""How long a process believes that there is no room for new names of events."""
_NAMES_LOCK = 0x6B61736E  # "kasn": one maker of event names at a time


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An event on its way into the log; `key`, a UUID in hexadecimal, is None for events that came without an id."""

    event: Incoming
    key: str | None
    visit: sessions.Visit | None = None
    """What it tells about its contact's sessions, if it came from a site."""


class New(Enum):
    """Whether an entry was new."""

    YES = 1
    NO = 2
    ERASED = 3
    """Its anonymous id belonged to somebody who was erased: it is not stored."""


def entries(events: Iterable[Incoming], sender: int) -> list[Entry]:
    """Give events the keys they are deduplicated by: an id counts within the API key that sent it."""
    space = str(sender)
    return [Entry(event, None if event.id is None else derived_hex(space, event.id)) for event in events]


class Names:
    """The numbers of event names, remembered for the life of the process: they never change."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.numbers: dict[str, int] = {}
        self._full_until: dict[float, float] = {}

    async def learn(self, database: Database, names: Iterable[str], share: float = 1) -> None:
        """Find or make the numbers of names; those beyond the limit, or a share of it, stay without one.

        In its own transaction, so that nobody waits for a name that a long one has just made. Once there is no room,
        nobody looks for new names for FULL_SECONDS: whoever sends one after the other would hold all others up.
        """
        unknown = set(names) - self.numbers.keys()
        if not unknown or time.monotonic() < self._full_until.get(share, 0):
            return
        async with database.begin() as connection:
            await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _NAMES_LOCK})
            rows = await connection.execute(text("select name, id from event_name"))
            existing = {row.name: row.id for row in rows}
            room = max(0, int(self.limit * share) - len(existing))
            wanted = sorted(unknown - existing.keys())
            made = await eventlog.name_ids(connection, wanted[:room])
        self.numbers |= existing | made
        if len(wanted) > room:
            self._full_until[share] = time.monotonic() + FULL_SECONDS


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


async def store(
    connection: Direct, batch: Sequence[Entry], names: Mapping[str, int], gap: timedelta = timedelta(minutes=30)
) -> list[New]:
    """Append to the log those entries whose key has not been seen, in the order given, and commit.

    Two round trips, one more when somebody is new and one more when hits are among them: what can be asked together is
    sent together, and the append travels with its commit. Every process takes its locks in the same order here:
    against erasure, keys (sorted), identities, sessions, the log.

    Returns:
        For each entry whether it was new, and so is stored now.
    """
    pairs = [(entry.event.kind, entry.event.identity) for entry in batch]
    async with connection.pipeline():
        await connection.execute("begin")
        await identities.hold_off_erasure(connection)
        claim = await _claim(connection, [entry.key for entry in batch])
        answer = await identities.ask(connection, pairs)
        new = await claim.new()
        found = await answer.contacts()
        if not all(new):
            batch, pairs, found = list(compress(batch, new)), list(compress(pairs, new)), list(compress(found, new))
        contacts = await identities.complete(connection, pairs, found)
        rows, visits = [], []
        for entry, contact in zip(batch, contacts, strict=True):
            if contact is None:
                continue
            event, visit = entry.event, entry.visit
            site_id = None if visit is None else visit.site_id
            rows.append(eventlog.NewEvent(contact, names[event.name], event.at, event.properties, event.value, site_id))
            if visit is not None:
                visits.append((contact, visit))
        await sessions.record(connection, visits, gap)
        await eventlog.append(connection, rows)
        await connection.execute("commit")
    return _outcomes(new, contacts)


def _outcomes(new: Sequence[bool], contacts: Sequence[int | None]) -> list[New]:
    """What became of each entry, told by which were new, and the contacts of those."""
    if None not in contacts and all(new):
        return [New.YES] * len(new)
    left = iter(contacts)
    return [(New.ERASED if next(left) is None else New.YES) if is_new else New.NO for is_new in new]


_CLAIM = """
with given as materialized (select unnest(%s::uuid[]) as key),
new as (insert into event_key (key) select key from given on conflict do nothing returning key)
select replace(key::text, '-', '') from given where key not in (select key from new)
"""


async def _claim(connection: Direct, keys: Sequence[str | None]) -> "_Claim":
    """Ask for keys, which are remembered with this transaction."""
    wanted = sorted({key for key in keys if key is not None})
    return _Claim(keys, len(wanted), await connection.execute(_CLAIM, (f"{{{','.join(wanted)}}}",)))


@dataclass(frozen=True)
class _Claim:
    """Keys that were asked for: all of them, how many differ, and where the answer will be."""

    keys: Sequence[str | None]
    distinct: int
    cursor: AsyncCursor[tuple[Any, ...]]

    async def new(self) -> list[bool]:
        """Which keys are new, each the first time it stands in the list. No key is always new."""
        used: set[str | None] = {key for (key,) in await self.cursor.fetchall()}
        if not used and self.distinct == len(self.keys):
            return [True] * len(self.keys)
        new = []
        for key in self.keys:
            new.append(key is None or key not in used)
            if key is not None:
                used.add(key)
        return new
