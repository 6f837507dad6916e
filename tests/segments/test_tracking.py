"""Comings and goings of segments as events of the log."""

import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database import Database
from core.schema.contacts import contact
from segments import store, tracking


@pytest.fixture
async def people(database: Database) -> Database:
    """Ten contacts, of whom the even ones are vip, and two segments."""
    async with database.begin() as connection:
        rows = [{"id": number, "tags": ["vip"] if number % 2 == 0 else []} for number in range(1, 11)]
        await connection.execute(insert(contact), rows)
        await store.publish(connection, "segment: vip\ncriteria: {contact.tags: vip}\n")
        await store.publish(connection, "segment: other\ncriteria: {contact.tags: other}\n")
    return database


async def _events(connection: AsyncConnection) -> list[tuple[str, int, str]]:
    rows = await connection.execute(
        text(
            "select n.name, e.contact_id, e.properties ->> 'segment' as segment from event e "
            "join event_name n on n.id = e.name_id order by e.id"
        )
    )
    return [tuple(row) for row in rows]


async def _sweep(database: Database, limit: int = 2) -> int:
    """Go through everybody once; gives the number of pages."""
    async with database.begin() as connection:
        await connection.execute(text("update segment set sweep_due_at = now() where tracking is not null"))
    pages = 0
    while True:
        async with database.begin() as connection:
            if not await tracking.sweep(connection, limit):
                return pages
        pages += 1


async def _tag(database: Database, number: int, *tags: str) -> None:
    async with database.begin() as connection:
        await connection.execute(update(contact).where(contact.c.id == number).values(tags=list(tags)))


async def test_who_is_in_at_first_has_not_entered_and_changes_become_events(people: Database) -> None:
    async with people.begin() as connection:
        await tracking.listen(connection, {"vip"})
    assert await _sweep(people) == 3  # 2 and 4, 6 and 8, 10
    await _tag(people, 3, "vip")
    await _tag(people, 8)
    await _tag(people, 10)
    await _sweep(people)
    await _sweep(people)
    async with people.begin() as connection:
        assert sorted(await _events(connection)) == [
            ("segment.entered", 3, "vip"),
            ("segment.left", 8, "vip"),
            ("segment.left", 10, "vip"),
        ]


async def test_contacts_to_whom_something_happened_are_looked_at_at_once(people: Database) -> None:
    async with people.begin() as connection:
        await tracking.listen(connection, {"vip"})
        assert await tracking.look_at(connection, [1, 2]) == 0, "nothing is known before everybody was gone through"
    await _sweep(people)
    await _tag(people, 1, "vip")
    await _tag(people, 2)
    await _tag(people, 5, "vip")
    async with people.begin() as connection:
        assert await tracking.look_at(connection, [1, 2, 3]) == 2
    async with people.begin() as connection:
        assert await tracking.look_at(connection, [1, 2, 3]) == 0
        assert await _events(connection) == [("segment.entered", 1, "vip"), ("segment.left", 2, "vip")]


async def test_between_two_sweeps_there_is_a_rest(people: Database) -> None:
    async with people.begin() as connection:
        await tracking.listen(connection, None)
    assert await _sweep(people, 100) == 2
    async with people.begin() as connection:
        assert not await tracking.sweep(connection)


async def test_nobody_listens_any_more(people: Database) -> None:
    async with people.begin() as connection:
        await tracking.listen(connection, {"vip"})
    await _sweep(people)
    async with people.begin() as connection:
        await tracking.listen(connection, set())
        assert (await connection.execute(text("select count(*) from segment_presence"))).scalar_one() == 0
    await _tag(people, 3, "vip")
    async with people.begin() as connection:
        await tracking.listen(connection, {"vip"})  # again: from now on
    await _sweep(people)
    async with people.begin() as connection:
        assert await _events(connection) == []
        assert (await connection.execute(text("select count(*) from segment_presence"))).scalar_one() == 6


async def test_an_erased_contact_leaves_no_trace_and_no_event(people: Database) -> None:
    async with people.begin() as connection:
        await tracking.listen(connection, {"vip"})
    await _sweep(people)
    async with people.begin() as connection:
        await connection.execute(delete(contact).where(contact.c.id == 2))
    await _sweep(people)
    async with people.begin() as connection:
        assert await _events(connection) == []
        found = await connection.execute(text("select contact_id from segment_presence order by 1"))
        assert list(found.scalars()) == [4, 6, 8, 10]
