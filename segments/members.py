"""Who is in a named segment, and how many: from what is kept where the segment is tracked, otherwise by asking.

A segment that is asked for often becomes one that is kept: from then on its count is a number on its row, and its
members are rows (`tracking`). What is kept follows the log within a second.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.schema.contacts import contact, identity
from core.schema.segments import segment, segment_member, segment_presence
from segments import criteria as language
from segments import membership, store
from segments.resolving import resolve

OFTEN = 5
"""Asked for so many times on one day, a segment becomes a kept one …"""
KEPT = timedelta(days=7)
"""… until it has not been asked for this long."""


async def count(connection: AsyncConnection, name: str, *, exactly: bool = False) -> int:
    """How many contacts are in a segment; `all` is everybody.

    Args:
        connection: an open transaction.
        name: the segment's.
        exactly: ask anew even where the number is kept.

    Raises:
        NotFound: no such segment.
    """
    row = await _row(connection, name)
    if row is not None and row.tracking == "on" and not exactly:
        number = int(row.members)
    else:
        number = await membership.count(connection, await store.members_are(connection, name))
    await _asked(connection, row)
    return number


async def page(connection: AsyncConnection, name: str, after: int, limit: int) -> list[dict[str, Any]]:
    """A page of a segment's members, in the order of their ids: id, email, since.

    `since` is known for lists and where the members are kept. Raises NotFound.
    """
    row = await _row(connection, name)
    if row is not None and row.tracking == "on":
        kept = (
            select(segment_presence.c.contact_id)
            .where(segment_presence.c.segment_id == row.id, segment_presence.c.contact_id > after)
            .order_by(segment_presence.c.contact_id)
            .limit(limit)
        )
        ids = list((await connection.execute(kept)).scalars())
    else:
        ids = await membership.page(connection, await store.members_are(connection, name), after, limit)
    rows = await shown(connection, name, ids)
    await _asked(connection, row)
    return rows


async def preview(connection: AsyncConnection, criteria: language.Criteria, limit: int = 10) -> dict[str, Any]:
    """What criteria would come to, without storing them: how many contacts, and the newest of them."""
    number = await membership.count(connection, criteria)
    resolved = await resolve(connection, criteria)
    newest = select(contact.c.id).where(resolved.clause()).order_by(contact.c.id.desc()).limit(limit)
    ids = list((await connection.execute(newest)).scalars()) if number else []
    return {"contacts": number, "words": criteria.words(), "newest": await shown(connection, None, ids)}


async def shown(connection: AsyncConnection, name: str | None, ids: list[int]) -> list[dict[str, Any]]:
    """Members as people see them in a list."""
    email = (
        select(func.min(identity.c.value))
        .where(identity.c.contact_id == contact.c.id, identity.c.kind == "email")
        .scalar_subquery()
    )
    rows = await connection.execute(
        select(contact.c.id, email.label("email"), since_column(name).label("since"))
        .where(contact.c.id.in_(ids))
        .order_by(contact.c.id)
    )
    return [dict(row) for row in rows.mappings()]


def since_column(name: str | None) -> Any:
    """Since when the contact of the outer query has been in a segment, null where that is not known."""
    return func.coalesce(*(_since(table, name) for table in (segment_presence, segment_member)))


def _since(table: Any, name: str | None) -> Any:
    return (
        select(table.c.since)
        .join(segment, segment.c.id == table.c.segment_id)
        .where(segment.c.name == name, table.c.contact_id == contact.c.id)
        .scalar_subquery()
    )


async def _row(connection: AsyncConnection, name: str) -> Any:
    """The row of a segment, None for `all`. Raises NotFound."""
    return None if name == store.EVERYBODY else await store.row_of(connection, name)


async def _asked(connection: AsyncConnection, row: Any) -> None:
    """Count that somebody asked, and keep the segment if they do so often.

    The last thing of a question, and left out while somebody else has the row: tracking needs it all the time, and
    must not wait for those who read.
    """
    if row is None:
        return
    await connection.execute(
        text(
            "update segment set asked = case when asked_on = current_date then asked + 1 else 1 end, "
            "asked_on = current_date, kept_until = case when criteria is not null and (kept_until is not null "
            "or (asked_on = current_date and asked + 1 >= :often)) then now() + :kept else kept_until end "
            "where id = (select id from segment where id = :id and (asked_on is distinct from current_date "
            "or asked < :often) for no key update skip locked)"
        ),
        {"id": row.id, "often": OFTEN, "kept": KEPT},
    )
