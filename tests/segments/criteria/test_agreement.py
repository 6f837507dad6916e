"""For generated criteria and data, the SQL for sets, the check of single contacts, and a naive evaluation agree."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

import segments
from core import eventlog
from core.database import Database
from core.schema import companies, contacts, journeys, messages, partitions, sessions
from core.schema import segments as tables
from core.schema.messages import MessageState
from segments import criteria
from segments.criteria.parsing import TREE_KEYS
from segments.criteria.registry import FAMILIES
from tests.segments.criteria.generated import COMPANIES, CRITERIA, NAMES, NOW, PEOPLE, SEGMENTS
from tests.segments.criteria.naive import Person, holds

Rows = Iterator[dict[str, Any]]
_JOURNEYS = {"onboarding": 1, "renewal": 2}
_TEMPLATES = {"welcome": 1, "digest": 2}
_OWN_NAMES = ("message.replied", "message.clicked")


def _at(ago: float) -> datetime:
    return NOW - timedelta(hours=ago)


async def _surroundings(connection: AsyncConnection) -> None:
    """What people are in and what they get: companies, segments, journeys, templates; once."""
    if (await connection.execute(text("select exists (select from journey)"))).scalar_one():
        return
    for number, (key, held) in enumerate(COMPANIES.items(), 1):
        row = {"id": number, "key": key, "name": key, "attributes": held}
        await connection.execute(insert(companies.company).values(row))
    for number, (name, data) in enumerate(SEGMENTS.items(), 1):
        segment = {"id": number, "name": name, "title": name, "source": ""}
        await connection.execute(
            insert(tables.segment).values(segment if data is None else segment | {"criteria": data})
        )
    for name, number in _JOURNEYS.items():
        plan = {"steps": [{"id": "first"}, {"id": "last"}]}
        await connection.execute(insert(journeys.journey).values(id=number, name=name, title=name))
        version = {"id": number, "journey_id": number, "number": 1, "source": "", "plan": plan}
        await connection.execute(insert(journeys.journey_version).values(version))
    for name, number in _TEMPLATES.items():
        await connection.execute(insert(messages.template).values(id=number, name=name, channel="email"))
        made = {"id": number, "template_id": number, "number": 1, "source": {}, "compiled": {}}
        await connection.execute(insert(messages.template_version).values(made))


async def _write(connection: AsyncConnection, people: list[Person]) -> None:
    await connection.execute(
        text(
            "truncate contact, identity, consent, suppression, event, session, contact_touch, message, enrollment, "
            "step_visit cascade"
        )
    )
    await _surroundings(connection)
    for table, rows_of in _ROWS:
        rows = [row for person in people for row in rows_of(person)]
        if rows:
            await connection.execute(insert(table), rows)
    names = await eventlog.name_ids(connection, [*NAMES, *_OWN_NAMES])
    await eventlog.append(
        connection,
        [
            eventlog.NewEvent(person["id"], names[name], _at(ago), json.dumps(properties) if properties else None)
            for person in people
            for name, ago, properties in [*person["events"], *_told(person)]
        ],
    )


def _contact(person: Person) -> Rows:
    company = person["company"]
    yield {
        "id": person["id"],
        "tags": person["tags"],
        "attributes": person["attributes"],
        "time_zone": person["zone"],
        "language": person["language"],
        "created_at": _at(person["created"]),
        "company_id": None if company is None else 1 + list(COMPANIES).index(company),
    }


def _identities(person: Person) -> Rows:
    for one in person["emails"]:
        address = f"{one}{person['id']}@x.example"
        known = {"kind": "email", "value": address, "contact_id": person["id"]}
        yield known | {"created_at": _at(person["identified"])}


def _suppressions(person: Person) -> Rows:
    for one, reason in person["suppressed"].items():
        yield {"channel": "email", "address": f"{one}{person['id']}@x.example", "reason": reason}


def _consents(person: Person) -> Rows:
    for channel, granted in person["consents"].items():
        yield {"contact_id": person["id"], "channel": channel, "purpose": "marketing", "granted": granted}


def _listed(person: Person) -> Rows:
    if person["lists"]:
        yield {"segment_id": 1, "contact_id": person["id"]}


def _sessions(person: Person) -> Rows:
    for one in person["sessions"]:
        at = _at(one["ago"])
        kept = {"contact_id": person["id"], "site_id": 1, "started_at": at, "ended_at": at}
        yield kept | {name: value for name, value in one.items() if name != "ago"}


def _touches(person: Person) -> Rows:
    for which, touch in enumerate(person["touches"]):
        if touch is not None:
            row = {"contact_id": person["id"], "site_id": 1, "which": which, "url": "", "source": touch["source"]}
            yield row | {"at": _at(touch["ago"])}


def _messages(person: Person) -> Rows:
    for place, one in enumerate(person["messages"]):
        row = {name: one[name] for name in ("channel", "purpose", "reason")}
        row |= {"id": _message(person, place), "contact_id": person["id"], "created_at": _at(one["ago"])}
        row |= {"state": MessageState[one["state"]], "template_version_id": _TEMPLATES.get(one["template"])}
        row |= {"version_id": _JOURNEYS.get(one["journey"])}
        marks = ("delivered", "opened", "clicked")
        yield row | {f"{mark}_at": _at(one["ago"]) if mark in one["marks"] else None for mark in marks}


def _message(person: Person, place: int) -> UUID:
    return UUID(int=person["id"] * 100 + place)


def _told(person: Person) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """The events that tell what became of messages."""
    for place, one in enumerate(person["messages"]):
        about = {"message": str(_message(person, place))}
        if one["answer"] is not None:
            yield "message.replied", one["ago"], about | {"text": one["answer"]}
        if one["url"] is not None:
            yield "message.clicked", one["ago"], about | {"url": one["url"]}


def _runs(person: Person) -> Rows:
    for place, one in enumerate(person["runs"]):
        done = one["outcome"] is not None
        yield {
            "id": person["id"] * 100 + place,
            "contact_id": person["id"],
            "cohort_id": 1,
            "journey_id": _JOURNEYS[one["journey"]],
            "version_id": _JOURNEYS[one["journey"]],
            "exclusive": False,
            "entered_at": _at(one["ago"]),
            "key": one["key"],
            "step": one["step"],
            "outcome": one["outcome"],
            "finished_at": NOW if done else None,
            "state": "finished" if done else "active",
        }


def _visits(person: Person) -> Rows:
    for place, one in enumerate(person["runs"]):
        if one["visited"]:
            visit = {"arrived_at": _at(one["ago"]), "enrollment_id": person["id"] * 100 + place, "visit": 1}
            yield visit | {"version_id": _JOURNEYS[one["journey"]], "step": one["step"]}


_ROWS: tuple[tuple[Table, Callable[[Person], Rows]], ...] = (
    (contacts.contact, _contact),
    (contacts.identity, _identities),
    (contacts.suppression, _suppressions),
    (contacts.consent, _consents),
    (tables.segment_member, _listed),
    (sessions.session, _sessions),
    (sessions.contact_touch, _touches),
    (messages.message, _messages),
    (journeys.enrollment, _runs),
    (journeys.step_visit, _visits),
)


async def _agree(database: Database, people: list[Person], asked: list[dict[str, Any]]) -> None:
    people = [{**person, "id": number} for number, person in enumerate(people, 1)]
    ids = [person["id"] for person in people]
    async with database.begin() as connection:
        for table in ("event", "message", "step_visit"):
            await partitions.ensure(connection, table, NOW - timedelta(days=70), NOW)
        await _write(connection, people)
        for place, data in enumerate(asked):
            parsed = criteria.parse(data)
            one = ids[place % len(ids)]
            naive = {person["id"] for person in people if holds(data, person, people)}
            found = {
                "page": set(await segments.page(connection, parsed, 0, 100, NOW)),
                "together": await segments.matching(connection, parsed, ids, NOW),
                "alone": (naive - {one}) | await segments.matching(connection, parsed, [one], NOW),
            }
            wrong = {way: [people[number - 1] for number in sorted(them ^ naive)] for way, them in found.items()}
            assert not any(wrong.values()), f"{data}: naive {naive}, {found}"
            assert await segments.count(connection, parsed, NOW) == len(naive)


_PEOPLE = st.lists(PEOPLE, min_size=5, max_size=8)
_ASKED = st.lists(CRITERIA, min_size=20, max_size=20)
_OFTEN = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    # shrinking so much data against a database takes for ever
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],
}


@pytest.mark.timeout(600)
@settings(max_examples=25, **_OFTEN)  # type: ignore[arg-type]
@given(people=_PEOPLE, asked=_ASKED)
async def test_sets_single_contacts_and_a_naive_evaluation_agree(
    database: Database, people: list[Person], asked: list[dict[str, Any]]
) -> None:
    await _agree(database, people, asked)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=400, **_OFTEN)  # type: ignore[arg-type]
@given(people=_PEOPLE, asked=_ASKED)
async def test_they_agree_on_a_great_many(
    database: Database, people: list[Person], asked: list[dict[str, Any]]
) -> None:
    await _agree(database, people, asked)


def test_every_family_of_criteria_is_generated() -> None:
    seen: set[str] = set()

    def look(data: Any) -> None:
        for key, value in data.items() if isinstance(data, dict) else ():
            seen.add(key)
            for one in value if isinstance(value, list) else [value]:
                look(one)

    @settings(max_examples=1500, database=None, derandomize=True, phases=[Phase.generate], deadline=None)
    @given(CRITERIA)
    def generate(data: dict[str, Any]) -> None:
        look(data)

    generate()
    named = [family for family in FAMILIES if family.KEYS]  # attributes have free names
    assert [family.__name__ for family in named if not seen & set(family.KEYS)] == []
    assert set(TREE_KEYS) <= seen
