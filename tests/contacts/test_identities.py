"""Writing identities one way; finding and making contacts, also when many do it at once."""

import asyncio

import pytest
from sqlalchemy import text

from contacts import attach, erasure, identities, normalise, resolve
from core.database import Database
from core.errors import Conflict, InvalidInput, NotFound


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        ("email", " Anna@Example.COM ", "anna@example.com"),
        ("email", "анна@example.com", None),
        ("email", "anna@пример.рф", "anna@xn--e1afmkfd.xn--p1ai"),
        ("email", "anna@localhost", None),
        ("email", "anna..b@example.com", None),
        ("email", "anna@example.com\r\nBcc: all@example.com", None),
        ("email", "a" * 65 + "@example.com", None),
        ("email", "a@" + "b" * 63 + "." + "c" * 63 + ".com", "a@" + "b" * 63 + "." + "c" * 63 + ".com"),
        ("email", "a@" + ".".join(["b" * 63] * 4) + ".com", None),
        ("phone", "8 (916) 123-45-67", "+79161234567"),
        ("phone", "+44 20 7946 0958", "+442079460958"),
        ("phone", "12", None),
        ("phone", "call me", None),
        ("external_id", " crm-17 ", "crm-17"),
        ("external_id", "x" * 201, None),
        ("external_id", "", None),
        ("external_id", "a\0b", None),
        ("external_id", "клиент 5", "клиент 5"),
        ("external_id", "\ud800", None),
        ("anonymous_id", "f" * 200, "f" * 200),
        ("push_endpoint", "https://push.example/" + "x" * 1900, "https://push.example/" + "x" * 1900),
        ("fax", "1", None),
    ],
)
def test_normalise(kind: str, given: str, kept: str | None) -> None:
    if kept is None:
        with pytest.raises(InvalidInput):
            normalise(kind, given)
    else:
        assert normalise(kind, given) == kept
        assert normalise(kind, kept) == kept


def test_phone_region_decides_how_local_numbers_read() -> None:
    assert normalise("phone", "020 7946 0958", "GB") == "+442079460958"


async def test_resolve_makes_each_contact_once_and_keeps_the_order(database: Database) -> None:
    asked = [("email", "b@x.com"), ("external_id", "1"), ("email", "a@x.com"), ("email", "b@x.com")]
    async with database.begin() as connection:
        first = await resolve(connection, asked)
    async with database.begin() as connection:
        again = await resolve(connection, [*reversed(asked)])
    assert first[0] == first[3]
    assert len(set(first)) == 3
    assert again == first[::-1]


async def test_many_who_resolve_the_same_at_once_agree_and_leave_no_orphans(database: Database) -> None:
    pairs = [("email", f"{n}@x.com") for n in range(300)]

    async def one(shift: int) -> dict[tuple[str, str], int]:
        mine = [*pairs[shift:], *pairs[:shift]]
        async with database.begin() as connection:
            return dict(zip(mine, await resolve(connection, mine), strict=True))

    found = await asyncio.gather(*(one(shift) for shift in range(0, 300, 40)))
    assert all(answer == found[0] for answer in found)
    async with database.begin() as connection:
        counts = await connection.execute(
            text("select (select count(*) from contact), (select count(*) from identity)")
        )
        assert tuple(counts.one()) == (300, 300)


async def _until_erasure_waits(database: Database) -> None:
    """Return when somebody else asks for the lock that keeps writers out."""
    while True:
        async with database.begin() as connection:
            waiting = await connection.execute(
                text(
                    "select count(*) from pg_stat_activity where datname = current_database() "
                    r"and query ~ 'advisory_xact_lock\(' and pid <> pg_backend_pid()"
                )
            )
            if waiting.scalar_one():
                return
        await asyncio.sleep(0.01)


async def test_who_waits_to_erase_keeps_nobody_from_writing(database: Database) -> None:
    async with database.begin() as connection:
        (contact,) = await resolve(connection, [("email", "a@x.com")])

    async def erased() -> None:
        async with database.begin() as connection:
            await erasure.erase(connection, contact)

    async with asyncio.timeout(30):
        async with database.begin() as importing:
            await identities.hold_off_erasure(importing)
            erasing = asyncio.create_task(erased())
            await _until_erasure_waits(database)
            for _ in range(5):
                async with database.begin() as other:
                    await other.execute(text("set local lock_timeout = '1s'"))
                    await identities.hold_off_erasure(other)
            assert not erasing.done()
        await erasing


async def test_attach(database: Database) -> None:
    async with database.begin() as connection:
        anna, boris = await resolve(connection, [("email", "anna@x.com"), ("email", "boris@x.com")])
        await attach(connection, anna, "anonymous_id", "cookie")
        await attach(connection, anna, "anonymous_id", "cookie")
        assert await resolve(connection, [("anonymous_id", "cookie")]) == [anna]
        with pytest.raises(Conflict):
            await attach(connection, boris, "anonymous_id", "cookie")
        with pytest.raises(NotFound):
            await attach(connection, 10**9, "anonymous_id", "another")
