"""Criteria against real rows: every family, negation, types, limits, and the words of refusals."""

from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

import segments
from core import eventlog
from core.clock import now
from core.database import Database
from core.errors import InvalidInput
from core.schema import contacts, journeys, messages
from core.schema import segments as segment_tables
from segments import criteria
from segments.criteria import FAMILIES
from segments.criteria.base import Leaf

_SHARED = {
    "__init__",
    "base",
    "check",
    "counting",
    "deeds",
    "doings",
    "parsing",
    "registry",
    "schema",
    "tree",
    "visits",
}


def test_every_family_is_registered() -> None:
    folder = Path(criteria.__file__).parent
    found = {
        family
        for name in {file.stem for file in folder.glob("*.py")} - _SHARED
        for family in vars(import_module(f"segments.criteria.{name}")).values()
        if isinstance(family, type) and issubclass(family, Leaf) and family.__module__.endswith(f".{name}")
    }
    assert found == set(FAMILIES)
    assert len(found) == len({file.stem for file in folder.glob("*.py")} - _SHARED)


async def _people(connection: AsyncConnection) -> None:
    """1 Anna, 2 Boris, 3 an anonymous visitor, 4 a row with the wrong types in it."""
    people: list[dict[str, Any]] = [
        {"id": 1, "language": "ru", "time_zone": "Europe/Moscow", "tags": ["vip", "new"]},
        {"id": 2, "language": "en", "tags": ["new"]},
        {"id": 3},
        {"id": 4},
    ]
    attributes: list[dict[str, Any]] = [
        {"city": "Moscow", "age": 34, "born": "1992-02-29", "staff": False, "interests": ["wheat", "oil"]},
        {"city": "Kazan", "age": 17.5, "born": "2008-11-30", "staff": True},
        {},
        {"city": 7, "age": "old", "born": "2023-02-30", "interests": "wheat"},
    ]
    base: dict[str, Any] = {"language": None, "time_zone": None, "tags": []}
    for person, facts in zip(people, attributes, strict=True):
        created = now() - timedelta(days=person["id"])
        row = base | person | {"attributes": facts, "created_at": created}
        await connection.execute(insert(contacts.contact).values(row))
    await connection.execute(
        insert(contacts.identity),
        [
            {"kind": "email", "value": "anna@example.com", "contact_id": 1},
            {"kind": "email", "value": "a.second@example.org", "contact_id": 1},
            {"kind": "email", "value": "boris@example.com", "contact_id": 2},
            {"kind": "phone", "value": "+79161234567", "contact_id": 2},
        ],
    )
    await connection.execute(
        insert(contacts.consent),
        [
            {"contact_id": 1, "channel": "sms", "purpose": "marketing", "granted": True},
            {"contact_id": 1, "channel": "email", "purpose": "news", "granted": True},
            {"contact_id": 2, "channel": "sms", "purpose": "marketing", "granted": False},
        ],
    )


async def _deeds(connection: AsyncConnection) -> None:
    at = now()
    names = await eventlog.name_ids(connection, ["order.paid", "page.viewed"])
    paid, viewed = names["order.paid"], names["page.viewed"]
    await eventlog.append(
        connection,
        [
            eventlog.NewEvent(1, paid, at, b'{"total": 150, "currency": "RUB"}'),
            eventlog.NewEvent(1, paid, at, b'{"total": 90}'),
            eventlog.NewEvent(2, paid, at - timedelta(days=2), b'{"total": "150"}'),
            eventlog.NewEvent(3, viewed, at),
        ],
    )
    await connection.execute(insert(journeys.journey).values(id=1, name="welcome", title="Welcome"))
    common = {"cohort_id": 1, "journey_id": 1, "version_id": 1, "exclusive": True}
    await connection.execute(
        insert(journeys.enrollment),
        [
            common | {"contact_id": 1, "finished_at": at, "outcome": "bought"},
            common | {"contact_id": 2, "finished_at": None, "outcome": None},
        ],
    )
    await connection.execute(insert(messages.template).values(id=1, name="hello", channel="email"))
    await connection.execute(
        insert(messages.template_version).values(id=1, template_id=1, number=1, source={}, compiled={})
    )
    message = {"created_at": at, "template_version_id": 1, "channel": "email", "purpose": "marketing"}
    await connection.execute(
        insert(messages.message),
        [
            message
            | {
                "id": "0" * 31 + "1",
                "contact_id": 1,
                "state": messages.MessageState.DELIVERED,
                "opened_at": at,
                "delivered_at": at,
            },
            message
            | {
                "id": "0" * 31 + "2",
                "contact_id": 2,
                "state": messages.MessageState.SKIPPED,
                "opened_at": None,
                "delivered_at": None,
            },
        ],
    )
    loyal = {"title": "", "source": ""}
    await connection.execute(insert(segment_tables.segment).values(id=1, name="hand-picked", **loyal))
    await connection.execute(insert(segment_tables.segment_member).values(segment_id=1, contact_id=3))
    await connection.execute(
        insert(segment_tables.segment).values(
            id=2,
            name="either",
            criteria={"any": [{"contact.tags": "vip"}, {"contact.segments": "hand-picked"}]},
            **loyal,
        )
    )


CASES: list[tuple[dict[str, Any], set[int]]] = [
    ({"contact.city": "Moscow"}, {1}),
    ({"contact.city": {"ne": "Moscow"}}, {2, 3, 4}),
    ({"not": {"contact.city": "Moscow"}}, {2, 3, 4}),
    ({"contact.city": ["Moscow", "Kazan"]}, {1, 2}),
    ({"contact.city": {"starts": "Mos"}}, {1}),
    ({"contact.city": {"exists": False}}, {3}),
    ({"contact.age": {"gte": 18}}, {1}),
    ({"contact.age": {"lt": 18}}, {2}),
    ({"contact.age": {"between": [17, 34]}}, {1, 2}),
    ({"not": {"contact.age": {"gte": 18}}}, {2, 3, 4}),
    ({"contact.staff": False}, {1}),
    ({"contact.born": {"before": "2000-01-01"}}, {1}),
    ({"contact.born": {"after": "now-9999w"}}, {1, 2}),
    ({"contact.born": "1992-02-29"}, {1}),
    ({"contact.interests": {"contains": "wheat"}}, {1, 4}),
    ({"contact.language": "ru"}, {1}),
    ({"contact.language": {"ne": "ru"}}, {2, 3, 4}),
    ({"contact.time_zone": {"exists": True}}, {1}),
    ({"contact.created_at": {"after": "now-60h"}}, {1, 2}),
    ({"contact.created_at": {"between": ["now-84h", "now-36h"]}}, {2, 3}),
    ({"contact.email": {"exists": True}}, {1, 2}),
    ({"contact.email": {"exists": False}}, {3, 4}),
    ({"contact.email": "Anna@Example.com"}, {1}),
    ({"contact.email": {"ends": "@example.com"}}, {1, 2}),
    ({"contact.email": {"ne": "anna@example.com"}}, {2, 3, 4}),
    ({"contact.email": {"not_in": ["anna@example.com", "boris@example.com"]}}, {3, 4}),
    ({"contact.phone": {"starts": "+7"}}, {2}),
    ({"contact.tags": "vip"}, {1}),
    ({"contact.tags": {"in": ["vip", "new"]}}, {1, 2}),
    ({"contact.tags": {"not_in": ["vip", "other"]}}, {2, 3, 4}),
    ({"contact.tags": {"exists": False}}, {3, 4}),
    ({"contact.consents": "sms"}, {1}),
    ({"contact.consents": {"channel": "email", "purpose": "news"}}, {1}),
    ({"contact.consents": "email"}, set()),
    ({"not": {"contact.consents": "sms"}}, {2, 3, 4}),
    ({"contact.segments": "hand-picked"}, {3}),
    ({"contact.segments": "either"}, {1, 3}),
    ({"not": {"contact.segments": "either"}}, {2, 4}),
    ({"contact.segments": "nowhere"}, set()),
    ({"event": "order.paid"}, {1, 2}),
    ({"event": {"name": "order.paid", "count": {"gte": 2}}}, {1}),
    ({"event": {"name": "order.paid", "count": {"lt": 2}}}, {2, 3, 4}),
    ({"event": {"name": "order.paid", "count": 0}}, {3, 4}),
    ({"not": {"event": {"name": "order.paid"}}}, {3, 4}),
    ({"event": {"name": "order.paid", "within": "1d", "count": 0}}, {2, 3, 4}),
    ({"event": {"name": "order.paid", "where": {"event.total": {"gt": 100}}}}, {1}),
    ({"event": "nothing.like.it"}, set()),
    ({"message": {"template": "hello"}}, {1}),
    ({"message": {"template": "hello", "state": "opened", "within": "7d"}}, {1}),
    ({"message": {"template": "hello", "state": "skipped"}}, {2}),
    ({"message": {"template": "hello", "state": "clicked"}}, set()),
    ({"journey": "welcome"}, {1, 2}),
    ({"journey": {"name": "welcome", "state": "running"}}, {2}),
    ({"journey": {"name": "welcome", "outcome": "bought", "within": "1d"}}, {1}),
    ({"contact.city": "Moscow", "contact.age": {"gte": 40}}, set()),
    ({"any": [{"contact.city": "Kazan"}, {"contact.tags": "vip"}]}, {1, 2}),
    ({"all": [{"contact.tags": "new"}, {"not": {"any": [{"contact.city": "Kazan"}]}}]}, {1}),
]


async def test_criteria_find_the_right_contacts(database: Database) -> None:
    async with database.begin() as connection:
        await _people(connection)
        await _deeds(connection)
    wrong = []
    async with database.begin() as connection:
        for data, expected in CASES:
            parsed = criteria.parse(data)
            matched = await segments.matching(connection, parsed, [1, 2, 3, 4, 99])
            assert await segments.page(connection, parsed, 0, 10) == sorted(matched)
            assert await segments.count(connection, parsed) == len(matched)
            if matched != expected:
                wrong.append((data, matched, expected))
    assert wrong == []


async def test_pages_go_on_where_the_last_one_ended(database: Database) -> None:
    async with database.begin() as connection:
        await _people(connection)
        assert await segments.page(connection, None, 0, 3) == [1, 2, 3]
        assert await segments.page(connection, None, 3, 3) == [4]
        some = criteria.parse({"contact.city": {"exists": True}})
        assert await segments.page(connection, some, 1, 1) == [2]
        assert await segments.matching(connection, some, []) == set()


async def test_now_is_what_the_caller_says(database: Database) -> None:
    async with database.begin() as connection:
        await _people(connection)
        recent = criteria.parse({"contact.created_at": {"after": "now-1d"}})
        later = datetime.now(UTC) + timedelta(days=300)
        assert await segments.matching(connection, recent, [1, 2, 3], later) == set()
        past = datetime.now(UTC) - timedelta(days=300)
        assert await segments.matching(connection, recent, [1, 2, 3], past) == {1, 2, 3}


async def test_check_refuses_unknown_names_and_types_that_do_not_fit(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(
            insert(contacts.attribute), [{"name": "age", "type": "number"}, {"name": "city", "type": "text"}]
        )
        data = {
            "all": [
                {"contact.age": "old"},
                {"contact.citty": "Moscow"},
                {"contact.segments": "nowhere"},
                {"message": {"template": "nope"}},
                {"contact.age": {"gte": 18}},
                {"contact.city": {"gt": 5}},
            ]
        }
        problems = await criteria.check(connection, criteria.parse(data, "/if").references())
    assert [str(problem) for problem in problems] == [
        "/if/all/0/contact.age: the attribute age is a number; eq with 'old' does not fit (compare it with a number)",
        "/if/all/1/contact.citty: contacts have no attribute citty (did you mean city?)",
        "/if/all/2/contact.segments: there is no segment nowhere (publish it first)",
        "/if/all/3/message/template: there is no template nope (publish it first)",
        "/if/all/5/contact.city: the attribute city is a text; gt with 5 does not fit (compare it with a text)",
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("vip", "criteria are expected here"),
        ({}, "criteria are expected here"),
        ({"al": []}, "unknown criterion al (did you mean all?)"),
        ({"city": "x"}, "unknown criterion city (did you mean contact.city?)"),
        ({"contact.city": None}, "there is no value here"),
        ({"contact.city": {}}, "nothing to compare with"),
        ({"contact.city": {"gt": "x"}}, "gt takes a number or a date, not 'x'"),
        ({"contact.city": {"likes": "x"}}, "unknown operator likes (did you mean like?)"),
        ({"contact.c ity": 1}, "cannot be the name of an attribute"),
        ({"contact.tags": 5}, "does not fit tags"),
        ({"contact.email": {"gt": 5}}, "email is a text"),
        ({"contact.created_at": "x"}, "created_at is compared with dates"),
        ({"contact.language": 5}, "language is a text"),
        ({"contact.segments": [5]}, "the name of a segment"),
        ({"contact.consents": {"chanel": "sms"}}, "unknown key chanel (did you mean channel?)"),
        ({"event": {"name": "x", "within": "30"}}, "within takes a duration"),
        ({"event": {"name": "x", "count": {"gte": 1.5}}}, "count takes whole numbers"),
        ({"event": {"name": "x", "where": {"status": 1}}}, "status is not a property of the event"),
        ({"event": {"name": "x", "where": {"event.a": {"same": "b"}}}}, "there is none here"),
        ({"message": {"template": "x", "state": "open"}}, "unknown state open (did you mean opened?)"),
        ({"any": {}}, "any takes a list of criteria"),
        ({"event.status": "draft"}, "only be tested where there is an event"),
        ({"contact.city": "x" * 1001}, "more than 1000 characters"),
        ({"contact.city": ["x"] * 1001}, "more than 1000 values"),
        ({"contact.city": "a\0b"}, "cannot be stored"),
        ({"any": [{"contact.tags": "a"}] * 301}, "more than 300"),
    ],
)
def test_refusals_say_what_is_wrong(data: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        criteria.parse(data, "/where")
    assert message in str(caught.value)
    assert all(problem.path.startswith("/where") for problem in caught.value.problems)


def test_nesting_is_limited() -> None:
    data: dict[str, Any] = {"contact.tags": "x"}
    for _ in range(20):
        data = {"not": data}
    with pytest.raises(InvalidInput, match="nested more than 10 deep"):
        criteria.parse(data)


async def test_segments_that_contain_each_other_are_refused(database: Database) -> None:
    async with database.begin() as connection:
        for name, other in (("a", "b"), ("b", "a")):
            row = {"name": name, "title": "", "source": "", "criteria": {"contact.segments": other}}
            await connection.execute(insert(segment_tables.segment).values(row))
        with pytest.raises(InvalidInput, match="would contain itself: a → b → a"):
            await segments.resolve(connection, criteria.parse({"contact.segments": "a"}))
