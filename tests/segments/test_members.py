"""Counting, paging, comparing, exporting and filling named segments; their versions and growth."""

import asyncio
import csv
import io
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import documents
from core.clock import now
from core.database import Database, driver
from core.errors import Conflict, InvalidInput, NotFound
from core.schema.contacts import attribute, contact, identity
from journeys import store as journeys
from segments import criteria, export, growth, members, membership, overlap, sql, store, tracking, upload, versions
from segments.examples import CRITERIA, OPERATORS
from tests.segments.criteria import world


@pytest.fixture
async def people(database: Database) -> Database:
    """Twelve contacts: every second one vip, every third one a reader, each with an address."""
    async with database.begin() as connection:
        await connection.execute(insert(attribute), [{"name": "city", "type": "text"}])
        rows = [
            {
                "id": number,
                "tags": [tag for tag, step in (("vip", 2), ("reader", 3)) if number % step == 0],
                "attributes": {"city": "=cmd|' /C calc'!A0" if number == 6 else "Moscow"},
            }
            for number in range(1, 13)
        ]
        await connection.execute(insert(contact), rows)
        mails = [{"kind": "email", "value": f"c{n}@example.com", "contact_id": n} for n in range(1, 13)]
        await connection.execute(insert(identity), mails)
        await store.publish(connection, "segment: vip\nname: VIP\ncriteria: {contact.tags: vip}\n", by="anna")
        await store.publish(connection, "segment: reader\ncriteria: {contact.tags: reader}\n")
        await store.publish(connection, "segment: chosen\nlist: [c1@example.com]\n")
    return database


async def _keep(database: Database, *names: str) -> None:
    async with database.begin() as connection:
        await tracking.listen(connection, names)
    await _settle(database)


async def _settle(database: Database) -> None:
    while True:
        async with database.begin() as connection:
            if not await tracking.look_on(connection) and not await tracking.sweep(connection):
                return


async def _count(connection: AsyncConnection, name: str) -> list[int]:
    """The count of a segment in every way there is."""
    everybody = await members.page(connection, name, 0, 100)
    exported = [piece async for piece in export.export(connection, name, ["id"])]
    return [
        await members.count(connection, name),
        await members.count(connection, name, exactly=True),
        len(everybody),
        len(list(csv.reader(io.StringIO("".join(piece.text for piece in exported))))) - 1,
        sum(piece.contacts for piece in exported),
        (await overlap.overlap(connection, name, "all"))["both"],
    ]


@pytest.mark.parametrize("kept", [False, True])
async def test_every_way_of_counting_gives_one_number_also_after_an_erasure(people: Database, kept: bool) -> None:
    if kept:
        await _keep(people, "vip")
    async with people.begin() as connection:
        assert await _count(connection, "vip") == [6] * 6
        assert await _count(connection, "chosen") == [1] * 6
        await connection.execute(delete(contact).where(contact.c.id.in_([1, 2])))
        assert await _count(connection, "vip") == [5] * 6
        assert await _count(connection, "chosen") == [0] * 6


async def test_pages_do_not_depend_on_how_contacts_lie(people: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "_WINDOW", 1)
    asked = criteria.parse({"contact.tags": "reader"})
    async with people.begin() as connection:
        assert await membership.page(connection, asked, 0, 2) == [3, 6]
        assert await membership.page(connection, asked, 6, 2) == [9, 12]
        assert await membership.page(connection, asked, 12, 2) == []
        blocks = [block async for block in membership.everyone(connection, asked, width=5)]
        assert [one for block in blocks for one in block] == [3, 6, 9, 12]


async def test_a_segment_that_is_asked_for_often_is_kept(people: Database) -> None:
    async with people.begin() as connection:
        for _ in range(members.OFTEN - 1):
            await members.count(connection, "vip")
        await tracking.listen(connection, set())
        assert not await tracking.tracks(connection)
        await members.count(connection, "vip")
        await members.count(connection, "chosen")
        await tracking.listen(connection, set())
        kept = await connection.execute(text("select name from segment where tracking is not null"))
        assert list(kept.scalars()) == ["vip"]
        await connection.execute(text("update segment set kept_until = now() - interval '1 second'"))
        await tracking.listen(connection, set())
        assert not await tracking.tracks(connection)


async def test_overlap(people: Database) -> None:
    async with people.begin() as connection:
        assert await overlap.overlap(connection, "vip", "reader") == {
            "one": 6,
            "other": 4,
            "both": 2,
            "only_one": 4,
            "only_other": 2,
            "either": 8,
            "share": 0.25,
        }
        with pytest.raises(NotFound, match="did you mean vip"):
            await overlap.overlap(connection, "vipp", "reader")


async def test_an_export_has_the_columns_asked_for_and_no_formulas(people: Database) -> None:
    async with people.begin() as connection:
        pieces = [piece.text async for piece in export.export(connection, "vip", ["id", "email", "city", "tags"])]
        rows = list(csv.reader(io.StringIO("".join(pieces))))
        assert rows[0] == ["id", "email", "city", "tags"]
        assert rows[3] == ["6", "c6@example.com", "'=cmd|' /C calc'!A0", "vip,reader"]
        with pytest.raises(InvalidInput, match=r"there is no column citty.*city"):
            async for _ in export.export(connection, "vip", ["citty"]):
                pass


async def test_an_upload_puts_contacts_on_a_list_and_names_the_rest(people: Database, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("name,email\nA,C2@example.com\nB,nobody@example.com\nC,c1@example.com\nD,not an address\n")
    async with people.begin() as connection:
        done = await upload.upload(connection, "chosen", path)
        assert (done.rows, done.found, done.added) == (4, 2, 1)
        assert [(one.line, one.reason) for one in done.rejects] == [
            (3, "no contact has this email"),
            (5, "this is not an email address"),
        ]
        assert await members.count(connection, "chosen") == 2
        with pytest.raises(Conflict, match="follow from its criteria"):
            await upload.upload(connection, "vip", path)
        with pytest.raises(InvalidInput, match="no column names contacts"):
            await upload.upload(connection, "chosen", path, "phone")
    upload.write_rejects(tmp_path / "rejects.csv", done.rejects)
    assert "nobody@example.com" in (tmp_path / "rejects.csv").read_text()


async def test_each_publication_is_a_version(people: Database) -> None:
    async with people.begin() as connection:
        changed = "segment: vip\nname: VIP\ncriteria: {contact.tags: gold}\n"
        assert (await store.publish(connection, changed, by="boris")).changed
        assert not (await store.publish(connection, changed, by="vera")).changed
        found = await versions.history(connection, "vip")
        assert [(one["version"], one["published_by"], one["changed"]) for one in found] == [
            (2, "boris", "+1 -1"),
            (1, "anna", "+3 -0"),
        ]
        difference = await versions.difference(connection, "vip", 1, 2)
        assert "-criteria: {contact.tags: vip}" in difference
        assert "+criteria: {contact.tags: gold}" in difference
        with pytest.raises(NotFound, match="no version 3"):
            await versions.difference(connection, "vip", 1, 3)
        assert (await store.get(connection, "vip"))["version"] == 2
        assert [one["version"] for one in await versions.history(connection, "chosen")] == [1]


async def test_growth_of_segments_that_are_not_kept_is_counted_once_a_day(people: Database) -> None:
    async with people.begin() as connection:
        counted = 0
        while await growth.count_next(connection):
            counted += 1
        assert counted == 3
        assert await growth.growth(connection, "vip") == [
            {"day": now().date(), "members": 6, "entered": None, "gone": None}
        ]


async def test_what_people_write_is_never_in_the_sql(people: Database) -> None:
    async with people.begin() as connection:
        shown = await sql.sql(connection, criteria.parse({"contact.tags": "x'; drop table contact; --"}))
        assert "drop table" not in shown["sql"]
        assert any("drop table" in str(value) for value in shown["parameters"].values())


async def test_what_is_named_by_others_is_not_deleted(people: Database) -> None:
    async with people.begin() as connection:
        await store.publish(connection, "segment: around\ncriteria: {not: {contact.segments: vip}}\n")
        with pytest.raises(Conflict, match="named by the segment around"):
            await store.delete_segment(connection, "vip")
        await store.delete_segment(connection, "around")
        await store.delete_segment(connection, "vip")
        with pytest.raises(NotFound):
            await store.get(connection, "vip")


_NAMED = [
    "enter: {segment: vip}\nsteps: [{wait: 1d}]",
    "enter: {event: x, where: {contact.segments: vip}}\nsteps: [{wait: 1d}]",
    "enter: {event: segment.entered, where: {event.segment: vip}}\nsteps: [{wait: 1d}]",
    "goal: {event: segment.left, where: {event.segment: {in: [vip, other]}}}\nsteps: [{wait: 1d}]",
    "exit: {when: {not: {contact.segments: vip}}}\nsteps: [{wait: 1d}]",
    "steps: [{if: {not: {contact.segments: vip}}, then: [{wait: 1d}]}]",
    "steps: [{parallel: {one: [{wait: 1d, until: [{when: {contact.segments: vip}}]}], two: [{wait: 2d}]}}]",
]


@pytest.mark.parametrize("source", _NAMED)
async def test_what_a_journey_names_anywhere_is_not_deleted(people: Database, source: str) -> None:
    async with people.begin() as connection:
        await journeys.publish(connection, f"journey: first\n{source}\n")
        with pytest.raises(Conflict, match=r"vip is named by the journey first \(version 1\)"):
            await store.delete_segment(connection, "vip")
        await journeys.publish(connection, "journey: first\nsteps: [{wait: 2d}]\n")
        await store.delete_segment(connection, "vip")


async def test_a_list_that_a_step_fills_and_versions_that_contacts_are_in_count_too(people: Database) -> None:
    async with people.begin() as connection:
        done = await journeys.publish(connection, "journey: first\nsteps: [{segment: {add: chosen}}, {wait: 1d}]\n")
        await connection.execute(text("insert into cohort (version_id) values (:id)"), {"id": done.version_id})
        await journeys.publish(connection, "journey: first\nsteps: [{wait: 2d}]\n")
        with pytest.raises(Conflict, match="named by the journey first"):
            await store.delete_segment(connection, "chosen")
        await connection.execute(text("update cohort set state = 'finished'"))
        await store.delete_segment(connection, "chosen")


async def test_a_segment_cannot_contain_itself_through_others(people: Database) -> None:
    async with people.begin() as connection:
        await store.publish(connection, "segment: a\ncriteria: {contact.tags: a}\n")
        await store.publish(connection, "segment: b\ncriteria: {contact.segments: a}\n")
        with pytest.raises(InvalidInput, match=r"a\.yaml:2:.*would contain itself: a → b → a"):
            await store.publish(connection, "segment: a\ncriteria: {contact.segments: b}\n", "a.yaml")


async def _chain(database: Database, prefix: str, length: int) -> None:
    """Segments of which each contains the one before."""
    async with database.begin() as connection:
        await store.publish(connection, f"segment: {prefix}0\ncriteria: {{contact.tags: vip}}\n")
        for number in range(1, length):
            inner = f"{prefix}{number - 1}"
            await store.publish(connection, f"segment: {prefix}{number}\ncriteria: {{contact.segments: {inner}}}\n")


async def test_a_chain_cannot_be_made_longer_from_below(people: Database) -> None:
    await _chain(people, "s", 10)
    await _chain(people, "t", 2)
    async with people.begin() as connection:
        with pytest.raises(InvalidInput, match=r"s0\.yaml:2:.*the segment s8 names it: .* more than 10 deep: s8 → s7"):
            await store.publish(connection, "segment: s0\ncriteria: {contact.segments: t1}\n", "s0.yaml")
    async with people.begin() as connection:
        await store.publish(connection, "segment: s0\ncriteria: {contact.tags: reader}\n")
        assert await members.count(connection, "s9") == 4


async def test_two_who_publish_at_once_cannot_make_segments_contain_each_other(people: Database) -> None:
    async with people.begin() as connection:
        for name in ("a", "b"):
            await store.publish(connection, f"segment: {name}\ncriteria: {{contact.tags: {name}}}\n")

    async def publish(name: str, inner: str) -> None:
        async with people.begin() as connection:
            await store.publish(connection, f"segment: {name}\ncriteria: {{contact.segments: {inner}}}\n")

    done = await asyncio.gather(publish("a", "b"), publish("b", "a"), return_exceptions=True)
    assert [type(one) for one in done if one is not None] == [InvalidInput]
    async with people.begin() as connection:
        assert await members.count(connection, "a") == await members.count(connection, "b") == 0


async def test_a_segment_is_not_deleted_while_something_is_stored_that_names_it(people: Database) -> None:
    async def delete_it() -> None:
        async with people.begin() as connection:
            await store.delete_segment(connection, "vip")

    async with people.begin() as connection:
        await journeys.publish(connection, "journey: first\nenter: {segment: vip}\nsteps: [{wait: 1d}]\n")
        deleting = asyncio.create_task(delete_it())
        await _wait_for_lock(connection)
    with pytest.raises(Conflict, match="named by the journey first"):
        await deleting


async def _wait_for_lock(connection: AsyncConnection) -> None:
    waiting = text(
        "select exists (select from pg_locks where locktype = 'advisory' and not granted and "
        "database = (select oid from pg_database where datname = current_database()))"
    )
    async with asyncio.timeout(10):
        while not (await connection.execute(waiting)).scalar_one():  # noqa: ASYNC110 - another session's lock
            await asyncio.sleep(0.01)


async def test_segments_that_contain_too_much_are_refused(people: Database) -> None:
    async with people.begin() as connection:
        for level in range(3):
            for number in range(10):
                inner = ", ".join(f"l{level - 1}-{one}" for one in range(10))
                what = f"contact.segments: [{inner}]" if level else f"contact.tags: t{number}"
                await store.publish(connection, f"segment: l{level}-{number}\ncriteria: {{{what}}}\n")
        assert await members.count(connection, "l2-0") == 0
        names = ", ".join(f"l2-{one}" for one in range(10))
        with pytest.raises(InvalidInput, match=r"w\.yaml:2:.*2,000 criteria.* more than 1,000"):
            await store.publish(connection, f"segment: wide\ncriteria: {{exclude: [{names}, {names}]}}\n", "w.yaml")
        with pytest.raises(InvalidInput, match=r"the segment l2-0 names it: .*more than 1,000"):
            many = ", ".join(f"{{contact.tags: t{one}}}" for one in range(200))
            await store.publish(connection, f"segment: l0-0\ncriteria: {{any: [{many}]}}\n")
        with pytest.raises(InvalidInput, match=r"more than 1,000"):
            source = f"journey: first\nsteps: [{{if: {{exclude: [{names}, {names}]}}, then: [{{wait: 1d}}]}}]\n"
            await journeys.publish(connection, source)


def test_names_of_segments_count_as_criteria() -> None:
    with pytest.raises(InvalidInput, match=r"20,000 criteria, more than 300"):
        criteria.parse({"include": [f"s{number}" for number in range(20_000)]})
    with pytest.raises(InvalidInput, match=r"350 criteria"):
        criteria.parse({"any": [{"contact.segments": [f"s{number}" for number in range(50)]}] * 7})


@pytest.mark.parametrize("name", ["all", "overlap", "a/b", "../x", '"nul\\0"', '" x"', "x" * 101, "a?b", '""'])
async def test_names_that_commands_and_addresses_cannot_tell_are_refused(people: Database, name: str) -> None:
    async with people.begin() as connection:
        with pytest.raises(InvalidInput, match=r"n\.yaml:1:\d+: the segment has no usable name"):
            await store.publish(connection, f"segment: {name}\ncriteria: {{contact.tags: vip}}\n", "n.yaml")
        with pytest.raises(InvalidInput, match="no usable name"):
            await store.checked(connection, f"segment: {name}\ncriteria: {{contact.tags: vip}}\n")


async def test_names_in_any_script_are_taken(people: Database) -> None:
    async with people.begin() as connection:
        await store.publish(connection, "segment: Новые клиенты-2\ncriteria: {contact.tags: vip}\n")
        assert await members.count(connection, "Новые клиенты-2") == 6


def test_what_postgresql_cannot_hold_is_refused_by_line() -> None:
    with pytest.raises(InvalidInput) as caught:
        store.parse('segment: x\nname: "a\\0b"\nlist:\n  - "a\\0@example.com"\n', "x.yaml")
    assert [str(one).split(":")[1] for one in caught.value.problems] == ["2", "4"]


async def test_the_sql_that_is_shown_can_be_run(database: Database) -> None:
    async with database.begin() as connection:
        await world.build(connection)
        raw = await driver(connection)
        for section in (*CRITERIA, *OPERATORS):
            for example, _ in section.examples:
                parsed = criteria.parse(documents.read(example).data)
                shown = await sql.sql(connection, parsed)
                parameters = {key: world.NOW if key == "now" else value for key, value in shown["parameters"].items()}
                rows = await (await raw.execute(shown["sql"].encode(), parameters)).fetchall()
                expected = await membership.page(connection, parsed, 0, 100, world.NOW)
                assert [row[0] for row in rows] == expected, example
        everybody = await sql.sql(connection, await store.members_are(connection, "all"))
        assert len(await (await raw.execute(everybody["sql"].encode())).fetchall()) == 12


async def test_a_question_with_more_values_than_postgresql_takes_is_refused(people: Database) -> None:
    tests = ", ".join(f"event.p{number}: {number}" for number in range(50))
    async with people.begin() as connection:
        for name in range(2):
            items = ", ".join(f"{{event: {{name: e, where: {{{tests}}}}}}}" for _ in range(150))
            await store.publish(connection, f"segment: s{name}\ncriteria: {{any: [{items}]}}\n")
        with pytest.raises(InvalidInput, match="values, more than 30,000"):
            await store.publish(connection, "segment: many\ncriteria: {contact.segments: [s0, s1]}\n")


async def test_a_long_list_is_one_value(people: Database) -> None:
    cities = [f"c{number}" for number in range(1000)]
    numbers: list[Any] = list(range(100, 1100))
    asked = {"any": [{"contact.city": cities}, {"contact.email": cities}, {"contact.id": {"in": numbers}}] * 60}
    async with people.begin() as connection:
        assert await membership.count(connection, criteria.parse(asked)) == 0


async def test_what_an_earlier_version_took_keeps_nobody_from_changing_other_segments(people: Database) -> None:
    async with people.begin() as connection:
        await connection.execute(
            text(
                "insert into segment (name, title, source, criteria) "
                "values ('old', '', '', '{\"contact.born\": {\"date\": \"today in localtime\"}}')"
            )
        )
        await store.publish(connection, "segment: vip\ncriteria: {contact.tags: gold}\n")
        await store.delete_segment(connection, "reader")
        with pytest.raises(InvalidInput, match="date takes a period"):
            await members.count(connection, "old")
