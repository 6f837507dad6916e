"""Which contacts meet criteria: for some contacts, page by page for all, or how many."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, any_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import InvalidInput
from core.schema.contacts import contact
from core.schema.segments import segment
from segments.criteria import Criteria, parse
from segments.criteria.segment import Segment

NESTING_LIMIT = 10


async def matching(
    connection: AsyncConnection, criteria: Criteria, contact_ids: Sequence[int], now: datetime | None = None
) -> set[int]:
    """Those of the contacts who meet the criteria; `now` is what relative dates count from (the present if None)."""
    if not contact_ids:
        return set()
    resolved = await resolve(connection, criteria)
    ids = bindparam("ids", list(contact_ids), type_=ARRAY(BigInteger))
    statement = select(contact.c.id).where(contact.c.id == any_(ids), resolved.clause())
    return set((await connection.execute(statement, _parameters(now))).scalars())


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
    statement = select(contact.c.id).where(contact.c.id > after).order_by(contact.c.id).limit(limit)
    if criteria is not None:
        statement = statement.where((await resolve(connection, criteria)).clause())
    return list((await connection.execute(statement, _parameters(now))).scalars())


async def count(connection: AsyncConnection, criteria: Criteria | None, now: datetime | None = None) -> int:
    """How many contacts meet the criteria (all contacts if None)."""
    statement = select(func.count()).select_from(contact)
    if criteria is not None:
        statement = statement.where((await resolve(connection, criteria)).clause())
    return int((await connection.execute(statement, _parameters(now))).scalar_one())


async def resolve(connection: AsyncConnection, criteria: Criteria, inside: tuple[str, ...] = ()) -> Criteria:
    """The criteria with those of the segments they name filled in, so that they can become SQL.

    Args:
        connection: an open transaction.
        criteria: as parsed.
        inside: names of segments whose criteria these are; naming one of them again is refused.

    Raises:
        InvalidInput: segments that contain each other, or too long a chain of them.
    """
    names = {reference.name for reference in criteria.references() if reference.kind == "segment"}
    if not names:
        return criteria
    for name in names & set(inside):
        raise InvalidInput(f"the segment {name} would contain itself: {' → '.join((*inside, name))}")
    if len(inside) >= NESTING_LIMIT:
        raise InvalidInput(f"segments inside segments more than {NESTING_LIMIT} deep: {' → '.join(inside)}")
    rows = await connection.execute(
        select(segment.c.name, segment.c.criteria).where(segment.c.name.in_(names), segment.c.criteria.is_not(None))
    )
    found = {name: await resolve(connection, parse(data), (*inside, name)) for name, data in rows}

    def fill(one: Criteria) -> Criteria:
        return one.model_copy(update={"criteria": found.get(one.name)}) if isinstance(one, Segment) else one

    return criteria.rebuilt(fill)


def _parameters(now: datetime | None) -> dict[str, Any]:
    return {} if now is None else {"now": now}
