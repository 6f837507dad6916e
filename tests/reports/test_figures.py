"""What a report says is what a direct count over the tables gives, however it is cut."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database import Database
from reports.declarations import ENROLLMENTS, MESSAGES, AnyMeasure, Dimension, Measure
from reports.dimensions.registry import DIMENSIONS
from reports.measures.registry import BY_SLUG, MEASURES
from reports.query import Wanted, build, parts
from studio import status
from tests.reports.ledgers import DAYS, Ledger, end, ledgers, write

# Written apart from the declarations: one plain count for each measure.
_GOAL = (
    "exists (select from journey_version v, unnest(array['$.subscriptions', '$.endings.rules']) as place, "
    "jsonb_path_query(v.plan, cast(place || '[*]' as jsonpath)) s "
    "where v.id = t.version_id and s ->> 'role' = 'goal' and s ->> 'outcome' = t.outcome)"
)
DIRECT = {
    "sent": "select count(*) from message t where state in (50, 60, 70)",
    "delivered": "select count(*) from message t where state = 60",
    "opened": "select count(*) from message t where opened_at is not null",
    "clicked": "select count(*) from message t where clicked_at is not null",
    "bounced": "select count(*) from message t where state = 70",
    "failed": "select count(*) from message t where state = 40",
    "skipped": "select count(*) from message t where state = 15",
    "entries": "select count(*) from enrollment t where true",
    "finished": "select count(*) from enrollment t where state = 'finished'",
    "goals": f"select count(*) from enrollment t where state = 'finished' and closed_by is not null and {_GOAL}",
    "conversions": "select count(*) from conversion t where true",
    "conversion-value": "select coalesce(sum(value), 0) from conversion t where true",
}
TIMES = {"message": "created_at", "enrollment": "entered_at", "conversion": "occurred_at"}
_OF_JOURNEY = (
    " and t.version_id in (select v.id from journey_version v join journey j on j.id = v.journey_id "
    "where j.name = any(:journeys))"
)


def _fitting(dimensions: tuple[Dimension, ...], measures: tuple[AnyMeasure, ...]) -> bool:
    return all(dimension.fits(part.source) for dimension in dimensions for part in parts(measures))


async def _rows(connection: AsyncConnection, wanted: Wanted) -> list[dict[str, Any]]:
    return [dict(row) for row in (await connection.execute(build(wanted))).mappings()]


async def _direct(connection: AsyncConnection, wanted: Wanted, slug: str) -> float:
    table = next(name for name in TIMES if f"from {name} t" in DIRECT[slug])
    query = f"{DIRECT[slug]} and t.{TIMES[table]} >= :since and t.{TIMES[table]} < :until"
    if wanted.journeys:
        query += _OF_JOURNEY
    if wanted.channels:
        query += " and t.channel = any(:channels)"
    values = {
        "since": wanted.since, "until": wanted.until,
        **({"journeys": list(wanted.journeys)} if wanted.journeys else {}),
        **({"channels": list(wanted.channels)} if wanted.channels else {}),
    }  # fmt: skip
    return float(await connection.scalar(text(query), values) or 0)


def _wanted(measures: tuple[AnyMeasure, ...], dimensions: tuple[Dimension, ...] = (), **other: Any) -> Wanted:
    values: dict[str, Any] = {"since": end() - timedelta(days=DAYS), "until": end(), "zone": "UTC", "limit": 10_000}
    return Wanted(measures, dimensions, **values | other)


@st.composite
def _asked(draw: st.DrawFn) -> Wanted:
    measures = tuple(draw(st.lists(st.sampled_from(MEASURES), min_size=1, unique=True)))
    fitting = [one for one in DIMENSIONS if _fitting((one,), measures)]
    by = tuple(draw(st.lists(st.sampled_from(fitting), unique=True)))
    only_messages = all(part.source is MESSAGES for part in parts(measures))
    back = draw(st.integers(1, DAYS * 24))
    return _wanted(
        measures,
        by,
        since=end() - timedelta(hours=back),
        until=end() - timedelta(hours=draw(st.integers(0, back - 1))),
        zone=draw(st.sampled_from(["UTC", "Asia/Vladivostok", "America/New_York"])),
        journeys=tuple(draw(st.lists(st.sampled_from(["one", "two"]), unique=True))),
        channels=tuple(draw(st.lists(st.sampled_from(["email", "sms"]), unique=True))) if only_messages else (),
    )


def test_every_counted_measure_has_a_direct_count() -> None:
    assert set(DIRECT) == {measure.slug for measure in MEASURES if isinstance(measure, Measure)}


async def test_figures_are_those_of_a_direct_count_however_they_are_cut(database: Database) -> None:
    loop = asyncio.get_running_loop()

    async def check(ledger: Ledger, wanted: Wanted) -> None:
        async with database.engine.connect() as connection:  # rolled back: each example begins with nothing
            await write(connection, ledger)
            rows = await _rows(connection, wanted)
            places = [tuple(row[one.slug] for one in wanted.dimensions) for row in rows]
            assert len(set(places)) == len(places)
            whole = (await _rows(connection, _wanted(wanted.measures, (), **_same(wanted))))[0]
            for measure in wanted.measures:
                if isinstance(measure, Measure):
                    said = await _direct(connection, wanted, measure.slug)
                    assert sum(row[measure.slug] for row in rows) == whole[measure.slug] == said, measure.slug
                else:
                    part, base = [await _direct(connection, wanted, one) for one in (measure.part, measure.whole)]
                    assert whole[measure.slug] == (part / base if base else None)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(ledgers, _asked())
    def examples(ledger: Ledger, wanted: Wanted) -> None:
        asyncio.run_coroutine_threadsafe(check(ledger, wanted), loop).result(60)

    await asyncio.to_thread(examples)


def _same(wanted: Wanted) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in ("since", "until", "journeys", "channels")}


def _message(hours: int = 1, **other: Any) -> dict[str, Any]:
    return {
        "hours": hours, "version_id": 1, "step": 0, "template_version_id": 1, "provider_id": 1, "state": 50,
        "channel": "email", "purpose": "marketing", "reason": None, "opened": False, "clicked": False, **other,
    }  # fmt: skip


_NAMED = [
    _message(opened=True),
    _message(version_id=2, template_version_id=2, step=1, state=60),
    _message(version_id=3, template_version_id=3, channel="sms", provider_id=2, state=70, opened=True, clicked=True),
    _message(version_id=None, template_version_id=None, provider_id=None, state=15, reason="no_consent"),
    _message(state=40, reason="550 no such user"),
]


@pytest.mark.parametrize(
    ("slug", "expected"),
    [
        ("journey", {"one": 2, "two": 1, None: 0}),
        ("step", {"first": 2, "second": 1, None: 0}),
        ("template", {"hello": 2, "bye": 1, None: 0}),
        ("channel", {"email": 2, "sms": 1}),
        ("provider", {"main": 2, "other": 1, None: 0}),
        ("purpose", {"marketing": 3}),
        ("skip-reason", {"no_consent": 0, None: 3}),
    ],
)
async def test_groups_have_their_names(database: Database, slug: str, expected: dict[str | None, int]) -> None:
    by = next(one for one in DIMENSIONS if one.slug == slug)
    async with database.begin() as connection:
        await write(connection, Ledger(_NAMED, [], []))
        rows = await _rows(connection, _wanted((BY_SLUG["sent"],), (by,)))
    assert {row[slug]: row["sent"] for row in rows} == expected


async def test_a_day_begins_when_it_does_in_the_time_zone(database: Database) -> None:
    day = next(one for one in DIMENSIONS if one.slug == "day")
    last = end()
    async with database.begin() as connection:
        await write(connection, Ledger([_message(0)], [], []))  # half an hour before midnight in UTC
        for zone, moved in (("UTC", -1), ("Europe/Moscow", 0)):
            rows = await _rows(connection, _wanted((BY_SLUG["sent"],), (day,), zone=zone))
            assert [row["day"] for row in rows] == [(last + timedelta(days=moved)).date()]


async def test_figures_of_several_sources_stand_in_one_row(database: Database) -> None:
    journey = next(one for one in DIMENSIONS if one.slug == "journey")
    entered = [{"hours": 1, "version_id": 2, "state": "finished", "closed_by": 7, "outcome": "paid"}]
    worth = [{"hours": 1, "version_id": 1, "value": value} for value in (2.5, None)]
    async with database.begin() as connection:
        await write(connection, Ledger(_NAMED, entered, worth))
        slugs = ("sent", "open-rate", "entries", "goals", "conversions", "conversion-value")
        rows = await _rows(connection, _wanted(tuple(BY_SLUG[slug] for slug in slugs), (journey,)))
    assert [tuple(row.values()) for row in rows] == [
        ("one", 2, 0.5, 1, 1, 2, 2.5),
        ("two", 1, 1.0, 0, 0, 0, 0.0),
        (None, 0, None, 0, 0, 0, 0.0),
    ]


async def test_the_status_page_says_the_same(database: Database) -> None:
    async with database.begin() as connection:
        entered = [
            {"hours": 1, "version_id": version, "state": state, "closed_by": None, "outcome": None}
            for version, state in ((1, "active"), (2, "finished"), (3, "finished"))
        ]
        await write(connection, Ledger([*_NAMED, _message(purpose="staff")], entered, []))
        page = await status.overview(connection)
        slugs = ("sent", "delivered", "bounced", "failed", "skipped", "opened", "clicked", "entries", "finished")
        row = (await _rows(connection, _wanted(tuple(BY_SLUG[slug] for slug in slugs))))[0]
    states = page.messages
    assert row["sent"] == states["accepted"] + states["delivered"] + states["bounced"] == 4
    assert [row[slug] for slug in slugs[1:5]] == [states[slug] for slug in slugs[1:5]] == [1, 1, 1, 1]
    assert (row["opened"], row["clicked"]) == (page.opened, page.clicked) == (2, 1)
    assert row["entries"] == sum(line.entered for line in page.journeys) == 3
    assert row["finished"] == sum(sum(line.outcomes.values()) for line in page.journeys) == 2


def test_what_does_not_fit_is_not_counted() -> None:
    channel = next(one for one in DIMENSIONS if one.slug == "channel")
    assert not channel.fits(ENROLLMENTS)
    with pytest.raises(ValueError, match="enrollments have no channel"):
        build(_wanted((BY_SLUG["entries"],), (channel,)))
