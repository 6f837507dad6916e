"""What contacts choose for themselves, and consents that wait for their confirmation."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from contacts import consents, erasure, notes, optin, preferences, profiles
from contacts.preferences import Purpose, Wish
from core.clock import now
from core.database import Database
from core.errors import InvalidInput, NotFound

PROOF = {"ip": "192.0.2.1"}


async def people(database: Database, *emails: str, **more: Any) -> list[int]:
    async with database.begin() as connection:
        items = [profiles.Item({"email": email}, **more) for email in emails]
        return [one.contact_id or 0 for one in await profiles.upsert(connection, items)]


async def run(database: Database, statement: str, **values: Any) -> Sequence[Any]:
    async with database.begin() as connection:
        done = await connection.execute(text(statement), values)
        return list(done) if done.returns_rows else []


async def choose(database: Database, contact: int, wish: Wish) -> preferences.Changed:
    async with database.begin() as connection:
        return await preferences.choose(connection, contact, wish, "preference page", PROOF, now())


async def test_what_is_chosen_holds_and_is_written_down_once(database: Database) -> None:
    [contact] = await people(database, "a@example.com")
    wish = Wish({("email", "marketing"): True}, {"email": 2}, "RU", "europe/moscow")
    assert await choose(database, contact, wish)
    assert not await choose(database, contact, wish)
    async with database.begin() as connection:
        found = await preferences.read(connection, contact)
        assert found is not None
        assert (found.language, found.time_zone) == ("ru", "Europe/Moscow")
        assert (found.consents, found.per_week) == ({("email", "marketing"): True}, {"email": 2})
        assert found.channels == {"email"}
        [stated] = await consents.history(connection, contact)
        assert (stated["granted"], stated["source"], stated["evidence"]) == (True, "preference page", PROOF)
        [noted] = await notes.history(connection, contact)
        assert noted["changes"]["per_week.email"] == {"was": None, "is": 2}
        assert set(noted["changes"]) == {"per_week.email", "language", "time_zone"}
    assert await choose(database, contact, Wish(per_week={"email": None}))
    assert await run(database, "select * from frequency") == []


@pytest.mark.parametrize(
    "wish",
    [Wish({("pigeon", "x"): True}), Wish(per_week={"email": 0}), Wish(language="!"), Wish(time_zone="Mars/Olympus")],
)
async def test_nonsense_is_refused(database: Database, wish: Wish) -> None:
    [contact] = await people(database, "a@example.com")
    with pytest.raises(InvalidInput):
        await choose(database, contact, wish)
    with pytest.raises(NotFound):
        await choose(database, contact + 1, Wish())


async def test_agreeing_anew_lifts_unsubscribed_and_nothing_else(database: Database) -> None:
    first, second = await people(database, "a@example.com", "b@example.com")
    await run(
        database,
        "insert into suppression (channel, address, reason) values "
        "('email', 'a@example.com', 'unsubscribed'), ('email', 'b@example.com', 'bounced')",
    )
    for contact in (first, second):
        await choose(database, contact, Wish({("email", "marketing"): True}))
    assert [row.address for row in await run(database, "select address from suppression")] == ["b@example.com"]


async def test_purposes_are_offered_in_their_order(database: Database) -> None:
    async with database.begin() as connection:
        assert await preferences.purposes(connection) == [preferences.MARKETING]
        await preferences.offer(connection, Purpose("tips", ("email",), {"ru": "Советы"}, place=2))
        await preferences.offer(connection, Purpose("news", ("email", "sms"), {"en": "News"}, {"en": "Weekly."}, 1))
        found = await preferences.purposes(connection)
        assert [one.name for one in found] == ["news", "tips"]
        assert (found[0].title("ru"), found[1].title("en"), found[0].text("en")) == ("News", "Советы", "Weekly.")
        with pytest.raises(InvalidInput):
            await preferences.offer(connection, Purpose("transactional", ("email",), {"en": "x"}))
        await preferences.withdraw_offer(connection, "tips")
        with pytest.raises(NotFound):
            await preferences.withdraw_offer(connection, "tips")


ASKED = profiles.ConsentItem("email", "marketing", True, evidence={"form": "/join"}, confirm=True)


async def test_what_is_asked_is_granted_by_the_contact_alone(database: Database) -> None:
    [contact] = await people(database, "a@example.com", consents=[ASKED])
    async with database.begin() as connection:
        assert await consents.of(connection, contact) == []
        assert [one["purpose"] for one in await optin.of(connection, contact)] == ["marketing"]
        assert await optin.tell(connection, now()) == 1
        assert await optin.tell(connection, now()) == 0
        assert await optin.confirm(connection, contact, "other@example.com", PROOF, now()) == []
    async with database.begin() as connection:
        assert await optin.confirm(connection, contact, "a@example.com", PROOF, now()) == [("email", "marketing")]
    async with database.begin() as connection:
        assert await optin.confirm(connection, contact, "a@example.com", PROOF, now()) == []
        [record] = await consents.history(connection, contact)
        assert await consents.holds(connection, [contact], "email", "marketing") == {contact}
        assert await optin.of(connection, contact) == []
    assert (record["source"], record["evidence"]["ip"]) == ("double opt-in", "192.0.2.1")
    assert record["evidence"]["asked"]["form"] == "/join"
    events = await run(
        database, "select n.name, properties from event e join event_name n on n.id = name_id order by e.id"
    )
    assert events == [
        ("consent.requested", {"channel": "email", "purposes": ["marketing"]}),
        ("consent.confirmed", {"channel": "email", "purpose": "marketing"}),
    ]


async def test_nobody_is_asked_twice_within_the_hour_or_after_agreeing(database: Database) -> None:
    [contact] = await people(database, "a@example.com")
    at = now()

    async def ask(hours: float) -> set[int]:
        async with database.begin() as connection:
            when = at + timedelta(hours=hours)
            return await optin.ask(connection, {contact: {}}, "email", "marketing", "api", when, 7)

    assert [await ask(0), await ask(0.5), await ask(2)] == [{contact}, set(), {contact}]
    async with database.begin() as connection:
        await optin.confirm(connection, contact, "a@example.com", PROOF, at)
    assert await ask(9) == set()
    [other] = await people(database, "b@example.com")
    await run(database, "delete from identity where contact_id = :id", id=other)
    async with database.begin() as connection:
        assert await optin.ask(connection, {other: {}}, "email", "marketing", "api", at, 7) == set()
        for pair in (("email", "transactional"), ("site", "marketing")):
            with pytest.raises(InvalidInput):
                await optin.ask(connection, {contact: {}}, *pair, "api", at, 7)


async def test_what_nobody_confirms_lapses(database: Database) -> None:
    [contact] = await people(database, "a@example.com", consents=[ASKED])
    later = now() + timedelta(days=8)
    async with database.begin() as connection:
        assert await optin.lapse(connection, now()) == 0
        assert await optin.pending(connection, contact, None, later) == []
        assert await optin.confirm(connection, contact, "a@example.com", PROOF, later) == []
        assert await optin.lapse(connection, later) == 1
        noted = await notes.history(connection, contact)
    assert {"lapsed": "email:marketing"} in [one["changes"] for one in noted]


async def test_erasure_takes_all_of_it(database: Database) -> None:
    [contact] = await people(database, "a@example.com", consents=[ASKED])
    await choose(database, contact, Wish(per_week={"email": 2}, language="ru"))
    async with database.begin() as connection:
        await erasure.erase(connection, contact)
    for table in ("consent_request", "preference_record", "frequency"):
        assert await run(database, f"select * from {table}") == []
