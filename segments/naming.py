"""Who names a segment: other segments, journeys that somebody may be in, broadcasts under way."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.schema.segments import segment
from segments import criteria
from segments.criteria import Criteria
from segments.resolving import around, segments_of

ENTERED = "segment.entered"
LEFT = "segment.left"

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
    found = [f"the segment {other}" for other, named in (await _segments(connection)).items() if name in named]
    for words, plan in await _plans(connection):
        if name in set(_in_plan(plan)):
            found.append(words)
    found += [words for words, parsed in await _broadcasts(connection) if name in segments_of(parsed)]
    return list(dict.fromkeys(found))


async def users_through(connection: AsyncConnection, name: str) -> list[tuple[str, Criteria]]:
    """The criteria that name a segment, themselves or through other segments, and in words whose they are."""
    named = await _segments(connection)
    meant = around({name}, named)
    found = [(f"the segment {other}", criteria.parse({"contact.segments": other})) for other in sorted(meant - {name})]
    for words, plan in await _plans(connection):
        found += [(words, criteria.parse(data)) for data in _criteria_of(plan)]
    found += await _broadcasts(connection)
    return [(words, parsed) for words, parsed in found if segments_of(parsed) & meant]


async def around_it(connection: AsyncConnection, name: str) -> set[str]:
    """A segment, and all that name it, themselves or through others."""
    return around({name}, await _segments(connection))


async def _segments(connection: AsyncConnection) -> dict[str, set[str]]:
    """Of each segment with criteria, which segments it names."""
    asked = select(segment.c.name, segment.c.criteria).where(segment.c.criteria.is_not(None)).order_by(segment.c.name)
    return {name: segments_of(criteria.parse(data)) for name, data in await connection.execute(asked)}


async def _broadcasts(connection: AsyncConnection) -> list[tuple[str, Criteria]]:
    rows = await connection.execute(_BROADCASTS)
    return [(f"a broadcast of {journey} under way", criteria.parse(data)) for journey, data in rows]


async def _plans(connection: AsyncConnection) -> list[tuple[str, Mapping[str, Any]]]:
    rows = await connection.execute(_PLANS)
    return [(f"the journey {journey} (version {number})", plan) for journey, number, plan in rows]


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


def _criteria_of(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [data for data in (plan["entry"]["criteria"], *plan["criteria"]) if data]


def _in_plan(plan: Mapping[str, Any]) -> Iterator[str]:
    """Every segment that a compiled journey names."""
    entry = plan["entry"]
    yield from filter(None, [entry["segment"]])
    for data in _criteria_of(plan):
        yield from segments_of(criteria.parse(data))
    conversion = [plan["conversion"]] if plan["conversion"] else []
    filters = [one["filter"] for one in (*plan["subscriptions"], *conversion)]
    for one in filter(None, [entry["event"], *filters]):
        yield from heard(one["event"], one["where"]) or ()
    for step in plan["steps"]:
        if step["kind"] == "segment":
            for names in step["data"].values():
                yield from names
