"""Journeys and their versions in the database."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import case, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.documents import did_you_mean
from core.errors import InvalidInput, NotFound, Problem
from core.schema.journeys import enrollment, journey, journey_version
from journeys import compiler, edits, moving, references
from journeys.edits import Standing
from journeys.loader import load
from journeys.plan import Plan
from journeys.steps.known import NO_ABILITIES, Abilities

STATES = ("active", "paused", "finishing", "stopped")
"""finishing: nobody enters any more, and those inside go on to their end; stopped: it has ended for everybody."""


@dataclass(frozen=True)
class Published:
    """What publishing came to."""

    journey: str
    version_id: int
    number: int
    changed: bool
    """False if the present version is just this one."""
    standing: tuple[Standing, ...] = ()
    """With a move: where those stood who are moved."""
    moving: int = 0
    """With a move: how many contacts that is."""


@dataclass(frozen=True)
class Found:
    """A journey with the version that newcomers get."""

    id: int
    name: str
    title: str
    state: str
    version_id: int
    number: int
    published_at: datetime
    published_by: str | None
    source: str
    plan: Plan


async def publish(
    connection: AsyncConnection,
    source: str | bytes,
    file: str = "",
    by: str | None = None,
    hasten: float = 1.0,
    *,
    move: bool = False,
    placement: Mapping[str, str] | None = None,
    backfill: bool = False,
    abilities: Abilities = NO_ABILITIES,
) -> Published:
    """Make a journey's next version, the one newcomers get. Publishing the same again changes nothing.

    Those who are under way stay on their versions, or are moved to this one: each to the step of the same id.

    Args:
        connection: an open transaction.
        source: the YAML.
        file: its name, for messages.
        by: who publishes.
        hasten: waits are divided by this; for demonstrations.
        move: take those who are under way along, also from a version before the last.
        backfill: let in those, too, who are members of its segment already.
        abilities: what can be done here, by the settings.
        placement: with `move`, where contacts go from steps that are gone: step id to step id, or to `end`.

    Raises:
        InvalidInput: every problem with the file or with what it names, with line and column.
        Unplaced: contacts stand on steps that are gone; it has the numbers of all.
    """
    if placement and not move:
        raise InvalidInput(Problem("a placement says where contacts are moved to", "add --move"))
    written = load(source, file)
    problems = await references.problems_of(connection, written, abilities)
    if problems:
        raise InvalidInput(*problems)
    plan = compiler.compile(written, hasten)
    if backfill and plan.entry.segment is None:
        raise InvalidInput(Problem("a backfill lets members of a segment in; this journey names none", "take it out"))
    content = source.decode("utf-8-sig") if isinstance(source, bytes) else source
    number_of_journey = await _lock(connection, plan)
    before = await _newest(connection, number_of_journey)
    if before is not None:
        plan = moving.keep_arms(Plan.model_validate(before.plan), plan)
    body = plan.model_dump(mode="json")
    if backfill:
        wish = update(journey).where(journey.c.id == number_of_journey)
        await connection.execute(wish.values(backfills=journey.c.backfills + 1))
    stood = await edits.placeable(connection, number_of_journey, plan, placement or {}) if move else []
    if before is not None and before.source == content and before.plan == body:
        moved = await edits.move(connection, number_of_journey, before.id, placement or {}, by) if move else 0
        return Published(plan.journey, before.id, before.number, changed=False, standing=tuple(stood), moving=moved)
    number = 1 if before is None else before.number + 1
    made = await connection.execute(
        insert(journey_version)
        .values(journey_id=number_of_journey, number=number, source=content, plan=body, published_by=by)
        .returning(journey_version.c.id)
    )
    version_id = made.scalar_one()
    await connection.execute(
        update(journey).where(journey.c.id == number_of_journey).values(version_id=version_id, title=plan.title)
    )
    moved = await edits.move(connection, number_of_journey, version_id, placement or {}, by) if move else 0
    return Published(plan.journey, version_id, number, changed=True, standing=tuple(stood), moving=moved)


async def preview(
    connection: AsyncConnection,
    source: str | bytes,
    file: str = "",
    hasten: float = 1.0,
    placement: Mapping[str, str] | None = None,
) -> list[Standing]:
    """What publishing with a move would mean for those who are under way; changes nothing.

    Raises:
        InvalidInput: every problem with the file; the placement names steps that do not exist.
    """
    plan = compiler.compile(load(source, file), hasten)
    found = await connection.execute(select(journey.c.id).where(journey.c.name == plan.journey))
    number = found.scalar_one_or_none()
    before = None if number is None else await _newest(connection, number)
    if number is None or before is None:
        return []
    plan = moving.keep_arms(Plan.model_validate(before.plan), plan)
    return await edits.standing(connection, number, plan, placement or {})


async def _lock(connection: AsyncConnection, plan: Plan) -> int:
    """The journey's row, made if there is none, and locked: two who publish at once take turns."""
    made = await connection.execute(
        text(
            "insert into journey as j (name, title) values (:name, :title) "
            "on conflict (name) do update set title = j.title returning id"
        ),
        {"name": plan.journey, "title": plan.title},
    )
    return int(made.scalar_one())


async def _newest(connection: AsyncConnection, journey_id: int) -> Any:
    rows = await connection.execute(
        select(journey_version)
        .where(journey_version.c.journey_id == journey_id)
        .order_by(journey_version.c.number.desc())
        .limit(1)
    )
    return rows.one_or_none()


async def find(connection: AsyncConnection, name: str) -> Found:
    """A journey with its present version.

    Raises:
        NotFound: no journey of that name was published.
    """
    rows = await connection.execute(
        select(
            journey.c.id,
            journey.c.name,
            journey.c.title,
            journey.c.state,
            journey_version.c.id.label("version_id"),
            journey_version.c.number,
            journey_version.c.published_at,
            journey_version.c.published_by,
            journey_version.c.source,
            journey_version.c.plan,
        )
        .join(journey_version, journey_version.c.id == journey.c.version_id)
        .where(journey.c.name == name)
    )
    row = rows.mappings().one_or_none()
    if row is None:
        raise await _not_found(connection, name)
    return Found(**{**row, "plan": Plan.model_validate(row["plan"])})


async def _not_found(connection: AsyncConnection, name: str) -> NotFound:
    known = tuple((await connection.execute(select(journey.c.name))).scalars())
    mend = did_you_mean(name, known)
    return NotFound(f"there is no journey {name}" + (f"; {mend}" if mend else ""))


async def listing(connection: AsyncConnection) -> list[dict[str, Any]]:
    """All journeys by name: name, title, state, version, published_at, how many contacts are in it and came through."""
    running = (
        select(
            enrollment.c.journey_id,
            func.count(case((enrollment.c.finished_at.is_(None), 1))).label("running"),
            func.count(enrollment.c.finished_at).label("finished"),
        )
        .group_by(enrollment.c.journey_id)
        .subquery()
    )
    rows = await connection.execute(
        select(
            journey.c.name,
            journey.c.title,
            journey.c.state,
            journey.c.paused_because,
            journey_version.c.number.label("version"),
            journey_version.c.published_at,
            func.coalesce(running.c.running, 0).label("running"),
            func.coalesce(running.c.finished, 0).label("finished"),
        )
        .join(journey_version, journey_version.c.id == journey.c.version_id)
        .outerjoin(running, running.c.journey_id == journey.c.id)
        .order_by(journey.c.name)
    )
    return [dict(row) for row in rows.mappings()]


async def set_state(connection: AsyncConnection, name: str, state: str) -> str:
    """Pause, resume (`active`), finish or stop a journey.

    The change is counted in `journey.control`, so that cohorts hear of it. Setting the state it has changes nothing.

    Returns:
        The state before.

    Raises:
        NotFound: no such journey.
        InvalidInput: no such state.
    """
    if state not in STATES:
        raise InvalidInput(f"there is no state {state}; {did_you_mean(state, STATES)}")
    rows = await connection.execute(
        select(journey.c.id, journey.c.state).where(journey.c.name == name).with_for_update()
    )
    row = rows.one_or_none()
    if row is None:
        raise await _not_found(connection, name)
    if row.state != state:
        change = update(journey).where(journey.c.id == row.id)
        await connection.execute(change.values(state=state, control=journey.c.control + 1, paused_because=None))
    return str(row.state)


async def pause_itself(connection: AsyncConnection, journey_id: int, why: str) -> bool:
    """Pause a journey that runs, and say why; gives whether it ran. People resume it."""
    change = update(journey).where(journey.c.id == journey_id, journey.c.state == "active")
    done = await connection.execute(
        change.values(state="paused", control=journey.c.control + 1, paused_because=why[:500])
    )
    return bool(done.rowcount)


async def plan_of(connection: AsyncConnection, version_id: int) -> Plan:
    """The plan of a version. Raises NotFound."""
    rows = await connection.execute(select(journey_version.c.plan).where(journey_version.c.id == version_id))
    data = rows.scalar_one_or_none()
    if data is None:
        raise NotFound(f"there is no journey version {version_id}")
    return Plan.model_validate(data)
