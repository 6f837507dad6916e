"""A dry run says what `prepare` would do, and writes nothing."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
import pytest_asyncio

from channels import Budget, Item, Rules, providers, registry, senders, spending, tariffs, templates, trying
from core.errors import InvalidInput
from core.ids import derived_uuid
from tests.channels.world import LETTER, Recorder, World

TRIAL = trying.Trial("email", "marketing", "letter", 0, 0, Rules(cap=1))


async def tried(world: World, items: list[Item], at: datetime, trial: trying.Trial = TRIAL) -> list[trying.Tried]:
    rows = await world.run("select id, contact_id from enrollment")
    contacts = {row.id: row.contact_id for row in rows}
    trial = replace(trial, version_id=world.version_id)
    async with world.database.begin() as connection:
        run = await trying.Run.begin(connection, world.settings, trial, at)
        half = len(items) // 2 + 1  # two pages
        found = []
        for page in (items[:half], items[half:]):
            found += await run.page(connection, [contacts[one.enrollment_id] for one in page])
        assert (await connection.exec_driver_sql("select pg_current_xact_id_if_assigned()")).scalar_one() is None
    return found


async def test_it_gives_the_reasons_that_prepare_gives(world: World, spare: Recorder, at: datetime) -> None:
    good, lately, often, suppressed, gone = await world.enroll(5)
    [unasked] = await world.enroll(1, consent=None)
    earlier = at - timedelta(hours=1)
    await world.prepare([lately], earlier)
    await world.prepare([often], at - timedelta(days=3))
    contact = "(select contact_id from enrollment where id = :id)"
    await world.run(
        f"insert into frequency (contact_id, channel, per_week) select {contact}, 'email', 1", id=often.enrollment_id
    )
    await world.run(
        f"insert into suppression (channel, address, reason) select 'email', value, 'bounced' from identity "
        f"where contact_id = {contact}",
        id=suppressed.enrollment_id,
    )
    await world.run(f"delete from identity where contact_id = {contact}", id=gone.enrollment_id)
    items = [Item(one.enrollment_id, 2) for one in (good, lately, often, suppressed, gone, unasked)]
    found = await tried(world, items, at)
    verdicts = await world.prepare(items, at, TRIAL.rules)
    assert [one.reason for one in found] == [one.reason for one in verdicts] == [
        None, "frequency_cap: 1 in 1 day, 0:00:00", "frequency_cap: the contact wants 1 in 7 days",
        "suppressed: bounced", "no_address", "no_consent",
    ]  # fmt: skip
    assert [one.provider for one in found] == [one.provider for one in verdicts]


async def test_it_knows_hours_and_senders(world: World, at: datetime) -> None:
    items = await world.enroll(1)
    clock = [(at + timedelta(hours=hours)).strftime("%H:%M") for hours in (-1, 1)]
    [later] = await tried(world, items, at, replace(TRIAL, rules=Rules(quiet_from=clock[0], quiet_to=clock[1])))
    assert (later.reason, later.provider) == ("later", None)
    assert later.until is not None
    assert timedelta() < later.until - at <= timedelta(hours=1)
    async with world.database.begin() as connection:
        await templates.publish(connection, LETTER.replace("subject:", "from: a@shop.example\nsubject:"), "l.html")
        await senders.add_sender(connection, "email", "a@shop.example", ["transactional"], [])
    [barred] = await tried(world, items, at)
    assert (barred.reason or "").startswith("sender_barred")


async def test_a_budget_and_a_warm_up_run_out(world: World, spare: Recorder, at: datetime) -> None:
    items = await world.enroll(6)
    async with world.database.begin() as connection:
        await providers.add(connection, world.settings, "second", "spare://")
        await tariffs.import_prices(
            connection,
            [(1, tariffs.NewPrice("main", Decimal(1), "EUR")), (2, tariffs.NewPrice("second", Decimal(2), "EUR"))],
            "prices.csv",
        )
        await providers.change(connection, world.settings, "main", {"warm_up": "2"})
    [row] = await world.run("select journey_id from journey_version")
    trial = replace(TRIAL, budget=Budget(row.journey_id, "6"))
    found = await tried(world, items, at, trial)
    assert [one.provider for one in found[:4]] == ["main", "main", "second", "second"]
    assert sum(one.cost or 0 for one in found) == 6
    assert [one.reason for one in found[4:]] == ["over_budget"] * 2
    async with world.database.begin() as connection:
        await providers.set_state(connection, "second", "paused")
    found = await tried(world, items, at)
    assert [one.reason for one in found] == [None] * 2 + ["tomorrow"] * 4
    assert {one.until for one in found[2:]} == {
        at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    }
    async with world.database.begin() as connection:
        await spending.charge(connection, Budget(row.journey_id, "6"), at, {derived_uuid("x", "y"): Decimal(6)})
    assert {one.reason for one in await tried(world, items, at, trial)} == {"over_budget"}


async def test_a_webhook_is_tried_by_its_template(world: World, at: datetime) -> None:
    async with world.database.begin() as connection:
        await providers.add(connection, world.settings, "calls", "webhook://")
        await templates.publish(
            connection, "---\ntemplate: call\nchannel: webhook\nurl: https://crm.example/x\n---\n{}\n", "call.txt"
        )
    items = await world.enroll(1)
    trial = trying.Trial("webhook", "transactional", "call")
    [found] = await tried(world, items, at, trial)
    assert (found.provider, found.reason) == ("calls", None)
    with pytest.raises(InvalidInput, match="stands in its template"):
        await tried(world, items, at, trying.Trial("webhook"))


SMS = """---
template: text
channel: sms
---
Hello {{ contact.first_name }}, {{ event.total | default('nothing') }} is in your cart: {{ contact.phone }}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def texts(world: World, monkeypatch: pytest.MonkeyPatch) -> list[Item]:
    """Three contacts in a world that sends texts at 0.1 EUR: the text of the second takes two parts, the one of the
    third lacks a value."""
    monkeypatch.setitem(registry.SCHEMES, "texts", registry.Scheme("sms", lambda _url, _settings: Recorder()))
    await world.run("insert into attribute (name, type) values ('first_name', 'text')")
    async with world.database.begin() as connection:
        await providers.add(connection, world.settings, "texts", "texts://")
        await templates.publish(connection, SMS, "text.txt")
        await tariffs.import_prices(connection, [(1, tariffs.NewPrice("texts", Decimal("0.1"), "EUR"))], "prices.csv")
    items = [item for name in ("Anna", "Аннушка-" * 6) for item in await world.enroll(1, first_name=name)]
    items += await world.enroll(1)
    await world.run(
        "insert into consent (contact_id, channel, purpose, granted) "
        "select contact_id, 'sms', 'marketing', true from enrollment"
    )
    await world.run(
        "insert into identity (kind, value, contact_id) select 'phone', '+4917010000' || row_number() over (), "
        "contact_id from enrollment"
    )
    return items


def priced(one: trying.Tried) -> tuple[int | None, Decimal | None, str | None]:
    return one.parts, one.cost, one.priced


async def test_texts_cost_as_many_parts_as_they_take(world: World, texts: list[Item], at: datetime) -> None:
    trial = trying.Trial("sms", "marketing", "text")
    found = await tried(world, texts, at, trial)
    assert [priced(one) for one in found] == [
        (1, Decimal("0.1"), "whole"), (2, Decimal("0.2"), "whole"), (None, Decimal("0.1"), "per part"),
    ]  # fmt: skip
    assert {one.price for one in found} == {Decimal("0.1")}
    summary = trying.Summary()
    summary.add(found)
    assert [(row["messages"], row["parts"], row["cost"], row["priced"]) for row in summary.rows()] == [
        (2, 3, Decimal("0.3"), "whole"), (1, None, Decimal("0.1"), "per part"),
    ]  # fmt: skip
    long = replace(trial, event={"total": "x" * 150})
    assert (await tried(world, texts[:1], at, long))[0].parts == 2
    unsaid = await tried(world, texts, at, trying.Trial("sms"))
    assert [priced(one) for one in unsaid] == [(None, Decimal("0.1"), "per part")] * 3


async def test_a_budget_pays_for_all_parts(world: World, texts: list[Item], at: datetime) -> None:
    [row] = await world.run("select journey_id from journey_version")
    trial = trying.Trial("sms", "marketing", "text", budget=Budget(row.journey_id, "0.35"))
    found = await tried(world, [texts[1]] * 3, at, trial)
    assert [one.reason for one in found] == [None, None, "over_budget"]


async def test_a_letter_is_one_part(world: World, at: datetime) -> None:
    [found] = await tried(world, await world.enroll(1), at, trying.Trial("email"))
    assert priced(found) == (1, None, "whole")
