"""Who names a segment: other segments, journeys that somebody may be in, broadcasts under way."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.schema.segments import segment
from segments import criteria
from segments.tracking import ENTERED, LEFT

_PLANS = text(
    "select j.name, v.number, v.plan from journey_version v join journey j on j.id = v.journey_id "
    "where (v.id = j.version_id and j.state in ('active', 'paused')) "
    "or exists (select from cohort c where c.version_id = v.id and c.state <> 'finished') order by j.name, v.number"
)
_BROADCASTS = text(
    "select j.name, b.criteria from broadcast b join journey_version v on v.id = b.version_id "
    "join journey j on j.id = v.journey_id where b.finished_at is null and b.criteria is not null order by 1"
)


async def users(connection: AsyncConnection, name: str) -> list[str]:
    """What names a segment, in words."""
    rows = await connection.execute(select(segment.c.name, segment.c.criteria).where(segment.c.criteria.is_not(None)))
    found = [f"the segment {other}" for other, data in rows if name in _in_criteria(data)]
    for journey, number, plan in await connection.execute(_PLANS):
        if name in set(_in_plan(plan)):
            found.append(f"the journey {journey} (version {number})")
    for journey, data in await connection.execute(_BROADCASTS):
        if name in _in_criteria(data):
            found.append(f"a broadcast of {journey} under way")
    return found


def heard(event: str, where: Mapping[str, Any]) -> set[str] | None:
    """The segments whose comings and goings an event filter is about; None for all of them, none for other events."""
    if event not in {ENTERED, LEFT}:
        return set()
    test = where.get("segment")
    if isinstance(test, dict):
        test = test.get("eq", test.get("in"))
    if isinstance(test, str):
        return {test}
    return set(test) if isinstance(test, list) else None


def _in_criteria(data: Mapping[str, Any]) -> set[str]:
    return {one.name for one in criteria.parse(data).references() if one.kind == "segment"}


def _in_plan(plan: Mapping[str, Any]) -> Iterator[str]:
    """Every segment that a compiled journey names."""
    entry = plan["entry"]
    yield from filter(None, [entry["segment"]])
    for data in filter(None, [entry["criteria"], *plan["criteria"]]):
        yield from _in_criteria(data)
    conversion = [plan["conversion"]] if plan["conversion"] else []
    filters = [one["filter"] for one in (*plan["subscriptions"], *conversion)]
    for one in filter(None, [entry["event"], *filters]):
        yield from heard(one["event"], one["where"]) or ()
    for step in plan["steps"]:
        if step["kind"] == "segment":
            for names in step["data"].values():
                yield from names
