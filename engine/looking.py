"""How long waits last that depend on a clock, a date or criteria."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.asking import holding
from engine.versions import Version
from engine.wire import Acted, StepRequest
from journeys import calendar
from journeys.plan import DateOf, Wait


async def look(connection: AsyncConnection, version: Version, step: Wait, request: StepRequest) -> Acted:
    """Find out, for each member of a batch that waits, whether it goes on and when to look again."""
    facts = await _facts(connection, step, request)
    acted = Acted()
    waiting = await _watch(connection, version, step, request, facts, acted)
    at = datetime.fromtimestamp(request.at, UTC)
    for enrollment, visit in waiting:
        _contact, zone, value = facts.get(enrollment, (0, None, None))
        if step.date is not None:
            _until_date(acted, step, step.date, (enrollment, visit), (zone, value), at)
        elif step.window is not None:
            opened = calendar.window_opens(at, step.window, zone)
            if opened is None or opened <= at:
                acted.went.append([enrollment, visit, step.next, "timeout"])
            else:
                acted.due.append([enrollment, visit, opened.timestamp(), None])
        elif step.local is not None:
            acted.due.append([enrollment, visit, calendar.next_local(at, step.local, zone).timestamp(), None])
        else:
            acted.due.append([enrollment, visit, None, _next_look(step, at)])
    return acted


def _until_date(
    acted: Acted, step: Wait, date: DateOf, member: tuple[int, int], known: tuple[str | None, Any], at: datetime
) -> None:
    zone, value = known
    due = calendar.date_due(value, date, zone, at)
    if due is None:
        acted.went.append([*member, date.missing, "missing"])
    elif step.seconds is not None:  # a demonstration
        acted.due.append([*member, None, None])
    elif due <= at and not date.yearly:
        acted.went.append([*member, step.next, "timeout"])
    else:
        # An anniversary that is reached would be followed by the next one: its own time has to end the wait.
        moment = due.timestamp()
        acted.due.append([*member, moment, min(moment, _next_look(step, at))])


def _next_look(step: Wait, at: datetime) -> float:
    """The next point of an absolute grid, so that those who wait at one step are looked at together."""
    return (math.floor(at.timestamp() / step.look_seconds) + 1) * step.look_seconds


async def _facts(
    connection: AsyncConnection, step: Wait, request: StepRequest
) -> dict[int, tuple[int, str | None, Any]]:
    """Enrollment id to contact, zone, and the date's value."""
    rows = await connection.execute(
        text(
            "select e.id, c.id as contact_id, c.time_zone, c.attributes -> cast(:name as text) as value "
            "from enrollment e join contact c on c.id = e.contact_id where e.id = any(:ids)"
        ),
        {"ids": [enrollment for enrollment, _ in request.members], "name": step.date.attribute if step.date else ""},
    )
    return {row.id: (row.contact_id, row.time_zone, row.value) for row in rows}


async def _watch(
    connection: AsyncConnection,
    version: Version,
    step: Wait,
    request: StepRequest,
    facts: Mapping[int, tuple[int, str | None, Any]],
    acted: Acted,
) -> Sequence[Sequence[int]]:
    """Let those go on for whom criteria hold; gives the others."""
    waiting: Sequence[Sequence[int]] = request.members
    for way in step.watches:
        contact_of = {one: facts[one][0] for one, _ in waiting if one in facts}
        matched = await holding(connection, version.plan, way.criteria, contact_of)
        here = [member for member in waiting if member[0] in matched]
        acted.went.extend([*member, way.next, "criteria"] for member in here)
        waiting = [member for member in waiting if member not in here] if here else waiting
    return waiting
