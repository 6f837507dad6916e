"""What happened to an enrollment, and why, in words."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import NotFound
from core.schema.messages import MessageState
from engine import telling
from journeys.plan import Act, End, Notify, Plan, Send, Wait

_ENROLLMENT = (
    "select e.id, e.contact_id, e.key, e.entered_at, e.finished_at, e.due_at, e.state, e.outcome, e.step, "
    "e.branch_steps, e.branch_ends, e.closed_by, j.name as journey, j.state = 'paused' as paused, "
    "v.number as version, v.plan from enrollment e "
    "join journey j on j.id = e.journey_id join journey_version v on v.id = e.version_id "
)


@dataclass(frozen=True)
class Moment:
    """One line of a history."""

    at: datetime
    step: str
    what: str


@dataclass(frozen=True)
class Waiting:
    """A wait that the enrollment is in; each of its parallel branches may be in one."""

    step: str
    until: datetime | None
    """When it ends at the latest; None if only an event ends it."""
    what: str


@dataclass(frozen=True)
class History:
    """An enrollment's way so far."""

    enrollment_id: int
    contact_id: int
    journey: str
    version: int
    key: str
    state: str
    outcome: str | None
    entered_at: datetime
    finished_at: datetime | None
    waits: list[Waiting]
    ends_upon: str | None
    """What would end the journey at once."""
    moments: list[Moment]


async def of_enrollment(connection: AsyncConnection, enrollment_id: int) -> History:
    """The history of one enrollment.

    Raises:
        NotFound: there is none of this number.
    """
    row = (await connection.execute(text(_ENROLLMENT + "where e.id = :id"), {"id": enrollment_id})).first()
    if row is None:
        raise NotFound(f"no enrollment {enrollment_id}")
    return await _history(connection, row)


async def of_contact(
    connection: AsyncConnection, contact_id: int, journey: str | None = None, limit: int = 20
) -> list[History]:
    """The histories of a contact's latest enrollments, newest first; of one journey if it is named."""
    rows = await connection.execute(
        text(
            _ENROLLMENT + "where e.contact_id = :contact and (cast(:journey as text) is null or j.name = :journey) "
            "order by e.id desc limit :limit"
        ),
        {"contact": contact_id, "journey": journey, "limit": limit},
    )
    return [await _history(connection, row) for row in rows.all()]


async def _history(connection: AsyncConnection, row: Any) -> History:
    plan = Plan.model_validate(row.plan)
    visits = (
        await connection.execute(
            text(
                "select visit, step, arrived_at, via, version_id from step_visit where enrollment_id = :id "
                "order by visit"
            ),
            {"id": row.id},
        )
    ).all()
    plans = await _plans(connection, {visit.version_id for visit in visits})
    messages = {
        message.visit: message
        for message in await connection.execute(
            text(
                "select m.visit, m.state, m.reason, m.opened_at, m.clicked_at, m.address, p.name as provider "
                "from message m left join provider p on p.id = m.provider_id "
                "where m.contact_id = :contact and m.enrollment_id = :id"
            ),
            {"contact": row.contact_id, "id": row.id},
        )
    }
    moments = _moments(plans, visits, messages)
    if row.finished_at is not None:
        at_end = bool(visits) and isinstance(plans[visits[-1].version_id].steps[visits[-1].step], End)
        moments.append(Moment(row.finished_at, "", _ending(row, at_end)))
    return History(
        enrollment_id=row.id,
        contact_id=row.contact_id,
        journey=row.journey,
        version=row.version,
        key=row.key,
        state=row.state,
        outcome=row.outcome,
        entered_at=row.entered_at,
        finished_at=row.finished_at,
        waits=list(_waits(plan, row, {visit.step: messages.get(visit.visit) for visit in visits})),
        ends_upon=None if row.finished_at is not None else telling.ended_early(plan) or None,
        moments=moments,
    )


async def _plans(connection: AsyncConnection, versions: set[int]) -> dict[int, Plan]:
    """The plans of the versions that an enrollment has been on."""
    rows = await connection.execute(
        text("select id, plan from journey_version where id = any(:ids)"), {"ids": sorted(versions)}
    )
    return {row.id: Plan.model_validate(row.plan) for row in rows}


def _moments(plans: dict[int, Plan], visits: Sequence[Any], messages: dict[int, Any]) -> list[Moment]:
    """One line a visit; what a version did is told in its own words."""
    moments = []
    of_version: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for visit in visits:
        plan, known = plans[visit.version_id], of_version[visit.version_id]
        known.append((visit.step, visit.via or "next"))
        step = plan.steps[visit.step]
        came, doing = telling.came(plan, known, len(known) - 1), telling.doing(plan, step, messages.get(visit.visit))
        moments.append(Moment(visit.arrived_at, step.id, f"{came}; {doing}"))
    return moments


def _waits(plan: Plan, row: Any, latest: Mapping[int, Any]) -> Iterator[Waiting]:
    """What it waits for at present, by branch. `latest` is the message of the last visit of each step."""
    if row.finished_at is not None or row.step is None:
        return
    standing = zip(row.branch_steps, row.branch_ends, strict=True) if row.branch_steps else [(row.step, row.due_at)]
    for number, until in standing:
        step = plan.steps[number]
        if isinstance(step, Wait):
            yield Waiting(step.id, until, telling.doing(plan, step, None))
        elif isinstance(step, Send | Notify | Act) and until is not None:
            yield Waiting(step.id, until, telling.held(plan, step))
        elif isinstance(step, Send | Notify):
            message = latest.get(number)
            if message is not None and message.state == MessageState.QUEUED:
                yield Waiting(step.id, None, telling.queued(step, message, paused=row.paused))


def _ending(row: Any, at_end: bool) -> str:
    why = (
        "at an end step"
        if at_end
        else ("by a goal or an exit rule" if row.closed_by is not None else "before an end step")
    )
    return f"finished {why}: {row.outcome}"
