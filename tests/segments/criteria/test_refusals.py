"""What is refused when criteria are defined, in words; and that what people write stays data on its way into SQL."""

import time
from datetime import timedelta
from typing import Any
from zoneinfo import available_timezones

import pytest
from sqlalchemy import insert, text
from sqlalchemy.dialects import postgresql

import segments
from core import documents, eventlog
from core.database import Database
from core.errors import InvalidInput
from core.schema import contacts, partitions
from segments import comparison, criteria, patterns, periods, store
from segments.examples import CRITERIA, OPERATORS
from tests.segments.criteria import world

_POSTGRES: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
_EXPLODE = "which can explode"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"contact.city": {"regexp": "(a+)+$"}}, _EXPLODE),
        ({"contact.city": {"regexp": "((a|b)*c)*"}}, _EXPLODE),
        ({"contact.city": {"regexp": "(a{50}){50}"}}, _EXPLODE),
        ({"contact.city": {"regexp": "a{1000}"}}, "counts to more than 100"),
        ({"contact.city": {"regexp": "(abcdefghijk){100}"}}, "too large once its counts are unrolled"),
        ({"contact.city": {"regexp": "x" * 201}}, "more than 200 characters"),
        ({"contact.city": {"regexp": r"(a)\1"}}, "refers back"),
        ({"contact.city": {"regexp": "a(?=b)"}}, "looks around"),
        ({"contact.city": {"regexp": r"\bword"}}, r"with \b"),
        ({"contact.city": {"regexp": "(?s)a"}}, "a flag other than (?i)"),
        ({"contact.city": {"regexp": "(^a)*"}}, "repeats ^ or $"),
        ({"contact.city": {"regexp": r"\0"}}, "cannot be stored"),
        ({"contact.city": {"regexp": "["}}, "not a regular expression: unterminated character set"),
        ({"contact.city": {"regexp": 5}}, "regexp takes a text"),
        ({"contact.city": {"like": "a\\"}}, "ends with a lone"),
        ({"contact.city": {"like": "%a" * 11}}, "more than 10 %"),
        ({"contact.born": {"date": "this fortnight"}}, "date takes a period, not 'this fortnight'"),
        ({"contact.born": {"date": "today in Atlantis"}}, "date takes a period"),
        ({"contact.born": {"date": "last 9999 years"}}, "date takes a period"),
        ({"contact.born": {"anniversary": "anniversary"}}, "anniversary takes a period"),
        ({"contact.likes": {"contains_any": []}}, "takes a list with at least one value"),
        ({"contact.age": {"empty": "yes"}}, "empty takes true or false"),
        ({"contact.known": "yes"}, "contact.known is true or false"),
        ({"contact.last_active_at": 5}, "a time is compared here"),
        ({"contact.last_active_at": {"date": "today in the contact's time zone"}}, "the installation's clock"),
        ({"contact.consents": "smss"}, "unknown channel smss (did you mean sms?)"),
        ({"message": {"channel": "pigeon"}}, "unknown channel pigeon"),
        ({"contact.phone": "12"}, "12 is no phone number"),
        ({"contact.suppressed": "pigeon"}, "unknown channel pigeon"),
        ({"contact.segments": {"starts": "a"}}, "the name of a segment is expected here"),
        ({"contact.consents": {"channel": "sms", "state": "maybe"}}, "unknown state maybe"),
        ({"company.c ity": 1}, "cannot be the name of an attribute"),
        ({"company.name": 5}, "the name of a company is a text"),
        ({"event": {}}, "a mapping is expected here"),
        ({"event": {"name": []}}, "name is missing or is not the name of an event"),
        ({"event": {"name": "x", "sum": 5}}, "sum names a property (write sum: {event.total: {gte: 100}})"),
        (
            {"event": {"name": "x", "sum": {"total": 5}}},
            "total is not a property of the event (did you mean event.total?)",
        ),
        ({"event": {"name": "x", "sum": {"event.total": "5"}}}, "a number is compared here"),
        ({"event": {"name": "x", "when": "one day"}}, "date takes a period"),
        ({"event": {"name": "x", "last": {"regexp": "a"}}}, "a time is compared here"),
        (
            {"event": {"name": "x", "where": {"event.a": {"date": "today in the contact's time zone"}}}},
            "not by the contact's",
        ),
        ({"sequence": {"steps": ["a"]}}, "steps takes a list of 2 to 5 events"),
        ({"sequence": {"steps": ["a"] * 6}}, "steps takes a list of 2 to 5 events"),
        ({"not_since": {"event": "a"}}, "since is missing"),
        ({"page": {"path": {"gt": "x"}}}, "gt takes a number or a date"),
        ({"session": {"pages": "many"}}, "a number is compared here"),
        ({"session": {"source": 5}}, "source is a text"),
        ({"session": {"which": "second", "pages": 1}}, "unknown which second"),
        ({"utm": {"which": "first"}}, "nothing is compared"),
        ({"utm": {"source": "a", "which": "first", "count": 2}}, "nothing to count"),
        ({"message": {"state": "read"}}, "unknown state read"),
        ({"message": {"url": "*x*", "state": "opened"}}, "url is about messages that were clicked"),
        ({"message": {"step": "letter"}}, "a step belongs to a journey"),
        ({"journey": {"name": "a", "version": 0}}, "version is a whole number from 1"),
        ({"journey": {"name": "a", "step": "b", "state": "finished"}}, "who stands at a step is in the journey"),
        ({"score": {"points": "many"}}, "a number is compared here"),
        ({"random": 0}, "a share is some percent"),
        ({"random": {"share": 50, "from": 60}}, "a share is some percent"),
        ({"random": 12.345}, "at most two decimals"),
        ({"rfm": {"event": "a"}}, "nothing is compared"),
        ({"rfm": {"event": "a", "value": "total", "recency": 5}}, "value names a property of the event"),
        ({"exclude": [5]}, "criteria are expected here"),
    ],
)
def test_what_cannot_be_is_refused_in_words(data: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        criteria.parse(data, "/criteria")
    assert message in str(caught.value)
    assert all(problem.path.startswith("/criteria/") for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("contact.citty: Moscow", r"s\.yaml:4:5: contacts have no attribute citty \(did you mean city\?\)"),
        ("contact.age: {gte: 2020-05-01}", r"s\.yaml:4:5: the attribute age is a number; gte with '2020-05-01'"),
        ("contact.city: {regexp: (a+)+$}", r"s\.yaml:4:20: .*which can explode"),
        (
            "event: {name: order.paid, where: {event.cart: {same: cart}}}",
            r"s\.yaml:4:39: same compares with the event that began a journey; there is none here",
        ),
    ],
)
async def test_a_definition_is_refused_by_file_line_and_column(database: Database, line: str, message: str) -> None:
    async with database.begin() as connection:
        await connection.execute(
            insert(contacts.attribute), [{"name": "city", "type": "text"}, {"name": "age", "type": "number"}]
        )
        with pytest.raises(InvalidInput, match=message):
            await store.publish(connection, f"segment: s\ncriteria:\n  all:\n  - {line}\n", "s.yaml")


async def test_moments_are_compared_as_they_are_kept(database: Database) -> None:
    kept = "2026-05-09T09:00:00Z"
    async with database.begin() as connection:
        await connection.execute(
            insert(contacts.attribute), [{"name": "at", "type": "datetime"}, {"name": "word", "type": "text"}]
        )
        await connection.execute(
            insert(contacts.contact), [{"id": 1, "attributes": {"at": kept, "word": kept}}, {"id": 2, "attributes": {}}]
        )
        await store.publish(connection, "segment: s\ncriteria: {contact.at: '2026-05-09 12:00+03:00'}\n")
        for data, expected in (
            ({"contact.at": "2026-05-09T12:00:00+03:00"}, {1}),
            ({"contact.at": {"ne": "2026-05-09T12:00+03:00"}}, {2}),
            ({"contact.at": ["2026-01-01", "2026-05-09T09:00"]}, {1}),
            ({"contact.word": "2026-05-09T12:00:00+03:00"}, set()),
            ({"not": {"contact.segments": "s"}}, {2}),
        ):
            found = await segments.matching(connection, criteria.parse(data), [1, 2])
            assert found == expected, data


async def test_phone_numbers_are_compared_as_they_are_kept(database: Database) -> None:
    async with database.begin() as connection:
        await world.build(connection)
        for data in ({"contact.phone": "8 (916) 123-45-67"}, {"contact.phone": ["+7 916 1234567", "+79990000000"]}):
            assert await segments.matching(connection, criteria.parse(data), [world.ANNA, world.BORIS]) == {world.ANNA}


async def test_what_we_did_is_no_activity_of_the_contact(database: Database) -> None:
    async with database.begin() as connection:
        await partitions.ensure(connection, "event", world.NOW - timedelta(days=60), world.NOW)
        await connection.execute(insert(contacts.contact), [{"id": number} for number in range(1, 5)])
        for number, name in enumerate(
            ("message.delivered", "message.bounced", "consent.requested", "message.opened"), 1
        ):
            await eventlog.record(connection, name, number, world.NOW)
        asked = criteria.parse({"contact.last_active_at": {"after": "2026-01-01"}})
        assert await segments.matching(connection, asked, [1, 2, 3, 4]) == {4}


async def test_what_does_not_exist_is_refused(database: Database) -> None:
    data = {
        "all": [
            {"company.employees": 5},
            {"company.employes": 5},
            {"score": {"points": 5}},
            {"message": {"journey": "nowhere", "step": "x"}},
            {"include": ["loyal", "loial"]},
            {"message": {"provider": "man"}},
            {"company.employees": {"starts": "2"}},
        ]
    }
    async with database.begin() as connection:
        await world.build(connection)
        found = await criteria.check(connection, criteria.parse(data).references())
    assert [str(problem) for problem in found] == [
        "/all/1/company.employes: there is no company attribute employes (did you mean employees?)",
        "/all/2/score/points: contacts have no attribute points "
        "(import contacts that have it, or create the attribute)",
        "/all/3/message/journey: there is no journey nowhere (publish it first)",
        "/all/4/include/1: there is no segment loial (did you mean loyal?)",
        "/all/5/message/provider: there is no provider man (did you mean main?)",
        "/all/6/company.employees: employees of companies is a number; starts with '2' does not fit "
        "(compare it with such a value)",
    ]


@pytest.mark.parametrize("pattern", ["(a|a)*$", "a*a*a*a*a*b", ".*.*.*.*=", "[a-z]*[a-y]*[a-x]*!", "(a?){100}b"])
async def test_a_pattern_that_is_let_in_is_quick_everywhere(database: Database, pattern: str) -> None:
    assert patterns.wrong_regexp(pattern) is None
    subject = "a" * 30_000
    began = time.monotonic()
    comparison.Comparison(operator="regexp", operand=pattern).holds(subject, world.NOW)
    assert time.monotonic() - began < 2
    async with database.begin() as connection:
        await connection.execute(text("set local statement_timeout = '10s'"))
        await connection.execute(insert(contacts.contact).values(id=1, attributes={"city": subject}))
        await segments.count(connection, criteria.parse({"contact.city": {"regexp": pattern}}))


_HOSTILE = "x'); drop table contact; --%(a)s :b {c} \\ \" $1 %"


def _hostile(data: Any, key: str = "") -> Any:
    """The same with hostile text in the place of every text that may be anything."""
    fixed = {
        "date",
        "anniversary",
        "before",
        "after",
        "within",
        "when",
        "apart",
        "regexp",
        "like",
        "not_like",
        "not_regexp",
    }
    if isinstance(data, dict):
        return {name: value if name in fixed | _CHOICES else _hostile(value, name) for name, value in data.items()}
    if isinstance(data, list):
        return [_hostile(one, key) for one in data]
    return _HOSTILE if isinstance(data, str) and not data.startswith(("now", "20")) else data


_CHOICES = {"state", "which", "value", "contact.suppressed", "contact.consents", "channel", "first", "last"}


async def test_hostile_text_reaches_sql_only_as_a_parameter(database: Database) -> None:
    async with database.begin() as connection:
        await world.build(connection)
        for section in (*CRITERIA, *OPERATORS):
            for example, _ in section.examples:
                parsed = criteria.parse(_hostile(documents.read(example).data))
                resolved = await segments.resolve(connection, parsed)
                sql = str(resolved.clause().compile(dialect=_POSTGRES))
                assert "drop table" not in sql, example
                await segments.matching(connection, parsed, [world.ANNA], world.NOW)
        assert (await connection.execute(text("select count(*) from contact"))).scalar_one() == 12


async def test_hostile_names_of_attributes_and_properties(database: Database) -> None:
    name = f"event.{_HOSTILE}"
    asked = [
        {"event": {"name": "order.paid", "where": {name: {"gt": 1}}}},
        {"event": {"name": "order.paid", "sum": {name: {"gt": 1}}, "latest": {name: "x"}}},
        {"rfm": {"event": "order.paid", "value": name, "recency": {"gte": 4}}},
        {"contact.city": {"regexp": r"x'\); drop table contact; --"}},
        {"contact.city": {"like": "x'); drop table contact; --%"}},
    ]
    async with database.begin() as connection:
        for data in asked:
            parsed = criteria.parse(data)
            assert "drop table" not in str(parsed.clause().compile(dialect=_POSTGRES))
            assert await segments.matching(connection, parsed, [1]) == set()
    with pytest.raises(InvalidInput):
        criteria.parse({f"contact.{_HOSTILE}": 1})


async def test_every_time_zone_that_can_be_written_is_one_that_postgresql_knows(database: Database) -> None:
    assert periods.read("today in localtime") is None
    zones = [zone for zone in available_timezones() if periods.read(f"today in {zone}")]
    assert len(zones) > 400
    async with database.begin() as connection:
        await connection.execute(
            text("select timezone(zone, now()) from unnest(cast(:zones as text[])) zone"), {"zones": zones}
        )
