"""Segments whose members are kept up to date: who comes and who leaves, as events of the log.

`segment_presence` says who is in a tracked segment. What differs from that is written there and to the log, as
`segment.entered` and `segment.left`, in one transaction. Three things make somebody be looked at:

- an event of the log, for the segments that ask about events of its name (`look_at`);
- a changed fact, which triggers note in `segment_look` while a tracked segment depends on its table (`look_on`);
- time: segments whose criteria look at the clock are gone through again and again, by one query over everybody whose
  difference to what is kept goes to `segment_look` as well (`sweep`). The others are gone through once a day.

Looking asks the criteria anew, so it may happen twice, late or for nothing, and never does harm. A tracked segment is
`beginning` until everybody has been looked at once; who is in by then has not entered.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import Integer, Select, bindparam, func, insert, literal, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identities
from core import eventlog
from core.clock import now
from core.schema.contacts import contact
from core.schema.segments import segment_look, segment_presence
from segments import criteria, dependencies, membership, naming, trouble
from segments.naming import ENTERED, LEFT
from segments.resolving import resolve

PAGE = 5000
LEAST_REST = timedelta(seconds=30)
_REST_FACTOR = 19
"""Going through everybody takes at most one part in twenty of a connection's time."""
_DAILY = timedelta(days=1)


@dataclass(frozen=True)
class _Tracked:
    id: int
    name: str
    telling: bool
    depends: tuple[str, ...]


@dataclass
class Questions:
    """The statements of tracked segments, kept between calls; one for a process."""

    state: int = -1
    by_name: dict[str, Select[Any]] = field(default_factory=dict)

    async def of(self, connection: AsyncConnection, name: str) -> Select[Any]:
        """Which of `:ids` are in a segment."""
        if name not in self.by_name:
            self.by_name[name] = membership.matching_statement(await _resolved(connection, name))
        return self.by_name[name]


async def _resolved(connection: AsyncConnection, name: str) -> criteria.Criteria:
    return await resolve(connection, criteria.parse({"contact.segments": name}))


# --- which segments are tracked


async def listen(connection: AsyncConnection, names: Collection[str] | None) -> None:
    """Track these segments (all, if None) and those that are kept because they are asked for; and no others."""
    wanted = {"names": sorted(names or ()), "all": names is None}
    await _let_go(connection, wanted)
    rows = await connection.execute(
        text(
            "select id, name from segment where tracking is null and (:all or name = any(:names) "
            "or kept_until > now()) and coalesce(rests_until <= now(), true) order by id"
        ),
        wanted,
    )
    for row in rows.all():
        async with trouble.noted(connection, row.id, row.name):
            await begin(connection, row.name)


async def _let_go(connection: AsyncConnection, wanted: Mapping[str, Any]) -> None:
    """Not tracked any more before their rows go: nobody leaves because keeping ends."""
    idle = await connection.execute(
        text(
            "update segment set tracking = null, kept_until = null, depends = '{}', unnoted_before = null "
            "where tracking is not null and not (:all or name = any(:names)) and coalesce(kept_until < now(), true) "
            "returning id"
        ),
        wanted,
    )
    await connection.execute(
        text("delete from segment_presence where segment_id = any(:ids)"), {"ids": list(idle.scalars())}
    )


async def begin(connection: AsyncConnection, name: str) -> None:
    """Track a segment from now on."""
    await connection.execute(
        text(
            "update segment set tracking = 'beginning', depends = :depends, sweep_due_at = now(), unnoted_before = 0 "
            "where name = :name and tracking is null"
        ),
        {"name": name, "depends": await _depends(connection, name)},
    )


async def renew(connection: AsyncConnection, name: str) -> None:
    """A segment was changed: find out anew what it and those that name it depend on, and go through them at once."""
    rows = await connection.execute(
        text("select name from segment where name = any(:names) and tracking is not null order by name"),
        {"names": sorted(await naming.around_it(connection, name))},
    )
    for one in rows.scalars().all():
        await connection.execute(
            text("update segment set depends = :depends, sweep_due_at = now(), unnoted_before = 0 where name = :name"),
            {"name": one, "depends": await _depends(connection, one)},
        )


async def _depends(connection: AsyncConnection, name: str) -> list[str]:
    return sorted(dependencies.of((await _resolved(connection, name)).clause()))


async def tracks(connection: AsyncConnection) -> bool:
    """Whether any segment is tracked."""
    found = await connection.execute(text("select exists (select from segment where tracking is not null)"))
    return bool(found.scalar_one())


# --- looking


async def look_at(
    connection: AsyncConnection, events: Iterable[tuple[int, str]], questions: Questions | None = None
) -> int:
    """Look at contacts to whom something happened. The last thing of its transaction, as it writes to the log.

    Args:
        connection: an open transaction.
        events: contact and name of each event.
        questions: kept by whoever calls often.

    Returns:
        How many came or left.
    """
    happened: dict[str, set[int]] = defaultdict(set)
    for contact_id, name in events:
        happened[name].add(contact_id)
    tracked = await _tracked(connection)
    work = {
        one: {
            contact_id
            for name, ids in happened.items()
            if dependencies.touched_by(one.depends, name)
            for contact_id in ids
        }
        for one in tracked
    }
    told, changes = await _look(connection, work, questions or Questions())
    await _tell(connection, told)
    return changes


async def look_on(connection: AsyncConnection, questions: Questions | None = None, limit: int = PAGE) -> int:
    """Look at the next contacts of whom a fact changed, or whom a sweep found. The last thing of its transaction.

    Returns:
        How many were taken from `segment_look`; 0 if nobody waits.
    """
    tracked = await _tracked(connection)
    taken = await connection.execute(
        _TAKE,
        {"limit": limit},
    )
    rows = taken.all()
    work = {
        one: {
            row.contact_id
            for row in rows
            if row.segment_id == one.id or (row.segment_id is None and row.cause in one.depends)
        }
        for one in tracked
    }
    events, _ = await _look(connection, work, questions or Questions())
    await _begun(connection, sorted({row.segment_id for row in rows if row.segment_id is not None}))
    await _tell(connection, events)
    return len(rows)


async def _tracked(connection: AsyncConnection) -> list[_Tracked]:
    await identities.hold_off_erasure(connection)  # before any lock that an erasure waits for with contacts in hand
    rows = await connection.execute(
        text("select id, name, tracking, depends from segment where tracking is not null order by id for no key update")
    )
    return [_Tracked(row.id, row.name, row.tracking == "on", tuple(row.depends)) for row in rows]


async def _look(
    connection: AsyncConnection, work: Mapping[_Tracked, set[int]], questions: Questions
) -> tuple[list[tuple[str, str, int]], int]:
    """Bring what is kept up to date; gives the events that are to be told, and how many came or left."""
    if not any(work.values()):
        return [], 0
    await connection.execute(membership.PLANNED)
    state = (await connection.execute(text("select coalesce(sum(version), 0) + count(*) from segment"))).scalar_one()
    if state != questions.state:
        questions.by_name.clear()
        questions.state = state
    events: list[tuple[str, str, int]] = []
    changes = 0
    for one, ids in work.items():
        if not ids:
            continue
        async with trouble.noted(connection, one.id, one.name):
            came, gone = await _changed(connection, one, sorted(ids), questions)
            changes += len(came) + len(gone)
            if one.telling:
                events += [(ENTERED, one.name, number) for number in came]
                events += [(LEFT, one.name, number) for number in gone]
    return events, changes


async def _changed(
    connection: AsyncConnection, one: _Tracked, ids: list[int], questions: Questions
) -> tuple[list[int], list[int]]:
    """Bring what is kept about some contacts to what is true; gives who came and who left."""
    statement = await questions.of(connection, one.name)
    members = set((await connection.execute(statement, {"ids": ids})).scalars())
    before = await _present(connection, one.id, ids)
    came, gone = sorted(members - before), sorted(before - members)
    await _write(connection, one.id, came, gone)
    return came, gone


_TAKE = text(
    """
    with facts as (
        select id from segment_look where segment_id is null order by id limit :limit for update skip locked
    ), found as (
        select id from segment_look where segment_id = (select min(segment_id) from segment_look)
        order by id limit :limit for update skip locked
    )
    delete from segment_look l where l.id in (select id from facts union all select id from found)
    returning l.contact_id, l.cause, l.segment_id
    """
)
"""Of both kinds, so that neither what changes all the time nor a million whom a sweep found keeps the other waiting."""


async def _present(connection: AsyncConnection, segment_id: int, contact_ids: Sequence[int]) -> set[int]:
    rows = await connection.execute(
        text("select contact_id from segment_presence where segment_id = :segment and contact_id = any(:ids)"),
        {"segment": segment_id, "ids": contact_ids},
    )
    return set(rows.scalars())


async def _write(connection: AsyncConnection, segment_id: int, came: list[int], gone: list[int]) -> None:
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


async def _tell(connection: AsyncConnection, events: Sequence[tuple[str, str, int]]) -> None:
    if events:
        numbers = await eventlog.name_ids(connection, [ENTERED, LEFT])
        at = now()
        await eventlog.append(
            connection,
            [
                eventlog.NewEvent(number, numbers[event], at, msgspec.json.encode({"segment": name}))
                for event, name, number in events
            ],
        )


# --- going through everybody


async def sweep(connection: AsyncConnection) -> bool:
    """Find, by one query, everybody whose membership in the segment whose turn it is differs from what is kept.

    They are looked at by `look_on`; what was found before has to be worked off first.

    Returns:
        Whether there was a segment to go through.
    """
    row = (await connection.execute(_TURN)).first()
    if row is None:
        return False
    async with trouble.noted(connection, row.id, row.name):
        begun = now()
        await connection.execute(membership.STREAMING)
        members = select(contact.c.id).where((await _resolved(connection, row.name)).clause()).subquery("members")
        await connection.execute(_difference(members), {"segment": row.id})
        await connection.execute(
            _SWEPT,
            {
                "id": row.id,
                "due": now() + (timedelta() if row.unnoted_before == 0 else _rest(row.depends, now() - begun)),
                "again": row.unnoted_before == 0,
            },
        )
        await _begun(connection, [row.id])
    return True


_TURN = text(
    """
    select id, name, depends, unnoted_before from segment s
    where tracking is not null and sweep_due_at <= now()
    and coalesce(unnoted_before, 0) <= cast(cast(pg_snapshot_xmin(pg_current_snapshot()) as text) as bigint)
    and not exists (select from segment_look l where l.segment_id = s.id)
    order by sweep_due_at, id limit 1
    """
)
_SWEPT = text(
    """
    update segment set sweep_due_at = :due, unnoted_before =
        case when :again then cast(cast(pg_snapshot_xmax(pg_current_snapshot()) as text) as bigint) end
    where id = :id
    """
)
"""A segment that has just begun, or was changed, is gone through again once every transaction is over that could have
changed a fact before it knew that this has to be noted."""


async def _begun(connection: AsyncConnection, segment_ids: Sequence[int]) -> None:
    """Segments of which everybody who was found has been looked at are no longer beginning."""
    await connection.execute(
        text(
            "update segment s set tracking = 'on' where id = any(:ids) and tracking = 'beginning' "
            "and not exists (select from segment_look l where l.segment_id = s.id)"
        ),
        {"ids": list(segment_ids)},
    )


def _rest(depends: Sequence[str], took: timedelta) -> timedelta:
    if dependencies.TIME not in depends:
        return _DAILY
    return max(LEAST_REST, _REST_FACTOR * took)


def _difference(members: Any) -> Any:
    segment = bindparam("segment", type_=Integer)
    kept = select(segment_presence.c.contact_id).where(segment_presence.c.segment_id == segment).subquery("kept")
    both = members.join(kept, kept.c.contact_id == members.c.id, full=True)
    differing = (
        select(func.coalesce(members.c.id, kept.c.contact_id), literal("sweep"), segment)
        .select_from(both)
        .where(or_(members.c.id.is_(None), kept.c.contact_id.is_(None)))
    )
    return insert(segment_look).from_select(["contact_id", "cause", "segment_id"], differing)
