"""Whether the criteria of a plan hold for enrollments."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from journeys.plan import Plan, compared
from segments import Run, matching, matching_runs
from segments.criteria import parse


async def holding(connection: AsyncConnection, plan: Plan, number: int, contact_of: Mapping[int, int]) -> set[int]:
    """The enrollments for which a criterion of the plan holds.

    Args:
        connection: an open transaction.
        plan: of the version they are in.
        number: of the criterion.
        contact_of: the enrollments that are asked about, each with its contact.
    """
    criteria = parse(plan.criteria[number], in_journey=True)
    if any(compared(plan.criteria[number])):
        return await matching_runs(connection, criteria, await _runs(connection, contact_of))
    matched = await matching(connection, criteria, sorted(set(contact_of.values())))
    return {enrollment for enrollment, contact in contact_of.items() if contact in matched}


async def leaving(connection: AsyncConnection, plan: Plan, contact_of: Mapping[int, int]) -> list[list[Any]]:
    """Who meets the criteria that end the journey.

    Args:
        connection: an open transaction.
        plan: of the version they are in.
        contact_of: the enrollments that are asked about, each with its contact.

    Returns:
        [enrollment, visit 0, outcome]; of several rules that hold the first counts.
    """
    left: list[list[Any]] = []
    rest = dict(contact_of)
    for rule in plan.endings.rules if plan.endings else ():
        met = await holding(connection, plan, rule.criteria, rest) if rest else set()
        left += [[enrollment, 0, rule.outcome] for enrollment in sorted(met)]
        rest = {enrollment: contact for enrollment, contact in rest.items() if enrollment not in met}
    return left


async def _runs(connection: AsyncConnection, contact_of: Mapping[int, int]) -> list[Run]:
    rows = await connection.execute(
        text("select id, correlation from enrollment where id = any(:ids)"), {"ids": list(contact_of)}
    )
    return [Run(row.id, contact_of[row.id], row.correlation or {}) for row in rows]
