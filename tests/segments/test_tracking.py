"""Comings and goings of segments as events of the log, and what is kept about members."""

import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core import eventlog
from core.clock import now
from core.database import Database
from core.schema.contacts import contact
from segments import growth, members, membership, store, tracking


@pytest.fixture
async def people(database: Database) -> Database:
    """Ten contacts, of whom the even ones are vip, and three segments."""
    async with database.begin() as connection:
        rows = [{"id": number, "tags": ["vip"] if number % 2 == 0 else []} for number in range(1, 11)]
        await connection.execute(insert(contact), rows)
        await store.publish(connection, "segment: vip\ncriteria: {contact.tags: vip}\n")
        await store.publish(connection, "segment: other\ncriteria: {contact.tags: other}\n")
        await store.publish(connection, "segment: buyers\ncriteria: {event: order.paid}\n")
    return database


async def _events(connection: AsyncConnection) -> list[tuple[str, int, str]]:
    rows = await connection.execute(
        text(
            "select n.name, e.contact_id, e.properties ->> 'segment' as segment from event e "
            "join event_name n on n.id = e.name_id where n.name like 'segment.%' order by e.id"
        )
    )
    return [tuple(row) for row in rows]


async def _work(database: Database) -> int:
    """Do all that there is to do; gives the number of segments that were gone through."""
    swept = 0
    while True:
        async with database.begin() as connection:
            looked = await tracking.look_on(connection, limit=3)
        if looked:
            continue
        async with database.begin() as connection:
            if not await tracking.sweep(connection):
                return swept
        swept += 1


async def _sweep(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("update segment set sweep_due_at = now() where tracking is not null"))
    await _work(database)


async def _listen(database: Database, *names: str) -> None:
    async with database.begin() as connection:
        await tracking.listen(connection, names)
    await _work(database)


async def _tag(database: Database, number: int, *tags: str) -> None:
    async with database.begin() as connection:
        await connection.execute(update(contact).where(contact.c.id == number).values(tags=list(tags)))


async def _kept(connection: AsyncConnection, name: str) -> list[int]:
    rows = await connection.execute(
        text(
            "select contact_id from segment_presence p join segment s on s.id = p.segment_id "
            "where s.name = :name order by 1"
        ),
        {"name": name},
    )
    return list(rows.scalars())


async def test_who_is_in_at_first_has_not_entered_and_changes_become_events(people: Database) -> None:
    await _listen(people, "vip")
    async with people.begin() as connection:
        assert await _kept(connection, "vip") == [2, 4, 6, 8, 10]
        assert await _events(connection) == []
    await _tag(people, 3, "vip")
    await _tag(people, 8)
    await _tag(people, 10)
    assert await _work(people) == 0, "changed facts are looked at without going through everybody"
    await _work(people)
    async with people.begin() as connection:
        assert sorted(await _events(connection)) == [
            ("segment.entered", 3, "vip"),
            ("segment.left", 8, "vip"),
            ("segment.left", 10, "vip"),
        ]
        assert await _kept(connection, "vip") == [2, 3, 4, 6]


async def test_a_sweep_finds_what_no_feed_told(people: Database) -> None:
    await _listen(people, "vip")
    await _tag(people, 3, "vip")
    async with people.begin() as connection:
        await connection.execute(text("delete from segment_look"))
    await _sweep(people)
    async with people.begin() as connection:
        assert await _events(connection) == [("segment.entered", 3, "vip")]


async def test_an_event_makes_only_those_segments_look_that_ask_about_it(people: Database) -> None:
    await _listen(people, "vip", "buyers")
    async with people.begin() as connection:
        numbers = await eventlog.name_ids(connection, ["order.paid", "page.viewed"])
        await eventlog.append(connection, [eventlog.NewEvent(5, numbers["order.paid"], now())])
    async with people.begin() as connection:
        assert await tracking.look_at(connection, [(5, "page.viewed")]) == 0
    async with people.begin() as connection:
        assert await tracking.look_at(connection, [(5, "order.paid"), (6, "order.paid")]) == 1
    async with people.begin() as connection:
        assert await tracking.look_at(connection, [(5, "order.paid")]) == 0
        assert await _events(connection) == [("segment.entered", 5, "buyers")]


async def test_what_a_segment_depends_on_is_noted(people: Database) -> None:
    async with people.begin() as connection:
        await store.publish(
            connection,
            "segment: late\ncriteria: {contact.segments: buyers, not: {event: {name: cart.changed, within: 3d}}}\n",
        )
        await store.publish(connection, "segment: best\ncriteria: {rfm: {event: order.paid, recency: {gte: 4}}}\n")
        await tracking.listen(connection, None)
        rows = await connection.execute(text("select name, depends from segment order by name"))
        assert {row.name: row.depends for row in rows} == {
            "best": ["time"],
            "buyers": ["birth", "event:order.paid"],
            "late": ["birth", "event:cart.changed", "event:order.paid", "time"],
            "other": ["birth", "contact"],
            "vip": ["birth", "contact"],
        }


async def test_time_alone_moves_contacts(people: Database) -> None:
    async with people.begin() as connection:
        await store.publish(connection, "segment: grown\ncriteria: {contact.created_at: {before: 2020-01-01}}\n")
        await store.publish(connection, "segment: old\ncriteria: {contact.created_at: {before: now-1d}}\n")
    await _listen(people, "old", "grown")
    async with people.begin() as connection:
        await connection.execute(text("alter table contact disable trigger user"))
        await connection.execute(
            update(contact).where(contact.c.id == 4).values(created_at=datetime(2026, 1, 1, tzinfo=UTC))
        )
        due = "select name from segment where sweep_due_at < now() + interval '1 hour'"
        assert list((await connection.execute(text(due))).scalars()) == ["old"]
    await _sweep(people)
    async with people.begin() as connection:
        assert await _events(connection) == [("segment.entered", 4, "old")]


async def test_between_two_sweeps_there_is_a_rest(people: Database) -> None:
    await _listen(people, "vip")
    async with people.begin() as connection:
        assert not await tracking.sweep(connection)


async def test_nobody_listens_any_more(people: Database) -> None:
    await _listen(people, "vip")
    await _listen(people)
    async with people.begin() as connection:
        assert (await connection.execute(text("select count(*) from segment_presence"))).scalar_one() == 0
    await _tag(people, 3, "vip")
    async with people.begin() as connection:
        assert (await connection.execute(text("select count(*) from segment_look"))).scalar_one() == 0
    await _listen(people, "vip")  # again: from now on
    async with people.begin() as connection:
        assert await _events(connection) == []
        assert (await connection.execute(text("select members from segment where name = 'vip'"))).scalar_one() == 6


async def test_an_erased_contact_leaves_no_trace_no_event_and_no_wrong_count(people: Database) -> None:
    await _listen(people, "vip")
    async with people.begin() as connection:
        await connection.execute(delete(contact).where(contact.c.id == 2))
    await _sweep(people)
    async with people.begin() as connection:
        assert await _events(connection) == []
        assert await _kept(connection, "vip") == [4, 6, 8, 10]
        assert (await connection.execute(text("select members from segment where name = 'vip'"))).scalar_one() == 4


async def test_a_changed_definition_moves_its_members_and_those_of_segments_that_name_it(people: Database) -> None:
    async with people.begin() as connection:
        await store.publish(connection, "segment: around\ncriteria: {not: {contact.segments: vip}}\n")
    await _listen(people, "vip", "around")
    async with people.begin() as connection:
        await store.publish(connection, "segment: vip\ncriteria: {contact.tags: gold}\n")
    await _work(people)
    async with people.begin() as connection:
        assert await _kept(connection, "vip") == []
        assert await _kept(connection, "around") == list(range(1, 11))
        assert len(await _events(connection)) == 10


async def test_a_new_contact_is_looked_at_for_denials(people: Database) -> None:
    async with people.begin() as connection:
        await store.publish(connection, "segment: idle\ncriteria: {not: {event: order.paid}}\n")
    await _listen(people, "idle")
    async with people.begin() as connection:
        await connection.execute(insert(contact), [{"id": 77}])
    await _work(people)
    async with people.begin() as connection:
        assert await _events(connection) == [("segment.entered", 77, "idle")]


async def test_the_days_count_comings_and_goings(people: Database) -> None:
    await _listen(people, "vip")
    await _tag(people, 1, "vip")
    await _tag(people, 3, "vip")
    await _tag(people, 2)
    await _work(people)
    async with people.begin() as connection:
        day = (await connection.execute(text("select members, entered, gone from segment_day"))).one()
        assert tuple(day) == (6, 2, 1)
        criteria = await store.criteria_of(connection, "vip")
        assert criteria is not None
        from segments.criteria import parse

        assert await membership.count(connection, parse(criteria)) == 6


async def _growth(connection: AsyncConnection) -> list[tuple[str, int, int | None, int | None]]:
    rows = await connection.execute(
        text(
            "select name, d.members, entered, gone from segment_day d join segment s on s.id = d.segment_id order by 1"
        )
    )
    return [tuple(row) for row in rows]


async def test_nobody_leaves_when_keeping_ends(people: Database) -> None:
    await _listen(people, "vip")
    await _tag(people, 3, "vip")
    await _work(people)
    await _listen(people)
    async with people.begin() as connection:
        assert await _growth(connection) == [("vip", 6, 1, 0)]
        assert (await connection.execute(text("select members from segment where name = 'vip'"))).scalar_one() == 0


async def test_a_segment_that_cannot_be_asked_about_stops_no_other(people: Database) -> None:
    async with people.begin() as connection:
        asked = {"a": {"contact.segments": "b"}, "b": {"contact.segments": "a"}, "visitors": {"session": {"pages": 2}}}
        for number, (name, data) in enumerate(asked.items(), 1):
            await connection.execute(
                text("insert into segment (id, name, title, source, criteria) values (:id, :name, '', '', :criteria)"),
                {"id": -number, "name": name, "criteria": json.dumps(data)},
            )
    await _listen(people, "vip", "a", "visitors")  # `a` cannot even begin
    async with people.begin() as connection:
        await connection.execute(text("alter table session rename to away"))
        await connection.execute(text("update segment set sweep_due_at = now() - interval '1 day' where id = -3"))
        await connection.execute(
            text("insert into segment_look (contact_id, cause, segment_id) values (3, 'sweep', -3)")
        )
    await _tag(people, 3, "vip")
    await _work(people)
    async with people.begin() as connection:
        assert await _events(connection) == [("segment.entered", 3, "vip")]
        for _ in range(6):
            await growth.count_next(connection)
        assert [row[0] for row in await _growth(connection)] == ["buyers", "other", "vip"]
        resting = (
            "select name from segment where rests_until > now() and coalesce(sweep_due_at > now(), true) order by 1"
        )
        assert list((await connection.execute(text(resting))).scalars()) == ["a", "b", "visitors"]
        await connection.execute(text("alter table away rename to session"))
        await connection.execute(text("update segment set rests_until = now() - interval '1 second'"))
        while await growth.count_next(connection):
            pass
        assert "visitors" in {row[0] for row in await _growth(connection)}


async def test_changes_of_a_transaction_that_began_before_tracking_are_seen(people: Database) -> None:
    async with people.begin() as early:
        await early.execute(update(contact).where(contact.c.id == 3).values(tags=["vip"]))
        await _listen(people, "vip")
        async with people.begin() as connection:
            assert await _kept(connection, "vip") == [2, 4, 6, 8, 10]
    await _work(people)
    async with people.begin() as connection:
        assert await _events(connection) == [("segment.entered", 3, "vip")]


async def test_whom_a_sweep_found_is_looked_at_however_much_else_changes(people: Database) -> None:
    async with people.begin() as connection:
        await tracking.listen(connection, {"vip"})
        assert await tracking.sweep(connection)
        await connection.execute(
            text("insert into segment_look (contact_id, cause) select 1, 'contact' from generate_series(1, 100)")
        )
    async with people.begin() as connection:
        await tracking.look_on(connection, limit=5)
        assert await _kept(connection, "vip") == [2, 4, 6, 8, 10]


async def test_asking_does_not_wait_for_tracking_nor_tracking_for_asking(people: Database) -> None:
    async with people.begin() as tracker, people.begin() as asking:
        for one in (tracker, asking):
            await one.execute(text("set local lock_timeout = '2s'"))
        await tracker.execute(text("select from segment for no key update"))
        assert await members.count(asking, "vip") == 5
        await members.page(asking, "vip", 0, 10)
