"""Letting contacts into a journey by hand, by a program or by a list."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import eventlog
from core.clock import now
from core.errors import Conflict, InvalidInput, NotFound
from engine.routing import ENTER

LIST_LIMIT = 1000
"""Contacts that one request may name; more belong into a segment or a list."""


async def enter(connection: AsyncConnection, journey: str, contact_ids: Sequence[int], key: str = "") -> int:
    """Ask for contacts to enter a journey; the router lets them in as its re-entry rule allows.

    The request is an event of the log, so it is in order with everything else that happens to the contact. Call it as
    the last thing of a transaction.

    Returns:
        How many contacts were asked for.

    Raises:
        NotFound: no such journey, or a contact that does not exist.
        Conflict: the journey is stopped.
        InvalidInput: too many contacts at once.
    """
    if len(contact_ids) > LIST_LIMIT:
        raise InvalidInput(f"at most {LIST_LIMIT} contacts at a time; make a segment of them, or send several requests")
    state = (await connection.execute(text("select state from journey where name = :name"), {"name": journey})).scalar()
    if state is None:
        raise NotFound(f"no journey is called {journey}")
    if state in {"finishing", "stopped"}:
        raise Conflict(f"the journey {journey} is {state}; resume it first")
    wanted = sorted(set(contact_ids))
    known = set(
        (await connection.execute(text("select id from contact where id = any(:ids)"), {"ids": wanted})).scalars()
    )
    missing = [contact for contact in wanted if contact not in known]
    if missing:
        raise NotFound(f"no contact {', '.join(map(str, missing[:10]))}")
    names = await eventlog.name_ids(connection, [ENTER])
    properties = msgspec.json.encode({"journey": journey, "key": key})
    at = now()
    await eventlog.append(connection, [eventlog.NewEvent(contact, names[ENTER], at, properties) for contact in wanted])
    return len(wanted)
