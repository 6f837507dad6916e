"""Journeys that let contacts into one another for ever, without anybody waiting: an endless loop of messages.

Within one journey `graph.restless_loops` finds such loops; these go through `enroll` and other journeys' entries.
"""

from collections.abc import Iterator, Mapping

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import Problem
from core.schema.journeys import journey as journeys
from core.schema.journeys import journey_version
from journeys import graph
from journeys.compiler import Assembly
from journeys.plan import Act, Plan
from journeys.steps.known import Known


async def endless(assembly: Assembly, known: Known) -> list[Problem]:
    """The steps of a journey that is published by which its contacts would come back to it at once, for ever."""
    enrolls = _enrolls(assembly.plan)
    if not enrolls or not _lets_in_again(assembly.plan):
        return []
    own = assembly.plan.journey
    plans = {**await known.once(_published), own: assembly.plan}
    return [
        known.problem((*assembly.paths[number], "enroll"), _said(way), _MEND)
        for number, other in enrolls.items()
        if (way := _way_back(plans, own, other)) is not None and _repeats(assembly.plan, way)
    ]


_MEND = "put a wait before it, or write reenter: never or a cooldown under enter"


def _said(way: tuple[str, ...]) -> str:
    return f"contacts would be let in for ever, without a wait: {' → '.join(way)}"


def _enrolls(plan: Plan) -> dict[int, str]:
    """The steps that let contacts into other journeys and that one may come to without waiting; and which journeys."""
    steps = ((number, plan.steps[number]) for number in sorted(graph.at_once(plan)))
    return {
        number: str(step.data["journey"]) for number, step in steps if isinstance(step, Act) and step.kind == "enroll"
    }


def _lets_in_again(plan: Plan) -> bool:
    return plan.entry.reenter != "never" and not plan.entry.cooldown_seconds


def _repeats(own: Plan, way: tuple[str, ...]) -> bool:
    """Whether the way can be gone again: who lets itself in is still inside, so `after_exit` stops it."""
    return len(way) > 2 or own.entry.reenter == "always"


def _way_back(plans: Mapping[str, Plan], own: str, first: str) -> tuple[str, ...] | None:
    """The journeys from one by its step back to itself; None if they do not lead back."""
    front: list[tuple[str, ...]] = [(own, first)]
    seen = {first}
    while front:
        way = front.pop(0)
        if way[-1] == own:
            return way
        for other in _followers(plans, way[-1]):
            if other not in seen:
                seen.add(other)
                front.append((*way, other))
    return None


def _followers(plans: Mapping[str, Plan], name: str) -> Iterator[str]:
    plan = plans.get(name)
    if plan is not None and _lets_in_again(plan):
        yield from _enrolls(plan).values()


async def _published(connection: AsyncConnection) -> dict[str, Plan]:
    """The present versions that let contacts into other journeys, of journeys that anybody can enter."""
    rows = await connection.execute(
        select(journeys.c.name, journey_version.c.plan)
        .join(journey_version, journey_version.c.id == journeys.c.version_id)
        .where(
            journeys.c.state.in_(("active", "paused")),
            text("jsonb_path_exists(journey_version.plan, '$.steps[*] ? (@.kind == \"enroll\")')"),
        )
    )
    return {row.name: Plan.model_validate(row.plan) for row in rows}
