"""Who is meant by identities: the rules as a table, and carried out, also by many at once."""

import asyncio

import psycopg
import pytest
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import Identified, Rules, erasure, identify, resolve
from contacts.identifying import Decision, Known, conflicts, decide
from core.database import Database
from core.errors import InvalidInput

DEVICE = ("anonymous_id", "d")
ID, MAIL, PHONE = ("external_id", "u"), ("email", "a@x.com"), ("phone", "+79160000000")
VISITOR = Known({"anonymous_id": frozenset({"d"})})


def known(*pairs: tuple[str, str]) -> Known:
    kinds: dict[str, set[str]] = {}
    for kind, value in pairs:
        kinds.setdefault(kind, set()).add(value)
    return Known({kind: frozenset(values) for kind, values in kinds.items()})


def decided(device, said, owners, contacts, rules=Rules(), trusted=True) -> Decision:  # type: ignore[no-untyped-def]  # noqa: B008
    return decide(device, said, owners, contacts, rules, trusted=trusted)


def test_a_visitor_who_says_who_he_is_becomes_known() -> None:
    assert decided(DEVICE, [MAIL, ID], {DEVICE: 1}, {1: VISITOR}) == Decision(target=1, attach=[ID, MAIL])


def test_a_visitor_is_merged_into_the_contact_he_names() -> None:
    made = decided(DEVICE, [MAIL], {DEVICE: 1, MAIL: 2}, {1: VISITOR, 2: known(MAIL)})
    assert made == Decision(target=2, merge=[1])


def test_a_new_device_is_one_more_of_the_contact() -> None:
    assert decided(DEVICE, [MAIL], {MAIL: 2}, {2: known(MAIL)}) == Decision(target=2, attach=[DEVICE])


def test_a_device_of_another_known_contact_begins_anew() -> None:
    people = {1: known(DEVICE, ("email", "b@x.com")), 2: known(MAIL)}
    assert decided(DEVICE, [MAIL], {DEVICE: 1, MAIL: 2}, people) == Decision(target=2, anew=True)


def test_another_address_at_the_device_of_a_known_contact_is_another_contact() -> None:
    people = {1: known(DEVICE, ("email", "b@x.com"))}
    assert decided(DEVICE, [MAIL], {DEVICE: 1}, people) == Decision(attach=[MAIL], anew=True)


def test_a_kind_that_the_device_s_contact_has_not_becomes_its_own() -> None:
    people = {1: known(DEVICE, MAIL)}
    assert decided(DEVICE, [ID], {DEVICE: 1}, people) == Decision(target=1, attach=[ID])


def test_external_ids_never_merge_and_win_over_addresses() -> None:
    people = {1: known(ID), 2: known(("external_id", "other"), MAIL)}
    rules = Rules(email="merge", phone="merge")
    assert decided(None, [MAIL, ID], {ID: 1, MAIL: 2}, people, rules) == Decision(target=1, conflicts=[(MAIL, 2)])
    # Nobody has the external id, and who has the address has another one: somebody new.
    assert decided(None, [MAIL, ID], {MAIL: 2}, people, rules) == Decision(attach=[ID], conflicts=[(MAIL, 2)])


def test_known_contacts_merge_only_where_a_rule_says_so() -> None:
    people = {1: known(ID), 2: known(MAIL)}
    owners = {ID: 1, MAIL: 2}
    assert decided(None, [ID, MAIL], owners, people) == Decision(target=1, conflicts=[(MAIL, 2)])
    assert decided(None, [ID, MAIL], owners, people, Rules(email="merge")) == Decision(target=1, merge=[2])


def test_a_page_adds_no_identity_to_a_known_contact() -> None:
    people = {1: known(MAIL)}
    made = decided(None, [MAIL, PHONE], {MAIL: 1}, people, trusted=False)
    assert made == Decision(target=1, withheld=[PHONE])
    assert decided(None, [MAIL, PHONE], {MAIL: 1}, people) == Decision(target=1, attach=[PHONE])
    made = decided(DEVICE, [PHONE], {DEVICE: 1}, {1: known(DEVICE, MAIL)}, trusted=False)
    assert made == Decision(attach=[PHONE], anew=True)
    made = decided(DEVICE, [MAIL, ID], {MAIL: 1}, people, trusted=False)
    assert made == Decision(target=1, attach=[DEVICE], withheld=[ID])
    made = decided(DEVICE, [ID], {DEVICE: 1}, {1: known(DEVICE, MAIL)}, trusted=False)
    assert made == Decision(target=1, withheld=[ID])


def test_a_page_makes_no_two_known_contacts_one() -> None:
    people, owners = {1: known(ID), 2: known(MAIL)}, {ID: 1, MAIL: 2}
    made = decided(None, [ID, MAIL], owners, people, Rules(email="merge"), trusted=False)
    assert made == Decision(target=1, conflicts=[(MAIL, 2)])


async def say(database: Database, device: str | None, **said: str) -> Identified:
    """Identify, as its callers do: again where PostgreSQL says that others were in the way."""
    while True:
        try:
            async with database.begin() as connection:
                return await identify(connection, device, said)
        except exc.DBAPIError as error:
            if not isinstance(error.orig, psycopg.errors.DeadlockDetected | psycopg.errors.UniqueViolation):
                raise


async def visit(database: Database, device: str) -> int:
    async with database.begin() as connection:
        return (await resolve(connection, [("anonymous_id", device)]))[0]


async def owners(connection: AsyncConnection) -> dict[tuple[str, str], int]:
    rows = await connection.execute(text("select kind, value, contact_id from identity"))
    return {(row.kind, row.value): row.contact_id for row in rows}


async def test_identify_carries_out_what_was_decided(database: Database) -> None:
    visitor = await visit(database, "laptop")
    first = await say(database, "laptop", external_id="u-1", email="Anna@X.com")
    assert first == Identified(visitor)
    phone = await visit(database, "phone")
    second = await say(database, "phone", external_id="u-1")
    assert (second.contact_id, second.anew, len(second.merges)) == (visitor, False, 1)
    third = await say(database, "phone", external_id="u-2", email="anna@x.com")
    assert third.contact_id not in {visitor, phone}
    assert third.anew
    assert third.conflicts == (("email", "anna@x.com"),)
    async with database.begin() as connection:
        assert await owners(connection) == {
            ("anonymous_id", "laptop"): visitor,
            ("anonymous_id", "phone"): visitor,
            ("external_id", "u-1"): visitor,
            ("email", "anna@x.com"): visitor,
            ("external_id", "u-2"): third.contact_id,
        }
        (noted,) = await conflicts(connection, visitor)
        assert (noted["contact_id"], noted["owner_id"], noted["value"]) == (third.contact_id, visitor, "anna@x.com")


async def test_what_cannot_be_is_refused(database: Database) -> None:
    async with database.begin() as connection:
        for device, said in [(None, {}), ("d", {"email": "x"}), ("d", {"fax": "1"}), ("", {})]:
            with pytest.raises(InvalidInput):
                await identify(connection, device, said)


async def test_many_devices_at_once_become_one_contact(database: Database) -> None:
    devices = [f"d{n}" for n in range(12)]
    for device in devices[:8]:
        await visit(database, device)
    answers = await asyncio.gather(*(say(database, device, email="anna@x.com", external_id="u") for device in devices))
    assert len({one.contact_id for one in answers}) == 1
    async with database.begin() as connection:
        assert set((await owners(connection)).values()) == {answers[0].contact_id}


async def test_one_device_identified_as_two_at_once_stays_with_the_first(database: Database) -> None:
    await visit(database, "kiosk")
    answers = await asyncio.gather(*(say(database, "kiosk", external_id=f"u{n}") for n in range(6)))
    assert len({one.contact_id for one in answers}) == 6
    assert sorted(one.anew for one in answers) == [False, True, True, True, True, True]


async def test_the_anonymous_ids_of_the_erased_are_of_no_use_any_more(database: Database) -> None:
    await visit(database, "laptop")
    await visit(database, "phone")
    await say(database, "laptop", email="anna@x.com")
    contact = (await say(database, "phone", email="anna@x.com")).contact_id
    async with database.begin() as connection:
        await erasure.erase(connection, contact)
        left = await connection.execute(text("select count(*) from contact_merge where before is not null"))
        assert left.scalar() == 0
    for device in ("laptop", "phone"):
        async with database.begin() as connection:
            with pytest.raises(InvalidInput, match="erased"):
                await resolve(connection, [("anonymous_id", device)])
    async with database.begin() as connection:
        assert await owners(connection) == {}
    again = await say(database, "phone", email="anna@x.com")
    assert again.anew
    async with database.begin() as connection:
        assert await owners(connection) == {("email", "anna@x.com"): again.contact_id}
        with pytest.raises(InvalidInput, match="erased"):
            await identify(connection, "laptop", {})
