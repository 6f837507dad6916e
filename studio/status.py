"""Figures for the status pages, counted in the tables themselves; `studio.kept` sees that it is not done too often."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import NotFound
from core.schema.journeys import STANDING_ON
from core.schema.messages import MessageState
from journeys import picture
from journeys.plan import Plan, Step

_STEPS = f"unnest({STANDING_ON})"
_LONGEST = 120
"""Of each part of a step's line."""


@dataclass(frozen=True)
class JourneyLine:
    """A journey in the list: who is in it now and what became of the others."""

    name: str
    title: str
    state: str
    version: int | None
    hasten: float
    entered: int
    running: int
    standing: Mapping[str, int]
    """Contacts by the id of the step where they are now, in the order of the plan."""
    outcomes: Mapping[str, int]
    messages: Mapping[str, int]


@dataclass(frozen=True)
class Overview:
    """The installation at a glance."""

    contacts: int
    events: int
    latest_events: Mapping[str, int]
    """The last LATEST events by name."""
    messages: Mapping[str, int]
    opened: int
    clicked: int
    journeys: list[JourneyLine]


@dataclass(frozen=True)
class StepLine:
    """A step of a version with the contacts who stand there."""

    number: int
    id: str
    kind: str
    does: str
    here: int
    visits: int
    messages: Mapping[str, int]


@dataclass(frozen=True)
class VersionPage:
    """One version of a journey, with figures by step."""

    number: int
    published_at: datetime
    published_by: str | None
    hasten: float
    newcomers: bool
    entering: int
    steps: list[StepLine]
    outcomes: Mapping[str, int]


@dataclass(frozen=True)
class JourneyPage:
    """Everything the page of a journey shows, the version that newcomers get first."""

    name: str
    title: str
    state: str
    versions: list[VersionPage]


LATEST = 10_000
"""Events that are counted by name: the newest ones, so that a log of millions costs no more."""


async def overview(connection: AsyncConnection) -> Overview:
    """Count everything once."""
    contacts = await connection.scalar(text("select count(*) from contact"))
    events = await connection.scalar(text("select count(*) from event"))
    totals = (await connection.execute(text("select count(opened_at), count(clicked_at) from message"))).one()
    by_version = await _pairs(
        connection,
        "select v.journey_id, m.state, count(*) from message m "
        "left join journey_version v on v.id = m.version_id group by 1, 2",
    )
    outcomes = await _pairs(
        connection,
        "select journey_id, coalesce(outcome, 'finished'), count(*) from enrollment where state = 'finished' "
        "group by 1, 2 order by 3 desc",
    )
    entered = await _pairs(connection, "select journey_id, state, count(*) from enrollment group by 1, 2")
    standing = await _standing(connection)
    rows = await connection.execute(
        text(
            "select j.id, j.name, j.title, j.state, v.number, cast(v.plan ->> 'hasten' as double precision) as hasten "
            "from journey j left join journey_version v on v.id = j.version_id order by j.name"
        )
    )
    journeys = [
        JourneyLine(
            name=row.name,
            title=row.title,
            state=row.state,
            version=row.number,
            hasten=row.hasten or 1.0,
            entered=sum(entered.get(row.id, {}).values()),
            running=sum(count for state, count in entered.get(row.id, {}).items() if state != "finished"),
            standing=standing.get(row.id, {}),
            outcomes=outcomes.get(row.id, {}),
            messages=_states(by_version.get(row.id, {})),
        )
        for row in rows
    ]
    every: dict[Any, int] = {}
    for states in by_version.values():
        for state, count in states.items():
            every[state] = every.get(state, 0) + count
    latest = await _latest_events(connection)
    return Overview(contacts or 0, events or 0, latest, _states(every), totals[0], totals[1], journeys)


async def _standing(connection: AsyncConnection) -> dict[int, dict[str, int]]:
    """By journey: how many contacts are at each step, by its id, over all versions."""
    rows = await connection.execute(
        text(
            "select e.journey_id, case e.state when 'entering' then 'entering' "  # noqa: S608 - a constant
            "else v.plan #>> array['steps', e.step::text, 'id'] end as step, sum(e.n)::int as n "
            f"from (select journey_id, version_id, state, {_STEPS} as step, count(*) as n from enrollment "
            "where state <> 'finished' group by 1, 2, 3, 4) e "
            "join journey_version v on v.id = e.version_id group by 1, 2 order by 1, min(e.step) nulls first"
        )
    )
    found: dict[int, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row.journey_id, {})[row.step or "entering"] = row.n
    return found


async def _latest_events(connection: AsyncConnection) -> dict[str, int]:
    rows = await connection.execute(
        text(
            "select n.name, count(*) as n from event e join event_name n on n.id = e.name_id "
            "where e.id > (select max(id) from event) - :latest group by 1 order by 1"
        ),
        {"latest": LATEST},
    )
    return {row.name: row.n for row in rows}


async def journey(connection: AsyncConnection, name: str) -> JourneyPage:
    """The figures of one journey. NotFound if there is none of this name."""
    row = (
        await connection.execute(
            text("select id, name, title, state, version_id from journey where name = :name"), {"name": name}
        )
    ).first()
    if row is None:
        raise NotFound(f"there is no journey {name!r}")
    key = {"journey": row.id}
    here = await _pairs(
        connection,
        f"select version_id, {_STEPS}, count(*) from enrollment "  # noqa: S608 - a constant
        "where journey_id = :journey and state <> 'finished' group by 1, 2",
        key,
    )
    outcomes = await _pairs(
        connection,
        "select version_id, coalesce(outcome, 'finished'), count(*) from enrollment "
        "where journey_id = :journey and state = 'finished' group by 1, 2 order by 3 desc",
        key,
    )
    visits = await _pairs(
        connection,
        "select s.version_id, s.step, count(*) from step_visit s join journey_version v on v.id = s.version_id "
        "where v.journey_id = :journey group by 1, 2",
        key,
    )
    sent = await _pairs(
        connection,
        "select array[m.version_id, m.step], m.state, count(*) from message m "
        "join journey_version v on v.id = m.version_id where v.journey_id = :journey group by 1, 2",
        key,
    )
    versions = await connection.execute(
        text(
            "select id, number, plan, published_at, published_by from journey_version where journey_id = :journey "
            "order by id = cast(:newest as int) desc, number desc"
        ),
        {**key, "newest": row.version_id},
    )
    pages = []
    for version in versions:
        plan = Plan.model_validate(version.plan)
        standing = here.get(version.id, {})
        steps = [
            StepLine(
                number,
                step.id,
                step.kind,
                describe(step, plan),
                standing.get(number, 0),
                visits.get(version.id, {}).get(number, 0),
                _states(sent.get((version.id, number), {})),
            )
            for number, step in enumerate(plan.steps)
        ]
        pages.append(
            VersionPage(
                version.number,
                version.published_at,
                version.published_by,
                plan.hasten,
                version.id == row.version_id,
                standing.get(None, 0),
                steps,
                outcomes.get(version.id, {}),
            )
        )
    return JourneyPage(row.name, row.title, row.state, pages)


def describe(step: Step, plan: Plan) -> str:
    """What a step does, in one line, with its ways if it has several."""
    ways = picture.ways(plan, step)
    named = [f"{words}: {plan.steps[to].id}" for words, to in ways] if len(ways) > 1 else []
    words = [picture.does(plan, step), *named]
    return "; ".join(word if len(word) <= _LONGEST else word[: _LONGEST - 1] + "…" for word in words if word)


def _states(counts: Mapping[Any, int]) -> dict[str, int]:
    return {MessageState(state).name.lower().replace("_", " "): counts[state] for state in sorted(counts)}


async def _pairs(
    connection: AsyncConnection, query: str, values: Mapping[str, Any] | None = None
) -> dict[Any, dict[Any, int]]:
    """Rows of (outer key, inner key, count) as nested dictionaries; arrays become tuples to be keys."""
    result: dict[Any, dict[Any, int]] = {}
    for outer, inner, count in await connection.execute(text(query), values or {}):
        result.setdefault(tuple(outer) if isinstance(outer, list) else outer, {})[inner] = count
    return result
