"""What a new version means for those who are under way: how many stand on each step, and what becomes of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import CompoundSelect, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.documents import did_you_mean
from core.errors import InvalidInput, Problem
from core.schema.journeys import STANDING_ON, enrollment, journey_move, journey_version
from journeys import moving
from journeys.plan import Plan


@dataclass(frozen=True)
class Standing:
    """The contacts on one step of an earlier version."""

    version: int
    step: str
    kind: str
    edit: moving.Edit
    contacts: int
    to: str | None
    """The step of the new version that they go to, `end`, or None: it has to be said."""


class Unplaced(InvalidInput):
    """Contacts stand on steps that the new version does not have, and nobody said where they go."""

    def __init__(self, standing: Sequence[Standing]) -> None:
        self.standing = tuple(standing)
        super().__init__(*(_unplaced(one) for one in standing if one.to is None and one.contacts))


def _unplaced(one: Standing) -> Problem:
    count = "1 contact stands" if one.contacts == 1 else f"{one.contacts:,} contacts stand"
    message = f"{count} on the step {one.step} of version {one.version}, which is gone"
    return Problem(message, f"say where to: --place {one.step}=STEP, or --place {one.step}={moving.END}")


def placed(pairs: Sequence[str]) -> dict[str, str]:
    """Read `old-step=new-step`, one a pair.

    Raises:
        InvalidInput: something is not such a pair.
    """
    wrong = [pair for pair in pairs if not all(pair.partition("="))]
    if wrong:
        raise InvalidInput(*(Problem(f"{pair!r} places nobody", "write old-step=new-step") for pair in wrong))
    return {step: to for step, _, to in (pair.partition("=") for pair in pairs)}


async def standing(
    connection: AsyncConnection, journey_id: int, new: Plan, placement: Mapping[str, str]
) -> list[Standing]:
    """Where the contacts of a journey stand who would be moved to a new version: the steps that somebody stands on,
    and those that are changed or gone. Who is to be moved already is counted where it will be then.

    Raises:
        InvalidInput: the placement names steps that do not exist.
    """
    versions = {
        row.id: (row.number, Plan.model_validate(row.plan))
        for row in await connection.execute(
            select(journey_version.c.id, journey_version.c.number, journey_version.c.plan).where(
                journey_version.c.journey_id == journey_id,
                journey_version.c.id.in_(_inhabited(journey_id)),
            )
        )
    }
    counts = await _counts(connection, journey_id, versions)
    _check(placement, [plan for version, (_, plan) in versions.items() if version in counts], new)
    found: list[Standing] = []
    for version, (number, plan) in sorted(versions.items(), key=lambda item: item[1][0]):
        on = counts.get(version)
        if on is None or plan == new:
            continue
        found += [
            Standing(number, one.step, one.kind, one.edit, on[one.step], one.to)
            for one in moving.edits(plan, new, placement)
            if on[one.step] or one.edit not in {"same", "rerouted"}
        ]
    return found


def _inhabited(journey_id: int) -> CompoundSelect[tuple[int]]:
    running = select(enrollment.c.version_id).where(
        enrollment.c.journey_id == journey_id, enrollment.c.finished_at.is_(None)
    )
    return running.union(select(journey_move.c.version_id).where(journey_move.c.journey_id == journey_id))


async def _counts(
    connection: AsyncConnection, journey_id: int, versions: Mapping[int, tuple[int, Plan]]
) -> dict[int, Counter[str]]:
    """Version id to how many contacts stand on each of its steps, once the moves that are under way are through."""
    rows = await connection.execute(
        select(enrollment.c.version_id, func.unnest(STANDING_ON).label("standing_on"), func.count().label("contacts"))
        .where(enrollment.c.journey_id == journey_id, enrollment.c.finished_at.is_(None))
        .group_by("version_id", "standing_on")
    )
    moves = (
        await connection.execute(
            select(journey_move.c.version_id, journey_move.c.placement)
            .where(journey_move.c.journey_id == journey_id)
            .order_by(journey_move.c.id)
        )
    ).all()
    counts: dict[int, Counter[str]] = {}
    for row in rows:
        version, step = row.version_id, versions[row.version_id][1].steps[row.standing_on or 0].id
        for move in moves:
            (number, plan), (target, new) = versions[version], versions[move.version_id]
            if target > number and step != moving.END:
                way = moving.ways(plan, new, move.placement)[step]
                version, step = move.version_id, way.to
        counts.setdefault(version, Counter())[step] += row.contacts
    return counts


def _check(placement: Mapping[str, str], olds: Sequence[Plan], new: Plan) -> None:
    """Refuse a placement that names what is not there."""
    before = {step.id for plan in olds for step in plan.steps}
    after = {step.id for step in new.steps}
    problems = []
    for step, to in placement.items():
        if step not in before:
            problems.append(Problem(f"nobody stands on a step {step}", did_you_mean(step, tuple(before))))
        if to not in after and to != moving.END:
            problems.append(Problem(f"the new version has no step {to}", did_you_mean(to, tuple(after))))
    if problems:
        raise InvalidInput(*problems)


async def placeable(
    connection: AsyncConnection, journey_id: int, new: Plan, placement: Mapping[str, str]
) -> list[Standing]:
    """Like `standing`, when everybody can be moved.

    Raises:
        Unplaced: contacts stand on a step that is gone, and the placement does not say where they go.
        InvalidInput: the placement names steps that do not exist.
    """
    found = await standing(connection, journey_id, new, placement)
    if any(one.to is None and one.contacts for one in found):
        raise Unplaced(found)
    return found


async def move(
    connection: AsyncConnection, journey_id: int, version_id: int, placement: Mapping[str, str], by: str | None
) -> int:
    """Ask for everybody of earlier versions to go on in this one; the engine does it within moments.

    Returns:
        How many are under way in earlier versions.
    """
    values = {"journey_id": journey_id, "version_id": version_id, "placement": dict(placement), "moved_by": by}
    await connection.execute(insert(journey_move).values(values))
    moving = select(func.count()).where(
        enrollment.c.journey_id == journey_id,
        enrollment.c.version_id != version_id,
        enrollment.c.finished_at.is_(None),
    )
    return int((await connection.execute(moving)).scalar_one())
