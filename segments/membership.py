"""Which contacts meet criteria: for some contacts, page by page for all, or how many.

The same clause serves all of them. About some contacts, or a range of them, the rows of events and messages are
narrowed, too (`facts.among`), so that the price is theirs and not that of the whole log.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import ARRAY, BigInteger, Select, any_, bindparam, func, literal, select, text
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from core.schema.contacts import contact
from segments import dependencies, facts
from segments.criteria import Criteria, tree
from segments.operands import storable
from segments.resolving import resolve

_WINDOW = 20_000
_WIDENED = 8
"""How much wider the next range of contacts is when one held too few."""
_BLOCK = 200_000
_MOST_BLOCKS = 100
"""Where ids are far apart, blocks are wider."""
_EVERYBODY = 2**40
"""The width of a range for what compares contacts with each other: it is asked once, for all of them."""

PLANNED = text("select set_config('plan_cache_mode', 'force_custom_plan', true)")
"""Before a question about some contacts, once a transaction: a plan made without knowing how many they are took 21 s
for 5,000, where one made for them takes 0.2 s. (psycopg prepares what is asked often, and PostgreSQL then guesses.)"""

# Facts lie in the order of their contacts, so joins and groups can stream: no hash of millions, which memory is too
# slow for, and no spilling. Measured in docs/decisions/0003.
STREAMING = text(
    "select set_config('enable_hashagg', 'off', true), set_config('work_mem', '128MB', true), "
    "set_config('plan_cache_mode', 'force_custom_plan', true)"
)


_ALONE = text("select set_config('max_parallel_workers_per_gather', '0', true)")
"""For blocks that are counted on two connections: workers of one query would take the cores from the other (3.5 s
against 0.8 s for a count over 8 million events)."""


async def matching(
    connection: AsyncConnection, criteria: Criteria, contact_ids: Sequence[int], now: datetime | None = None
) -> set[int]:
    """Those of the contacts who meet the criteria; `now` is what relative dates count from (the present if None)."""
    if not contact_ids:
        return set()
    statement = matching_statement(await resolve(connection, criteria))
    await connection.execute(PLANNED)
    return set((await connection.execute(statement, {"ids": list(contact_ids)} | _parameters(now))).scalars())


def matching_statement(resolved: Criteria) -> Select[Any]:
    """The question which of the contacts `:ids` meet resolved criteria; to be kept by those who ask it often."""
    ids = bindparam("ids", type_=ARRAY(BigInteger))
    with facts.among(lambda column: column == any_(ids)):
        return select(contact.c.id).where(contact.c.id == any_(ids), resolved.clause())


class Run(NamedTuple):
    """A contact's run through a journey, as criteria see it."""

    id: int
    contact_id: int
    entry: Mapping[str, Any]
    """Of the event that began it, the properties that `same` compares with."""


async def matching_runs(
    connection: AsyncConnection, criteria: Criteria, runs: Sequence[Run], now: datetime | None = None
) -> set[int]:
    """The ids of the runs for which criteria hold that may compare events with the one that began the run (`same`).

    Of two runs of one contact they may hold for one only.
    """
    if not runs:
        return set()
    resolved = await resolve(connection, criteria)
    owners = bindparam("runners", type_=ARRAY(BigInteger))
    with facts.among(lambda column: column == any_(owners)):
        statement = (
            select(facts.RUNS.c.id)
            .join_from(facts.RUNS, contact, contact.c.id == facts.RUNS.c.contact_id)
            .where(resolved.clause())
        )
    await connection.execute(PLANNED)
    values = {
        "runs": [run.id for run in runs],
        "runners": [run.contact_id for run in runs],
        "entries": [_scalars(run.entry) for run in runs],
    }
    return set((await connection.execute(statement, values | _parameters(now))).scalars())


def _scalars(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a property of an event can be the same as; PostgreSQL refuses some of what a caller may suppose."""
    return {name: value for name, value in entry.items() if storable(name) and _is_scalar(value)}


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return storable(value)
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


async def page(
    connection: AsyncConnection,
    criteria: Criteria | None,
    after: int,
    limit: int,
    now: datetime | None = None,
) -> list[int]:
    """The next contacts who meet the criteria (all contacts if None), in the order of their ids.

    Args:
        connection: an open transaction.
        criteria: what must hold.
        after: the last id of the page before; 0 to begin.
        limit: how many at most; fewer are given only on the last page.
        now: what relative dates count from; hand in the same for all pages of one run.
    """
    if criteria is None:
        everybody = select(contact.c.id).where(contact.c.id > after).order_by(contact.c.id).limit(limit)
        return list((await connection.execute(everybody)).scalars())
    resolved = await resolve(connection, criteria)
    statement = _range_statement(resolved)
    await connection.execute(PLANNED)
    found: list[int] = []
    width = _EVERYBODY if dependencies.compares(resolved.clause()) else max(_WINDOW, 2 * limit)
    while len(found) < limit:
        end = await _end(connection, after, width)
        if end is None:
            break
        values = {"after": after, "end": end, "limit": limit - len(found)} | _parameters(now)
        found += (await connection.execute(statement, values)).scalars()
        after, width = end, min(width * _WIDENED, _EVERYBODY)
    return found


def _range_statement(resolved: Criteria) -> Select[Any]:
    after, end = bindparam("after", type_=BigInteger), bindparam("end", type_=BigInteger)
    with facts.among(lambda column: (column > after) & (column <= end)):
        return (
            select(contact.c.id)
            .where(contact.c.id > after, contact.c.id <= end, resolved.clause())
            .order_by(contact.c.id)
            .limit(bindparam("limit", type_=BigInteger))
        )


async def _end(connection: AsyncConnection, after: int, width: int) -> int | None:
    """The last of the next so many contacts; None if there are no more."""
    window = select(contact.c.id).where(contact.c.id > after).order_by(contact.c.id).limit(width).subquery()
    end: int | None = (await connection.execute(select(func.max(window.c.id)))).scalar_one()
    return end


async def count(connection: AsyncConnection, criteria: Criteria | None, now: datetime | None = None) -> int:
    """How many contacts meet the criteria (all contacts if None).

    Events are counted block by block like `everyone`: half as long as one query, whose data no cache holds. Where a
    second connection is free, it takes every other block, for PostgreSQL streams with one process only.
    """
    whole = select(func.count()).select_from(contact)
    if criteria is None:
        return int((await connection.execute(whole)).scalar_one())
    await connection.execute(STREAMING)
    resolved = await resolve(connection, criteria)
    clause = resolved.clause()
    if not any(one.startswith("event:") for one in dependencies.of(clause)):
        return int((await connection.execute(whole.where(clause), _parameters(now))).scalar_one())
    block = select(func.count()).select_from(_range_statement(resolved).limit(None).order_by(None).subquery())
    ranges = await _ranges(connection)

    async def add_up(one: AsyncConnection) -> int:
        number = 0
        for after, end in ranges:  # each takes the next one that nobody has taken
            number += (await one.execute(block, {"after": after, "end": end} | _parameters(now))).scalar_one()
        return number

    async with _second(connection) as other:
        return sum(await asyncio.gather(*(add_up(one) for one in (connection, other) if one is not None)))


async def _ranges(connection: AsyncConnection) -> Iterator[tuple[int, int]]:
    """All contacts in ranges of ids, (after, end), of about a block each."""
    bounds = select(func.min(contact.c.id), func.max(contact.c.id))
    first, last = (await connection.execute(bounds)).one()
    if first is None:
        return iter(())
    blocks = max(1, min(_MOST_BLOCKS, -(-(last - first + 1) // _BLOCK)))
    width = -(-(last - first + 1) // blocks)
    return ((first - 1 + place * width, first - 1 + (place + 1) * width) for place in range(blocks))


@asynccontextmanager
async def _second(connection: AsyncConnection) -> AsyncIterator[AsyncConnection | None]:
    """A second connection that sees what the first one does; None if there is none to spare, or the first has written
    what others cannot see yet. One question at a time takes two, so that questions never wait for each other's."""
    turn = _turns.setdefault(connection.engine, asyncio.Semaphore(1))
    if connection.in_nested_transaction():  # PostgreSQL exports no snapshot of a part of a transaction
        yield None
        return
    wrote = await connection.execute(text("select pg_current_xact_id_if_assigned() is not null"))
    if turn.locked() or wrote.scalar_one():
        yield None
        return
    snapshot = (await connection.execute(text("select pg_export_snapshot()"))).scalar_one()
    async with turn, connection.engine.connect() as other, other.begin():
        await other.execute(text("set transaction isolation level repeatable read, read only"))
        # A name that PostgreSQL has just given; no parameter may stand here.
        await other.execute(text(f"set transaction snapshot '{snapshot}'"))
        await other.execute(_SAME_TIME, {"limit": await connection.scalar(text("show statement_timeout"))})
        await other.execute(STREAMING)
        await other.execute(_ALONE)
        await connection.execute(_ALONE)
        yield other


_SAME_TIME = text("select set_config('statement_timeout', :limit, true)")
_turns: WeakKeyDictionary[AsyncEngine, asyncio.Semaphore] = WeakKeyDictionary()


async def everyone(
    connection: AsyncConnection, criteria: Criteria | None, now: datetime | None = None, *, width: int = _BLOCK
) -> AsyncIterator[list[int]]:
    """All contacts who meet the criteria (all contacts if None), in the order of their ids, block by block.

    A block holds those among the next `width` contacts. Its facts lie together, so all blocks cost as much as one
    question about everybody, and memory holds one.
    """
    resolved = tree.All(items=()) if criteria is None else await resolve(connection, criteria)
    ids = _range_statement(resolved).limit(None).subquery()
    block = select(
        func.coalesce(func.array_agg(aggregate_order_by(ids.c.id, ids.c.id)), literal([], ARRAY(BigInteger)))
    )
    await connection.execute(STREAMING)
    if dependencies.compares(resolved.clause()):
        width = _EVERYBODY
    after = 0
    while (end := await _end(connection, after, width)) is not None:
        values = {"after": after, "end": end} | _parameters(now)
        yield list((await connection.execute(block, values)).scalar_one())
        after = end


def _parameters(now: datetime | None) -> dict[str, Any]:
    return {} if now is None else {"now": now}
