"""What happened to an enrollment, and why, in words."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import NotFound
from core.schema.messages import MessageState
from journeys import picture
from journeys.plan import (
    Call,
    Choose,
    Delete,
    End,
    Enroll,
    Join,
    Notify,
    Parallel,
    Plan,
    Send,
    Show,
    Split,
    Step,
    Update,
    Wait,
)

_ENROLLMENT = (
    "select e.id, e.contact_id, e.key, e.entered_at, e.finished_at, e.due_at, e.state, e.outcome, e.step, "
    "e.closed_by, j.name as journey, v.number as version, v.plan from enrollment e "
    "join journey j on j.id = e.journey_id join journey_version v on v.id = e.version_id "
)


@dataclass(frozen=True)
class Moment:
    """One line of a history."""

    at: datetime
    step: str
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
    waits_until: datetime | None
    waits_for: str | None
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
                "select visit, state, reason, opened_at, clicked_at, address from message "
                "where contact_id = :contact and enrollment_id = :id"
            ),
            {"contact": row.contact_id, "id": row.id},
        )
    }
    moments = [
        Moment(
            visit.arrived_at,
            plans[visit.version_id].steps[visit.step].id,
            _what(plans[visit.version_id], visit, messages.get(visit.visit)),
        )
        for visit in visits
    ]
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
        waits_until=row.due_at,
        waits_for=_waits_for(plan, row),
        moments=moments,
    )


async def _plans(connection: AsyncConnection, versions: set[int]) -> dict[int, Plan]:
    """The plans of the versions that an enrollment has been on."""
    rows = await connection.execute(
        text("select id, plan from journey_version where id = any(:ids)"), {"ids": sorted(versions)}
    )
    return {row.id: Plan.model_validate(row.plan) for row in rows}


def _what(plan: Plan, visit: Any, message: Any) -> str:
    """How a contact came to a step and what happened there."""
    ways = {
        "entry": "entered",
        "next": "went on",
        "event": "the event came",
        "timeout": "the time had come",
        "otherwise": "no branch held",
        "moved": "was moved, by a new version or by hand",
        "criteria": "the criteria held",
        "missing": "there is no such date",
        "overdue": "the message was overdue and left out",
        "join": "the branches have met",
        "answered": "there was an answer",
        "failed": "the call failed",
    }
    kind, _, name = (visit.via or "next").partition(":")
    came = {
        "branch": f"branch {name} held",
        "arm": f"was given arm {name}",
        "parallel": f"began the branch {name}",
        "answer": f"answer {name} held",
    }.get(kind) or ways.get(kind, kind)
    return f"{came}; {_doing(plan, plan.steps[visit.step], message)}"


def _doing(plan: Plan, step: Step, message: Any) -> str:  # noqa: PLR0911, PLR0912 - one line a kind
    match step:
        case Send():
            return _message(f"{step.channel} {step.template}", message)
        case Notify():
            return _message(f"{step.channel} to {step.to}", message)
        case Wait():
            return _waiting(plan, step)
        case Choose():
            return f"asked which of {len(step.branches)} conditions holds"
        case Split():
            return "was put into an arm of the split"
        case Parallel():
            return f"goes {len(step.branches)} ways at the same time"
        case Join():
            return "waits for the other branches" if step.mode == "all" else "the first branch to come goes on"
        case Update():
            return "was written on"
        case Call():
            return f"asked {urlsplit(step.url).hostname}"
        case Enroll():
            return f"was let into {step.journey}"
        case Show():
            return f"is shown {step.template} in {step.slot}" if step.template else f"{step.slot} is hidden"
        case Delete():
            return "was erased"
        case End():
            return "reached the end"
    raise TypeError(f"no such step: {step!r}")


def _message(thing: str, message: Any) -> str:
    if message is None:
        return f"{thing}: not prepared yet"
    word = MessageState(message.state).name.lower().replace("_", " ")
    parts = [f"{thing} {word}"]
    if message.reason:
        parts.append(f"because {message.reason}")
    if message.opened_at:
        parts.append(f"opened at {message.opened_at:%Y-%m-%d %H:%M:%S}")
    if message.clicked_at:
        parts.append(f"clicked at {message.clicked_at:%Y-%m-%d %H:%M:%S}")
    return ", ".join(parts)


def _waiting(plan: Plan, step: Wait) -> str:
    ends = [plan.subscriptions[way.subscription].filter.event for way in step.until]
    ends += ["its criteria hold" for _ in step.watches]
    events = " or ".join(ends)
    if step.date is not None:
        until = f"until {picture.date_of(step.date)}"
    elif step.window is not None:
        until = f"until it is {picture.window(step.window)}"
    elif step.local is not None:
        until = f"until {step.local.time} in {'its own zone' if step.local.zone == 'contact' else step.local.zone}"
    elif step.seconds is not None:
        until = f"for {step.seconds:g} s"
    else:
        until = "as long as it takes"
    return f"waits {until}" + (f", or until {events}" if events else "")


def _waits_for(plan: Plan, row: Any) -> str | None:
    if row.finished_at is not None or row.step is None:
        return None
    step = plan.steps[row.step]
    return _waiting(plan, step) if isinstance(step, Wait) else None


def _ending(row: Any, at_end: bool) -> str:
    why = "at an end step" if at_end else ("by a goal or an exit rule" if row.closed_by else "before an end step")
    return f"finished {why}: {row.outcome}"
