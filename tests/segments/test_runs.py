"""Criteria that compare with the event that began a run (`same`): for each run, not for each contact."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

import segments
from core import eventlog
from core.database import Database
from core.errors import InvalidInput
from core.schema import partitions
from segments import Run, criteria

NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
ANNA, BORIS = 1, 2
OF_CART = {"event.cart": {"same": "cart"}}
PAID: dict[str, Any] = {"name": "order.paid", "where": OF_CART}
_NOWHERE = "a cart that nobody has"

# Contact, event, hours ago, properties.
DEEDS: list[tuple[int, str, float, dict[str, Any]]] = [
    (ANNA, "cart.left", 9, {"cart": 1}),
    (ANNA, "cart.left", 8, {"cart": 2}),
    (ANNA, "order.paid", 7, {"cart": 1, "total": 80}),
    (ANNA, "order.paid", 6, {"cart": 1.0, "total": 30}),
    (ANNA, "order.paid", 5, {"cart": "2", "total": 500}),
    (ANNA, "cart.left", 4, {"cart": 1}),
    (ANNA, "cart.left", 3, {}),
    (ANNA, "order.paid", 2, {"cart": None}),
    (ANNA, "order.paid", 2, {"cart": [3]}),
    (ANNA, "page.viewed", 1, {"path": "/cart", "cart": 2}),
    (BORIS, "cart.left", 9, {"cart": 1}),
    (BORIS, "cart.left", 8, {"cart": 2}),
    (BORIS, "order.paid", 7, {"cart": 2, "total": 100}),
    (BORIS, "order.paid", 6, {"cart": True, "total": 1}),
]
ENTRIES: list[Mapping[str, Any]] = [
    {"cart": 1},
    {"cart": 1.0},
    {"cart": 2},
    {"cart": "2"},
    {"cart": True},
    {"cart": 3},
    {"cart": None},
    {"cart": [3]},
    {},
    {"cart": "\0"},
    {"cart": "\ud800", "\0": 1},
    {"cart": float("nan")},
]
RUNS = [Run(100 * contact + number, contact, one) for contact in (ANNA, BORIS) for number, one in enumerate(ENTRIES)]
ASKED: list[dict[str, Any]] = [
    {"event": PAID},
    {"not": {"event": PAID}},
    {"event": PAID | {"count": 0}},
    {"event": PAID | {"count": {"lt": 2}}},
    {"event": PAID | {"count": {"gte": 2}}},
    {"event": PAID | {"within": "390m"}},
    {"event": PAID | {"where": OF_CART | {"event.total": {"gt": 50}}}},
    {"event": PAID | {"sum": {"event.total": {"gte": 100}}}},
    {"event": PAID | {"first": {"after": "2026-05-13T05:30Z"}}},
    {"event": {"name": "order.paid", "latest": OF_CART}},
    {"event": {"name": "order.paid", "earliest": OF_CART}},
    {"any": [{"event": PAID}, {"page": {"path": "/cart", "where": OF_CART}}]},
    {"sequence": {"steps": [{"name": "cart.left", "where": OF_CART}, PAID]}},
    {"sequence": {"steps": [{"name": "cart.left", "where": OF_CART}], "without": PAID}},
    {"sequence": {"steps": ["cart.left"], "without": PAID, "apart": "2h"}},
    {"not_since": {"event": PAID, "since": {"name": "cart.left", "where": OF_CART}}},
    {"event": PAID, "contact.id": {"gte": 1}, "not": {"event": {"name": "order.paid", "count": {"gte": 4}}}},
]


async def _write(connection: AsyncConnection) -> None:
    await partitions.ensure(connection, "event", NOW - timedelta(days=1), NOW)
    await connection.execute(text("insert into contact (id) overriding system value values (1), (2)"))
    for contact, name, ago, properties in DEEDS:
        await eventlog.record(connection, name, contact, NOW - timedelta(hours=ago), properties)


def _written_out(data: Any, entry: Mapping[str, Any]) -> Any:
    """The criteria of one run with the value in the place of `same`: then segments can be asked."""
    if isinstance(data, list):
        return [_written_out(one, entry) for one in data]
    if not isinstance(data, dict):
        return data
    if "same" in data:
        value = entry.get(data["same"])
        return value if not isinstance(value, list) and value in {1, 2, "2", 3} else _NOWHERE
    return {key: _written_out(value, entry) for key, value in data.items()}


async def test_a_batch_a_run_alone_and_the_values_written_out_agree(database: Database) -> None:
    wrong, some = [], 0
    async with database.begin() as connection:
        await _write(connection)
        for data in ASKED:
            asked = criteria.parse(data, in_journey=True)
            together = await segments.matching_runs(connection, asked, RUNS, NOW)
            some += 0 < len(together) < len(RUNS)
            for run in RUNS:
                alone = await segments.matching_runs(connection, asked, [run], NOW)
                plain = criteria.parse(_written_out(data, run.entry))
                expected = bool(await segments.matching(connection, plain, [run.contact_id], NOW))
                if {run.id in together, run.id in alone} != {expected}:
                    wrong.append((data, run, expected, run.id in together, run.id in alone))
    assert wrong == []
    assert some == len(ASKED), "each criterion tells some of the runs from others"


async def test_criteria_without_same_hold_for_all_runs_of_a_contact(database: Database) -> None:
    async with database.begin() as connection:
        await _write(connection)
        asked = criteria.parse({"event": {"name": "page.viewed"}}, in_journey=True)
        found = await segments.matching_runs(connection, asked, RUNS, NOW)
        assert found == {run.id for run in RUNS if run.contact_id == ANNA}
        assert await segments.matching_runs(connection, asked, [], NOW) == set()


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"event": PAID}, "/event/where/event.cart"),
        ({"not": {"event": {"name": "order.paid", "latest": OF_CART}}}, "/not/event/latest/event.cart"),
        ({"sequence": {"steps": ["cart.left", PAID]}}, "/sequence/steps/1/where/event.cart"),
        ({"form": {"form": "x", "where": OF_CART}}, "/form/where/event.cart"),
    ],
)
def test_where_no_run_was_begun_it_is_refused(data: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        criteria.parse(data)
    assert [(one.path, one.message) for one in refused.value.problems] == [
        (path, "same compares with the event that began a journey; there is none here")
    ]
    criteria.parse(data, in_journey=True)


@pytest.mark.parametrize(
    "data",
    [
        {"rfm": {"event": "order.paid", "total": {"gte": 5}, "where": OF_CART}},
        {"event": {"name": "order.paid", "where": {"event.cart": {"same": 5}}}},
        {"event": {"name": "order.paid", "where": {"event.cart": {"same": "a\0b"}}}},
        {"event": {"name": "order.paid", "where": {"event.cart": {"same": "x" * 201}}}},
        {"event": {"name": "order.paid", "sum": {"event.total": {"same": "total"}}}},
        {"contact.city": {"same": "city"}},
    ],
)
def test_it_is_refused_in_journeys_where_it_says_nothing(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        criteria.parse(data, in_journey=True)
