"""Journeys that let contacts into other journeys, and how they hear of the end."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identities
from core import eventlog
from core.clock import now
from engine.routing import ENTER
from engine.wire import StepRequest
from journeys.effects import first_time
from journeys.plan import FINISHED, Act
from journeys.steps.enroll import EnrollData

NOT_ENTERED = "not_entered"
"""The outcome for a parent whose contact the other journey did not let in."""


async def enroll(connection: AsyncConnection, step: Act, request: StepRequest, contact_of: Mapping[int, int]) -> None:
    """Ask for a batch of contacts to enter another journey; once for each visit."""
    other = EnrollData.model_validate(step.data)
    await identities.hold_off_erasure(connection)
    fresh = [one for one in await first_time(connection, request.members) if one in contact_of]
    state = await connection.execute(text("select state from journey where name = :name"), {"name": other.journey})
    open_ = state.scalar() in {"active", "paused"}
    if open_:
        asked = {"journey": other.journey, "key": other.key}
        rows = [(contact_of[one], asked | {"parent": one}) for one in fresh]
        await _append(connection, ENTER, rows)
    elif other.awaited:
        refused = {"journey": other.journey, "outcome": NOT_ENTERED}
        await _append(connection, FINISHED, [(contact_of[one], refused | {"parent": one}) for one in fresh])


async def remember(connection: AsyncConnection, children: Sequence[tuple[int, int]]) -> None:
    """Keep (enrollment, parent) of those who entered because a step of another enrollment asked for it."""
    await connection.execute(
        text(
            "insert into child_run (enrollment_id, parent_id) select * from unnest(cast(:ids as bigint[]), "
            "cast(:parents as bigint[])) on conflict do nothing"
        ),
        {"ids": [child for child, _ in children], "parents": [parent for _, parent in children]},
    )


async def refuse(connection: AsyncConnection, asked: Sequence[tuple[int, str, int]]) -> None:
    """Tell parents, given as (contact, journey, parent), that nobody was let in. The last thing of a transaction."""
    rows = [
        (contact, {"journey": journey, "outcome": NOT_ENTERED, "parent": parent}) for contact, journey, parent in asked
    ]
    await _append(connection, FINISHED, rows)


async def tell_parents(connection: AsyncConnection, finished: Sequence[int]) -> None:
    """Append the end of enrollments that have just finished, for the parents. The last thing of a transaction."""
    rows = await connection.execute(
        text(
            "select e.contact_id, j.name as journey, e.outcome, r.parent_id as parent from child_run r "
            "join enrollment e on e.id = r.enrollment_id join journey j on j.id = e.journey_id "
            "join contact c on c.id = e.contact_id where r.enrollment_id = any(:ids) order by e.id"
        ),
        {"ids": list(finished)},
    )
    told = [(row.contact_id, {"journey": row.journey, "outcome": row.outcome, "parent": row.parent}) for row in rows]
    await _append(connection, FINISHED, told)


async def _append(connection: AsyncConnection, name: str, rows: Sequence[tuple[int, dict[str, Any]]]) -> None:
    if not rows:
        return
    names = await eventlog.name_ids(connection, [name])
    at = now()
    events = [
        eventlog.NewEvent(contact, names[name], at, msgspec.json.encode(properties)) for contact, properties in rows
    ]
    await eventlog.append(connection, events)
