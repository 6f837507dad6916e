"""Writing profiles in bulk."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from contacts import ConsentItem, Item, Limits, Upserted, apply, get, resolve, upsert
from contacts.identifying import conflicts
from contacts.profiles import check_language, check_time_zone, find, page
from core.database import Database
from core.errors import InvalidInput, NotFound


async def written(database: Database, *items: Item, limits: Limits | None = None) -> list[Upserted]:
    async with database.begin() as connection:
        return await upsert(connection, items, limits=limits)


def anna(**said: Any) -> Item:
    return Item(identities={"email": "anna@x.com"}, **said)


async def test_a_contact_is_made_then_updated(database: Database) -> None:
    [made] = await written(
        database,
        Item(
            identities={"email": "Anna@X.com", "external_id": "7"},
            attributes={"city": "Москва", "age": 31, "born": "1995-02-01", "seen": "2026-01-01T10:00:00+03:00"},
            language="pt-br",
            time_zone="europe/moscow",
            add_tags=["a", "b"],
        ),
    )
    [changed] = await written(
        database,
        Item(identities={"external_id": "7"}, attributes={"age": None, "vip": True}, add_tags=["c"], remove_tags=["a"]),
    )
    assert made.created
    assert changed == Upserted(made.contact_id, created=False)
    async with database.begin() as connection:
        profile = await get(connection, made.contact_id or 0)
        types = {row.name: row.type for row in await connection.execute(text("select name, type from attribute"))}
    assert profile.attributes == {"city": "Москва", "born": "1995-02-01", "seen": "2026-01-01T07:00:00Z", "vip": True}
    assert profile.tags == ["b", "c"]
    assert (profile.language, profile.time_zone) == ("pt-BR", "Europe/Moscow")
    assert {one["kind"]: one["value"] for one in profile.identities} == {"email": "anna@x.com", "external_id": "7"}
    assert types == {"city": "text", "age": "number", "born": "date", "seen": "datetime", "vip": "boolean"}


async def test_items_stand_alone(database: Database) -> None:
    good, typed, nameless, zone, last = await written(
        database,
        anna(attributes={"age": 31}),
        Item(identities={"email": "b@x.com"}, attributes={"age": "old"}),
        Item(identities={}),
        Item(identities={"email": "c@x.com"}, time_zone="Moscow", language="Russian language"),
        Item(identities={"email": "d@x.com"}),
    )
    assert good.created
    assert last.created
    assert [(p.path, p.message) for p in typed.problems] == [("attributes.age", "expected a number")]
    assert nameless.problems[0].path == "identities"
    assert {p.path for p in zone.problems} == {"time_zone", "language"}
    async with database.begin() as connection:
        assert len(await page(connection)) == 2


async def test_later_items_of_a_batch_come_after_earlier_ones(database: Database) -> None:
    answers = await written(
        database,
        anna(attributes={"n": 1, "a": "x"}, add_tags=["t"]),
        Item(identities={"email": "ANNA@x.com", "external_id": "1"}, attributes={"n": 2}),
        Item(identities={"external_id": "1"}, attributes={"n": 3}, remove_tags=["t"]),
    )
    assert [one.created for one in answers] == [True, False, False]
    assert len({one.contact_id for one in answers}) == 1
    async with database.begin() as connection:
        profile = await get(connection, answers[0].contact_id or 0)
    assert profile.attributes == {"n": 3, "a": "x"}
    assert profile.tags == []


async def test_identities_of_two_contacts_are_refused(database: Database) -> None:
    await written(database, anna(), Item(identities={"external_id": "7"}))
    [answer] = await written(database, Item(identities={"email": "anna@x.com", "external_id": "7"}, add_tags=["t"]))
    assert "different contacts" in answer.problems[0].message
    assert answer.contact_id is None


async def _held(database: Database) -> dict[str, list[str]]:
    """The external ids that have anything, each with what else its contact is known by."""
    async with database.begin() as connection:
        rows = await connection.execute(
            text(
                "select o.value as own, array_agg(i.kind || ':' || i.value order by i.kind, i.value) as known_by "
                "from identity o join identity i using (contact_id) where o.kind = 'external_id' group by o.value"
            )
        )
        return {row.own: row.known_by for row in rows}


async def test_two_external_ids_that_share_an_address_are_two_contacts(database: Database) -> None:
    first = Item({"external_id": "u-1", "email": "family@x.com"}, {"first_name": "Anna"})
    second = Item({"external_id": "u-2", "email": "family@x.com"}, {"first_name": "Boris"})
    [one, two] = await written(database, first, second)
    assert (one.created, one.conflicts) == (True, ())
    assert (two.created, two.conflicts) == (True, (("email", "family@x.com"),))
    assert await _held(database) == {"u-1": ["email:family@x.com", "external_id:u-1"], "u-2": ["external_id:u-2"]}
    async with database.begin() as connection:
        assert (await get(connection, one.contact_id or 0)).attributes == {"first_name": "Anna"}
        (noted,) = await conflicts(connection)
    assert (noted["contact_id"], noted["owner_id"], noted["source"]) == (two.contact_id, one.contact_id, "api")
    [again] = await written(database, second)
    assert again == Upserted(two.contact_id, created=False, conflicts=two.conflicts), "the same again changes nothing"


async def test_two_external_ids_that_share_an_address_are_two_contacts_at_the_same_time(database: Database) -> None:
    await written(database, Item({"email": "family@x.com"}))
    items = [Item({"external_id": f"u-{n}", "email": "family@x.com"}) for n in range(8)]
    answers = [answer for (answer,) in await asyncio.gather(*(written(database, item) for item in items))]
    assert len({answer.contact_id for answer in answers}) == 8
    assert sorted(bool(answer.conflicts) for answer in answers) == [False] + [True] * 7


async def test_limits_leave_nothing_behind(database: Database) -> None:
    limits = Limits(attributes=2, bytes=100, tags=1)
    many, long, tags, fine = await written(
        database,
        anna(attributes={"a": 1, "b": 2, "c": 3}),
        Item(identities={"email": "b@x.com"}, attributes={"a2": "x" * 200}),
        Item(identities={"email": "c@x.com", "phone": "+79161234567"}, add_tags=["a", "b"]),
        Item(identities={"email": "d@x.com"}, attributes={"a": 1}),
        limits=limits,
    )
    assert [bool(one.problems) for one in (many, long, tags, fine)] == [True, True, True, False]
    async with database.begin() as connection:
        assert (await connection.execute(text("select count(*) from contact"))).scalar_one() == 1
        assert (await connection.execute(text("select count(*) from identity"))).scalar_one() == 1
    [over] = await written(
        database, Item(identities={"email": "d@x.com", "external_id": "9"}, attributes={"b": 1, "c": 1}), limits=limits
    )
    assert over.problems
    async with database.begin() as connection:
        assert (await connection.execute(text("select count(*) from identity"))).scalar_one() == 1


async def test_consents_come_with_their_evidence(database: Database) -> None:
    said = ConsentItem("email", "marketing", True, evidence={"form": "/subscribe"})
    await written(database, anna(consents=[said]))
    [wrong] = await written(database, anna(consents=[ConsentItem("pigeon", "marketing", True)]))
    assert wrong.problems
    async with database.begin() as connection:
        row = await connection.execute(text("select channel, granted, source, evidence from consent_record"))
        assert tuple(row.one()) == ("email", True, "api", {"form": "/subscribe"})


async def test_batches_that_meet_write_everything_once(database: Database) -> None:
    batch = [Item(identities={"email": f"{n}@x.com"}, attributes={"n": n}) for n in range(100)]
    answers = await asyncio.gather(*(written(database, *batch) for _ in range(6)))
    assert all([one.contact_id for one in answer] == [one.contact_id for one in answers[0]] for answer in answers)
    assert sum(one.created for answer in answers for one in answer) == 100


async def test_apply(database: Database) -> None:
    async with database.begin() as connection:
        ids = await resolve(connection, [("email", "a@x.com"), ("email", "b@x.com")])
        await apply(connection, ids, {"score": 5, "city": "Омск"}, ["hot", "new"])
        refused = await apply(connection, [*ids, 10**9], {"score": None, "vip": True}, ["z"], ["hot"])
        assert refused == set()
        profile = await get(connection, ids[1])
        assert profile.attributes == {"city": "Омск", "vip": True}
        assert profile.tags == ["new", "z"]
        assert await apply(connection, ids, {"more": 1}, limits=Limits(attributes=2)) == set(ids)
        assert (await get(connection, ids[0])).attributes == {"city": "Омск", "vip": True}
        with pytest.raises(InvalidInput, match="expected a boolean"):
            await apply(connection, ids, {"vip": "yes"})


async def test_find(database: Database) -> None:
    [made] = await written(database, Item(identities={"phone": "+79161234567"}))
    async with database.begin() as connection:
        assert await find(connection, "phone:8 916 123-45-67") == made.contact_id
        assert await find(connection, str(made.contact_id)) == made.contact_id
        with pytest.raises(NotFound):
            await find(connection, "email:nobody@x.com")
        with pytest.raises(InvalidInput):
            await find(connection, "anna")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("ru", "ru"),
        ("EN-us", "en-US"),
        ("zh_hans_cn", "zh-Hans-CN"),
        ("de-CH-1996", "de-CH-1996"),
        ("es-419", "es-419"),
    ],
)
def test_language_tags_get_their_usual_capitals(given: str, kept: str) -> None:
    assert check_language(given) == kept


@pytest.mark.parametrize("given", ["", "r", "russian!", "en-", "en--US", "toolonglanguage"])
def test_what_is_no_language_tag(given: str) -> None:
    with pytest.raises(InvalidInput):
        check_language(given)


@pytest.mark.parametrize("given", ["", "Moscow", "UTC+3", "../etc/passwd"])
def test_what_is_no_time_zone(given: str) -> None:
    with pytest.raises(InvalidInput):
        check_time_zone(given)
