"""Letting contacts into a journey by hand, by a program or by a list."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import eventlog
from core.clock import now
from core.errors import Conflict, InvalidInput, NotFound, Problem
from engine.routing import ENTER
from tracker.wire import Limits, Unfit, check_properties, holds_nul

LIST_LIMIT = 1000
"""Contacts that one request may name; more belong into a segment or a list."""


_TAKEN = ("journey", "key", "parent")
"""Properties of the event that asks for an entry which mean something already."""


def check(properties: Mapping[str, Any], limits: Limits) -> None:
    """Refuse properties of an entry that no event could have.

    Raises:
        InvalidInput: they are too many, too large or nested too deeply, or they take names that are taken.
    """
    problem = None
    taken = [name for name in _TAKEN if name in properties]
    if taken:
        mend = "give them other names; the key of an entry is `key`"
        problem = Problem(f"{', '.join(taken)} is taken", mend, path="properties")
    try:
        check_properties(dict(properties), limits)
    except Unfit as unfit:
        problem = Problem(unfit.message, unfit.mend, path=unfit.field)
    else:
        if holds_nul(properties):
            mend = "PostgreSQL cannot store such text: take the character out"
            problem = Problem("they hold a null character", mend, path="properties")
    if problem is not None:
        raise InvalidInput(problem)


async def enter(
    connection: AsyncConnection,
    journey: str,
    contact_ids: Sequence[int],
    key: str = "",
    properties: Mapping[str, Any] | None = None,
) -> int:
    """Ask for contacts to enter a journey; the router lets them in as its re-entry rule allows.

    The request is an event of the log, so it is in order with everything else that happens to the contact. Call it as
    the last thing of a transaction.

    Args:
        connection: An open transaction.
        journey: The journey's name.
        contact_ids: Who enters.
        key: What tells apart two runs of one contact; without it, the property that the journey names as its key.
        properties: What templates and `same:` find as `event.…`, as with an entry by an event; see `check`.

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
    body = msgspec.json.encode({**(properties or {}), "journey": journey, "key": key})
    at = now()
    await eventlog.append(connection, [eventlog.NewEvent(contact, names[ENTER], at, body) for contact in wanted])
    return len(wanted)
