"""Telling cohorts of another version to go on in, and of what people ask for single contacts; and writing down that it
was done.

What is wanted stands in `journey_move` and `enrollment_order`. It is told until the cohort's workflow has done it and
says so (`acknowledge`, in the same transaction as what came of it); a workflow ignores what it was told before.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database import Database
from core.errors import Conflict, InvalidInput, NotFound
from engine.cohorts import Cohorts
from engine.rests import Rests
from engine.versions import Versions
from engine.wire import News, Order, RecordRequest, Shift
from journeys import moving
from journeys.plan import Plan

_AT_ONCE = 100
_ORDERS_AT_ONCE = 1000
_REST_SECONDS = 5.0


class Moves:
    """The router's duty to spread moves and orders."""

    def __init__(self, database: Database, cohorts: Cohorts, versions: Versions) -> None:
        self._database = database
        self._cohorts = cohorts
        self._versions = versions
        self._moved = Rests(_REST_SECONDS)
        self._ordered = Rests(_REST_SECONDS)

    async def spread(self) -> int:
        """Tell what has to be told.

        Returns:
            How many cohorts and orders.
        """
        return await self._spread_moves() + await self._spread_orders()

    async def _spread_moves(self) -> int:
        async with self._database.begin() as connection:
            await _move_broadcasts(connection)
            rows = (
                await connection.execute(
                    text(
                        "select c.id, c.version_id, m.id as move, m.version_id as target, m.placement from cohort c "
                        "join journey_version v on v.id = c.version_id cross join lateral ("
                        "select m.id, m.version_id, m.placement from journey_move m "
                        "join journey_version t on t.id = m.version_id "
                        "where m.journey_id = v.journey_id and t.number > v.number order by m.id limit 1) m "
                        "where c.state <> 'finished' and c.id || '/' || m.id <> all(:resting) limit :limit"
                    ),
                    {"resting": [f"{cohort}/{move}" for cohort, move in self._moved.now()], "limit": _AT_ONCE},
                )
            ).all()
            wanted = sorted({number for row in rows for number in (row.version_id, row.target)})
            known = await self._versions.get_all(connection, wanted)
        shifts: dict[tuple[int, int], Shift] = {}
        for row in rows:
            old, new = known[row.version_id], known[row.target]
            if (row.version_id, row.move) not in shifts:
                ways = moving.ways(old.plan, new.plan, row.placement)
                steps = {step: (way.to, way.anew) for step, way in ways.items()}
                shifts[row.version_id, row.move] = Shift(old.id, new.id, new.data, steps)
        await asyncio.gather(
            *(self._cohorts.inform(row.id, News(shift=shifts[row.version_id, row.move])) for row in rows)
        )
        for row in rows:
            self._moved.give((row.id, row.move))
        return len(rows)

    async def _spread_orders(self) -> int:
        async with self._database.begin() as connection:
            rows = (
                await connection.execute(
                    text(
                        "select o.id, o.enrollment_id, o.cohort_id, o.step, o.outcome, c.state = 'finished' as late "
                        "from enrollment_order o join cohort c on c.id = o.cohort_id "
                        "where o.done_at is null and o.id <> all(:resting) and not exists (select from enrollment e "
                        "where e.id = o.enrollment_id and e.state = 'entering') order by o.id limit :limit"
                    ),
                    {"resting": self._ordered.now(), "limit": _ORDERS_AT_ONCE},
                )
            ).all()
            await _answer(connection, [[row.id, "the enrollment had ended"] for row in rows if row.late])
        orders: dict[int, list[Order]] = defaultdict(list)
        for row in rows:
            if not row.late:
                orders[row.cohort_id].append(Order(row.id, row.enrollment_id, row.step, row.outcome or ""))
        await asyncio.gather(*(self._cohorts.inform(cohort, News(orders=some)) for cohort, some in orders.items()))
        for row in rows:
            self._ordered.give(row.id)
        return len(rows)


async def _move_broadcasts(connection: AsyncConnection) -> None:
    """Let broadcasts that are under way bring the rest of their contacts into the version that everybody moves to."""
    await connection.execute(
        text(
            "update broadcast b set version_id = m.version_id from journey_version v, "
            "lateral (select m.version_id, t.number from journey_move m join journey_version t on t.id = m.version_id "
            "where m.journey_id = v.journey_id order by t.number desc limit 1) m "
            "where b.finished_at is null and v.id = b.version_id and m.number > v.number"
        )
    )


# Branches are missing in requests of workers that did not know them yet.
_MOVED = text("""
update enrollment e set version_id = :version, step = cast(u.row ->> 1 as int),
    due_at = to_timestamp(cast(u.row ->> 2 as float8)),
    branch_steps = nullif(array(
        select cast(value as smallint) from jsonb_array_elements_text(coalesce(u.row -> 3, '[]')) with ordinality
        order by ordinality), '{}'),
    branch_ends = nullif(array(
        select to_timestamp(cast(value as float8))
        from jsonb_array_elements_text(coalesce(u.row -> 4, '[]')) with ordinality order by ordinality), '{}')
from jsonb_array_elements(cast(:rows as jsonb)) as u(row)
where e.id = cast(u.row ->> 0 as bigint) and e.state <> 'finished'
""")


async def acknowledge(connection: AsyncConnection, request: RecordRequest) -> None:
    """Write down that a cohort has gone over to the request's version, and what came of orders.

    The cohort's row is locked first: whoever places newcomers into it either comes before, and they go over as well, or
    finds it on the new version.
    """
    await _answer(connection, request.orders)
    if request.moved is None:
        return
    scope = {"cohort": request.cohort_id, "version": request.version_id}
    before = (
        await connection.execute(text("select version_id from cohort where id = :cohort for update"), scope)
    ).scalar_one()
    await connection.execute(text("update cohort set version_id = :version where id = :cohort"), scope)
    await connection.execute(
        text("update enrollment set version_id = :version where cohort_id = :cohort and state = 'entering'"), scope
    )
    await connection.execute(_MOVED, scope | {"rows": msgspec.json.encode(request.moved).decode()})
    await _correlate(connection, request, before)


async def _correlate(connection: AsyncConnection, request: RecordRequest, before: int) -> None:
    """Take from the entry events what the new version compares with and the old one did not."""
    plans = {
        row.id: Plan.model_validate(row.plan)
        for row in await connection.execute(
            text("select id, plan from journey_version where id in (:old, :new)"),
            {"old": before, "new": request.version_id},
        )
    }
    names = sorted(set(plans[request.version_id].correlated()) - set(plans[before].correlated()))
    if names:
        await connection.execute(
            text(
                "update enrollment e set correlation = coalesce(e.correlation, '{}') || coalesce(("
                "select jsonb_object_agg(p.key, p.value) from event v, jsonb_each(v.properties) p "
                "where v.id = e.entry_event_id and v.occurred_at = e.entry_event_at and p.key = any(:names)), '{}') "
                "where e.version_id = :version and e.entry_event_id is not null "
                "and (e.id = any(:ids) or (e.cohort_id = :cohort and e.state = 'entering'))"
            ),
            {
                "version": request.version_id,
                "cohort": request.cohort_id,
                "ids": [row[0] for row in request.moved or ()],
                "names": names,
            },
        )


async def _answer(connection: AsyncConnection, orders: Sequence[Sequence[Any]]) -> None:
    if orders:
        await connection.execute(
            text(
                "update enrollment_order o set done_at = now(), refusal = u.refusal "
                "from unnest(cast(:ids as bigint[]), cast(:refusals as text[])) as u(id, refusal) "
                "where o.id = u.id and o.done_at is null"
            ),
            {"ids": [row[0] for row in orders], "refusals": [row[1] for row in orders]},
        )


async def order(
    connection: AsyncConnection,
    enrollment_id: int,
    *,
    step: str | None = None,
    outcome: str = "",
    by: str | None = None,
) -> int:
    """Ask for one contact to go on at another step of its version (`step`), or to leave the journey (`outcome`).

    The contact's cohort does it within moments; what became of it stands in `enrollment_order`.

    Returns:
        The order's number.

    Raises:
        NotFound: no such enrollment.
        Conflict: it has ended, or is only just entering.
        InvalidInput: its version has no such step.
    """
    found = (
        await connection.execute(
            text(
                "select e.state, e.cohort_id, v.plan from enrollment e "
                "join journey_version v on v.id = e.version_id where e.id = :id"
            ),
            {"id": enrollment_id},
        )
    ).first()
    if found is None:
        raise NotFound(f"no enrollment {enrollment_id}")
    if found.state == "finished":
        raise Conflict(f"the enrollment {enrollment_id} has ended")
    if found.state == "entering":
        raise Conflict(f"the enrollment {enrollment_id} is only just entering; try again in a moment")
    steps = [one.id for one in Plan.model_validate(found.plan).steps]
    if step is not None and step not in steps:
        raise InvalidInput(f"its version has no step {step}; its steps are {', '.join(steps)}")
    made = await connection.execute(
        text(
            "insert into enrollment_order (enrollment_id, cohort_id, step, outcome, ordered_by) "
            "values (:enrollment, :cohort, :step, :outcome, :by) returning id"
        ),
        {
            "enrollment": enrollment_id,
            "cohort": found.cohort_id,
            "step": step,
            "outcome": None if step is not None else outcome,
            "by": by,
        },
    )
    return int(made.scalar_one())
