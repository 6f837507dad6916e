"""Journeys that begin by themselves."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

import contacts
from contacts import importing
from contacts.columns import Options
from core.clock import now
from core.database import Database
from core.errors import InvalidInput
from core.schema.contacts import contact
from core.settings import Settings
from engine import almanac, backfill, comings
from engine.cohorts import Cohorts
from engine.router import Router
from engine.versions import Versions
from journeys import store
from journeys.compiler import compile as compiled
from journeys.loader import load
from segments import store as segments


class Deaf(Cohorts):
    """Cohorts whose workflows are never started; what is written in the database is looked at here."""

    def __init__(self) -> None:
        pass

    async def join(self, database: Any, placed: Any) -> None:
        """Nobody is told."""

    async def hear(self, cohort_id: int, heard: Any) -> None:
        """Nobody is told."""

    async def retell(self, database: Any, versions: Any, enrollments: Any = None, older_than: Any = None) -> int:
        """Nobody is told."""
        return 0


@pytest.fixture
async def people(database: Database) -> Database:
    """Four contacts in different zones, and a segment of two."""
    async with database.begin() as connection:
        await contacts.attributes.register(connection, {"born": "date"})
        await connection.execute(
            insert(contact),
            [
                {"id": 1, "tags": ["vip"], "time_zone": "Asia/Tokyo", "attributes": {"born": "1990-03-10"}},
                {"id": 2, "tags": ["vip"], "time_zone": None, "attributes": {"born": "1991-03-10"}},
                {"id": 3, "tags": [], "time_zone": None, "attributes": {"born": "2000-02-29"}},
                {"id": 4, "tags": [], "time_zone": None, "attributes": {}},
            ],
        )
        await segments.publish(connection, "segment: vip\ncriteria: {contact.tags: vip}\n")
    return database


async def _publish(database: Database, enter: str, *, backfill: bool = False) -> int:
    async with database.begin() as connection:
        source = f"journey: j\nenter: {enter}\nsteps: [{{wait: 1h}}]\n"
        return (await store.publish(connection, source, backfill=backfill)).version_id


async def _tag(database: Database, number: int, *tags: str) -> None:
    async with database.begin() as connection:
        await connection.execute(update(contact).where(contact.c.id == number).values(tags=list(tags)))
        await contacts_event(connection, number)


async def contacts_event(connection: AsyncConnection, number: int) -> None:
    """Something happens to a contact."""
    from core import eventlog

    await eventlog.record(connection, "page.viewed", number, now())


async def _inside(database: Database) -> list[int]:
    async with database.begin() as connection:
        rows = await connection.execute(text("select contact_id from enrollment order by contact_id"))
        return list(rows.scalars())


async def _settle(tracker: comings.Tracker) -> None:
    while await tracker.track() or await tracker.sweep():
        pass


@pytest.mark.parametrize(("on", "expected"), [("entered", [3]), ("left", [1])])
async def test_segment_entered_and_left(people: Database, settings: Settings, on: str, expected: list[int]) -> None:
    await _publish(people, f"{{segment: vip, on: {on}}}")
    versions = Versions()
    tracker = comings.Tracker(people, versions)
    await _settle(tracker)
    await _tag(people, 3, "vip")
    await _tag(people, 1)
    await _settle(tracker)
    await Router(people, settings, Deaf(), versions).round()
    assert await _inside(people) == expected


async def test_segment_is_in_lets_members_in_once_and_those_who_come(people: Database, settings: Settings) -> None:
    await _publish(people, "{segment: vip, on: in}")
    for _ in range(2):
        await backfill.let_members_in(people)
    async with people.begin() as connection:
        rows = await connection.execute(text("select occasion, criteria ->> 'contact.segments' from broadcast"))
        assert [tuple(row) for row in rows] == [("present:1:vip", "vip")]
    versions = Versions()
    tracker = comings.Tracker(people, versions)
    await _settle(tracker)
    await _tag(people, 4, "vip")
    await _settle(tracker)
    await Router(people, settings, Deaf(), versions).round()
    assert await _inside(people) == [4]


async def test_backfill_is_a_broadcast_for_each_wish(people: Database) -> None:
    await _publish(people, "{segment: vip, on: entered}")
    await backfill.let_members_in(people)
    async with people.begin() as connection:
        assert (await connection.execute(text("select count(*) from broadcast"))).scalar_one() == 0
    for wishes in (1, 2):
        await _publish(people, "{segment: vip, on: entered}", backfill=True)
        for _ in range(2):
            await backfill.let_members_in(people)
        async with people.begin() as connection:
            assert (await connection.execute(text("select count(*) from broadcast"))).scalar_one() == wishes
    with pytest.raises(InvalidInput, match="names none"):
        await _publish(people, "{event: x}", backfill=True)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("{event: segment.entered, where: {event.segment: vip}}", {"vip"}),
        ("{event: segment.left, where: {event.segment: {in: [a, b]}}}", {"a", "b"}),
        ("{event: segment.left}", None),
        ("{event: page.viewed}", set()),
    ],
)
def test_which_segments_a_journey_listens_to(filters: str, expected: set[str] | None) -> None:
    waits = compiled(load(f"journey: j\nsteps: [{{wait: 1h, until: {filters}}}]\n"))
    begins = compiled(load(f"journey: j\nenter: {filters}\nsteps: [end]\n"))
    assert comings.segments_heard(waits) == comings.segments_heard(begins) == expected


async def _turn(database: Database, monkeypatch: pytest.MonkeyPatch, since: datetime, until: datetime) -> list[int]:
    """Let time go from one moment to another; gives who was let in."""
    monkeypatch.setattr(almanac, "now", lambda: until)
    async with database.begin() as connection:
        await connection.execute(text("delete from log_cursor"))
        await connection.execute(
            text("insert into log_cursor (reader, position) values ('date:1', :at), ('rule:1', :at)"),
            {"at": int(since.timestamp())},
        )
    calendar = almanac.Almanac(database, Versions())
    for _ in range(2):
        await calendar.turn()
    async with database.begin() as connection:
        rows = await connection.execute(
            text(
                "select e.contact_id from event e join event_name n on n.id = e.name_id "
                "where n.name = 'journey.enter' order by e.contact_id"
            )
        )
        return list(rows.scalars())


@pytest.mark.parametrize(
    ("enter", "since", "until", "expected"),
    [
        # 10:00 in Tokyo is 1:00 in UTC.
        ("{date: contact.born, yearly: true}", (3, 10, 0, 59), (3, 10, 1, 0), [1]),
        ("{date: contact.born, yearly: true}", (3, 10, 1, 0), (3, 10, 9, 59), []),
        ("{date: contact.born, yearly: true}", (3, 10, 9, 59), (3, 10, 10, 0), [2]),
        ("{date: contact.born, yearly: true, in: Europe/Moscow}", (3, 10, 6, 0), (3, 10, 7, 0), [1, 2]),
        ("{date: contact.born, yearly: true, minus: 3d, at: '8:00'}", (3, 7, 7, 0), (3, 7, 8, 0), [2]),
        ("{date: contact.born, yearly: true, plus: 1d}", (3, 11, 9, 0), (3, 11, 11, 0), [2]),
        ("{date: contact.born, yearly: true}", (2, 28, 9, 0), (2, 28, 11, 0), [3]),
        ("{date: contact.born}", (3, 10, 9, 0), (3, 10, 11, 0), []),
        ("{date: contact.born, yearly: true, where: {contact.tags: none}}", (3, 10, 9, 0), (3, 10, 11, 0), []),
    ],
)
async def test_dates(
    people: Database,
    monkeypatch: pytest.MonkeyPatch,
    enter: str,
    since: tuple[int, ...],
    until: tuple[int, ...],
    expected: list[int],
) -> None:
    await _publish(people, enter)
    begin, end = (datetime(2027, *moment, tzinfo=UTC) for moment in (since, until))  # type: ignore[arg-type,misc]
    async with people.begin() as connection:
        from core.schema import partitions

        await partitions.ensure(connection, "event", begin, end)
    assert await _turn(people, monkeypatch, begin, end) == expected


async def test_what_was_missed_for_long_is_not_made_up_for(people: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await _publish(people, "{schedule: FREQ=DAILY;BYHOUR=9, segment: vip}")
    until = datetime(2026, 12, 10, 12, tzinfo=UTC)
    await _turn(people, monkeypatch, until - timedelta(days=5), until)
    async with people.begin() as connection:
        rows = await connection.execute(text("select occasion from broadcast"))
        assert list(rows.scalars()) == ["rule:1:2026-12-10 09:00:00+00:00"]


async def test_runs_of_a_rule_that_fall_due_in_a_pause_are_left_out(
    people: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _publish(people, "{schedule: FREQ=HOURLY, segment: vip, reenter: always}")
    noon, calendar = datetime(2026, 12, 10, 12, tzinfo=UTC), almanac.Almanac(people, Versions())
    async with people.begin() as connection:
        await connection.execute(
            text("insert into log_cursor (reader, position) values ('rule:1', :at)"), {"at": int(noon.timestamp())}
        )
    for hours, state in ((1, "active"), (2, "paused"), (29.9, "paused"), (30, "active"), (31, "active")):
        async with people.begin() as connection:
            await store.set_state(connection, "j", state)
        monkeypatch.setattr(almanac, "now", lambda hours=hours: noon + timedelta(hours=hours))
        await calendar.turn()
    async with people.begin() as connection:
        occasions = list((await connection.execute(text("select occasion from broadcast order by id"))).scalars())
    assert occasions == [f"rule:1:{noon + timedelta(hours=hours)}" for hours in (1, 30, 31)]


async def test_a_day_that_comes_in_a_pause_lets_its_contacts_in_page_by_page(
    people: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(almanac, "_PAGE", 1)
    await _publish(people, "{date: contact.born, yearly: true, in: UTC}")
    async with people.begin() as connection:
        await store.set_state(connection, "j", "paused")
        from core.schema import partitions

        begin, end = datetime(2027, 3, 10, 9, tzinfo=UTC), datetime(2027, 3, 10, 11, tzinfo=UTC)
        await partitions.ensure(connection, "event", begin, end)
    assert await _turn(people, monkeypatch, begin, end) == [1, 2]
    async with people.begin() as connection:
        rows = await connection.execute(text("select reader, position from log_cursor"))
        assert {row.reader: row.position for row in rows}["date:1"] == int(end.timestamp())


async def test_an_import_lets_its_contacts_in(people: Database, settings: Settings, tmp_path: Path) -> None:
    await _publish(people, "{segment: vip}")
    file = tmp_path / "people.csv"
    file.write_text("email\nann@example.com\nbo@example.com\nann@example.com\n")
    with pytest.raises(InvalidInput, match=r"there is no journey i"):
        await importing.import_file(people, file, Options(enter="i"), settings=settings)
    await importing.import_file(people, file, Options(enter="j"), settings=settings, dry_run=True)
    for _ in range(2):
        await importing.import_file(people, file, Options(enter="j"), settings=settings)
    await Router(people, settings, Deaf(), Versions()).round()
    async with people.begin() as connection:
        rows = await connection.execute(
            text("select i.value from enrollment e join identity i on i.contact_id = e.contact_id order by i.value")
        )
        assert list(rows.scalars()) == ["ann@example.com", "bo@example.com"]


@pytest.mark.parametrize(
    ("enter", "said"),
    [
        ("{segment: all, on: entered}", "on tells how contacts come to a segment"),
        ("{event: x, on: left}", "on tells how contacts come to a segment"),
        ("{event: x, date: contact.born}", "an event, a segment or a date"),
        ("{event: x, yearly: true}", "belong to a date"),
        ("{date: contact.born, minus: 1d, plus: 1d}", "minus and plus at once"),
        ("{date: born}", "date"),
        ("{schedule: FREQ=SECONDLY, segment: all}", "once an hour at most"),
    ],
)
def test_entries_that_are_refused(enter: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        load(f"journey: j\nenter: {enter}\nsteps: [end]\n")
