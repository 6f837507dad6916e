"""Simulation against the engine that it foretells: the same contacts, the same answers, the same messages."""

import asyncio
import json
import os
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from temporalio.testing import ActivityEnvironment

import contacts
from channels import Delivery, providers, tariffs, templates, trying
from core import eventlog
from core.clock import now
from core.database import Database
from core.errors import InvalidInput, NotFound
from core.ids import seed
from core.schema import metadata
from core.settings import Settings
from engine import simulating
from engine.activities import Activities
from engine.simulating_screen import bar, simulated
from engine.versions import Versions
from engine.wire import ENDINGS, HandOver, RecordRequest, StepRequest
from journeys import store
from journeys.machine import advance
from journeys.plan import Choose, Plan, Send
from journeys.tokens import Batch, Heard, Input, Join, Met, Tokens, Unmet, Went

JOURNEY = """
journey: compare
enter: {event: asked, where: {contact.age: {gte: 18}}}
exit:
  - {when: {contact.tags: gone}, outcome: gone}
  - {when: {contact.tags: {contains_all: [vip, told]}}, outcome: told}
steps:
  - {id: letter, send: email, template: letter}
  - wait: 4h
    id: pause
    until: {event: answered}
    then: thanks
  - if: {contact.tags: vip}
    then: [{id: vip-letter, send: email, template: letter}]
    else: [{update: {tags: {add: quiet}, consents: {email: {news: true}}}}]
  - if: {contact.tags: quiet, contact.consents: {channel: email, purpose: news}}
    then: [{id: quiet-letter, send: email, template: letter, purpose: news}]
  - if: {message: {template: letter, state: clicked, within: 1d}}
    then: [{end: clicked}]
  - suppress: email
  - {suppress: email, reason: bounced, lift: true}
  - {id: unwanted, send: email, template: letter}
  - if: {contact.suppressed: {channel: email, reason: bounced}}
    then: [{end: bounced}]
  - {suppress: email, lift: true}
  - if: {contact.suppressed: email}
    then: [{end: suppressed}]
  - tag: told
  - {id: allowed, send: email, template: letter}
  - end: silent
  - {id: thanks, send: email, template: letter, purpose: transactional}
  - end: answered
"""
LETTER = """---
template: letter
subject: "Dear {{ contact.first_name }}, about {{ event.topic | default('nothing') }}"
---
<p>Hello {{ contact.first_name }}. <a href="{{ unsubscribe_url }}">stop</a></p>
"""
# One contact a row: id, consent to marketing by email, address, tags, age.
PEOPLE: list[tuple[int, bool | None, str | None, list[str], int]] = [
    (1, True, "one@example.com", ["vip"], 30),
    (2, True, "two@example.com", [], 30),
    (3, None, "three@example.com", ["vip"], 30),
    (4, False, "four@example.com", [], 30),
    (5, True, "five@example.com", ["vip", "quiet"], 30),
    (6, True, None, [], 30),
    (7, True, "not an address", [], 30),
    (8, True, "suppressed@example.com", ["vip"], 30),
    (9, True, "nine@example.com", [], 12),
    (10, True, "ten@example.com", ["gone"], 30),
]


@pytest_asyncio.fixture(loop_scope="session")
async def installed(database: Database, settings: Settings) -> Database:
    """Contacts of many kinds, a template, a provider and the journey."""
    async with database.begin() as connection:
        await contacts.attributes.register(connection, {"age": "number", "first_name": "text"})
        await providers.add(connection, settings, "main", "blackhole://")
        await templates.publish(connection, LETTER, "letter.html")
        for number, consent, address, tags, age in PEOPLE:
            await connection.execute(
                text(
                    "insert into contact (id, tags, attributes) overriding system value values "
                    "(:id, :tags, jsonb_build_object('age', cast(:age as int), 'first_name', 'Ann'))"
                ),
                {"id": number, "tags": tags, "age": age},
            )
            if address is not None:
                await connection.execute(
                    text("insert into identity (kind, value, contact_id) values ('email', :value, :id)"),
                    {"value": address, "id": number},
                )
            if consent is not None:
                await connection.execute(
                    text("insert into consent values (:id, 'email', 'marketing', :consent)"),
                    {"id": number, "consent": consent},
                )
        await contacts.suppressions.suppress(connection, "email", ["suppressed@example.com"], "bounced")
        await store.publish(connection, JOURNEY, "compare.yaml")
    return database


async def wanted(database: Database, **more: Any) -> simulating.Wanted:
    async with simulating.read_only(database) as connection:
        plan, warnings = await simulating.plan_of(connection, "compare")
    assert warnings == ()
    values: dict[str, Any] = {"segment": "all", "days": 3} | more
    return simulating.Wanted(plan, **values)


class Engine:
    """The real machine and the real activities over a database, under a clock that the test sets.

    It does what the cohort workflow does, without Temporal in between.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.delivery = Delivery(database, settings)
        self.activities = Activities(database, settings, self.delivery, Versions())
        self.environment = ActivityEnvironment()
        self.clicks = False

    async def run(self, people: list[int], answer: bool) -> None:
        """Send these contacts through the journey; after an hour of waiting all of them answer, or none."""
        async with self.database.begin() as connection:
            found = await store.find(connection, "compare")
            await connection.execute(
                text(
                    "insert into enrollment (id, contact_id, cohort_id, journey_id, version_id, exclusive) "
                    "overriding system value select id, id, 1, :journey, :version, false "
                    "from unnest(cast(:ids as int[])) id"
                ),
                {"journey": found.id, "version": found.version_id, "ids": people},
            )
        begun = now().timestamp()
        moment: float | None = begun
        tokens: Tokens = {}
        inputs: list[Input] = [Join(number, seed(number)) for number in people]
        while moment is not None:
            turn = advance(found.plan, tokens, moment, inputs)
            tokens = turn.tokens
            record = RecordRequest(1, found.version_id, [], [], [], over=False)
            record.note(turn.visits, turn.waits, turn.finished, turn.branched)
            await self.environment.run(self.activities.record, record)
            inputs = [
                one for batch in turn.batches for one in await self._act(found.version_id, found.plan, batch, moment)
            ]
            inputs += await self._ask(found.version_id, turn.looks, moment)
            if not inputs:
                await self._click()  # before time goes on
                moment = turn.next_due()
                if answer and moment is not None and moment > begun + 3600:
                    moment, answer = begun + 3600, False
                    inputs = [Heard(number, 0) for number in people]
        await self.delivery.close()

    async def _ask(self, version_id: int, looks: list[tuple[int, int]], at: float) -> list[Input]:
        if not looks:
            return []
        request = StepRequest(version_id, ENDINGS, at, [list(look) for look in looks])
        met = {row[0]: row[2] for row in (await self.environment.run(self.activities.leave, request)).ended}
        return [Met(one, met[one]) if one in met else Unmet(one, visit) for one, visit in looks]

    async def _act(self, version_id: int, plan: Plan, batch: Batch, at: float) -> list[Input]:
        request = StepRequest(version_id, batch.step, at, [list(member) for member in batch.members])
        step = plan.steps[batch.step]
        if isinstance(step, Choose):
            places = await self.environment.run(self.activities.choose, request)
            return [Went(*row) for row in places.rows]
        if not isinstance(step, Send):
            acted = await self.environment.run(self.activities.act, request)
            return [Went(*row) for row in acted.went]
        prepared = await self.environment.run(self.activities.prepare, request)
        assert prepared.delayed == []
        for provider, members in prepared.deliver.items():
            hand_over = HandOver(provider, at, members, False, version_id, batch.step)
            await self.environment.run(self.activities.deliver, hand_over)
        return [Went(enrollment, visit, step.next) for enrollment, visit in batch.members]

    async def _click(self) -> None:
        if self.clicks:
            async with self.database.begin() as connection:
                await connection.execute(text("update message set clicked_at = now() where state = 50"))

    async def rows(self, statement: str) -> list[Any]:
        """What a query gives."""
        async with self.database.begin() as connection:
            return list(await connection.execute(text(statement)))


@pytest.mark.parametrize("budget", [None, "0.75", "1.75"])
@pytest.mark.parametrize("answer", [False, True])
@pytest.mark.parametrize("click", [False, True])
async def test_it_foretells_what_the_engine_does(
    installed: Database, settings: Settings, answer: bool, click: bool, budget: str | None
) -> None:
    if budget is not None:
        async with installed.begin() as connection:
            await store.publish(connection, f"limits: {{budget: {budget}}}\n{JOURNEY}", "compare.yaml")
            prices = [tariffs.NewPrice("main", Decimal("0.25"), "EUR")]
            await tariffs.import_prices(connection, list(enumerate(prices)), "prices.csv")
    responses = f"clicked={int(click)}@=0s,answered={int(answer)}@=1h"
    done = await simulating.simulate(installed, await wanted(installed, responses=responses))
    assert done.not_let_in == 1  # who is twelve
    engine = Engine(installed, settings)
    engine.clicks = click
    await engine.run([number for number, *_, age in PEOPLE if age >= 18], answer)

    names = [step.id for step in (await wanted(installed)).plan.steps]
    sent = await engine.rows("select step, count(*) from message where state = 50 group by step")
    assert done.result.sent() == {names[step]: count for step, count in sent}
    skipped = await engine.rows("select step, reason, count(*) from message where state = 15 group by step, reason")
    assert {(one.step, one.reason, one.messages) for one in done.result.reasons} == {
        (names[step], reason, count) for step, reason, count in skipped
    }
    ended = await engine.rows("select outcome, count(*) from enrollment group by outcome")
    assert {one.outcome: one.contacts for one in done.result.outcomes} == dict(ended)
    visits = await engine.rows("select step, via, count(*) from step_visit group by step, via")
    assert {(one.step, one.via, one.visits) for one in done.result.ways} == {
        (names[step], via, count) for step, via, count in visits
    }
    assert sum(done.result.sent().values()) > 3 if budget is None else done.result.cost == float(budget)


async def test_nothing_is_written(installed: Database, settings: Settings) -> None:
    async def counts() -> dict[str, int]:
        async with installed.begin() as connection:
            return {
                table.name: (await connection.execute(text(f"select count(*) from {table.name}"))).scalar_one()
                for table in metadata.sorted_tables
            }

    before = await counts()
    asked = await wanted(installed, responses="clicked=1,answered=0.5", prices={"email": 0.5})
    done = await simulating.simulate(installed, asked)
    assert done.result.cost == 0.5 * sum(done.result.sent().values()) > 0
    await simulating.tell(installed, settings, await wanted(installed, segment=None, contact="1"))
    assert await counts() == before


async def test_messages_cost_what_the_dry_run_says(installed: Database, settings: Settings) -> None:
    async with installed.begin() as connection:
        await providers.add(connection, settings, "dear", "blackhole://")
        corporate = tariffs.NewRoute("dear", tier=0, operators=["example.com"], purposes=["transactional"])
        await tariffs.add_route(connection, corporate)
        prices = [tariffs.NewPrice("main", Decimal("0.25"), "EUR"), tariffs.NewPrice("dear", Decimal(3), "EUR")]
        await tariffs.import_prices(connection, list(enumerate(prices)), "prices.csv")
    done = await simulating.simulate(installed, await wanted(installed, responses="answered=1@=1h"))
    sent = done.result.sent()
    costs = {row.provider: (row.messages, row.cost, row.currency) for row in done.result.costs}
    # The letter is for marketing, the thanks are transactional and go by the other provider.
    assert costs == {
        "main": (sent["letter"], 0.25 * sent["letter"], "EUR"),
        "dear": (sent["thanks"], 3.0 * sent["thanks"], "EUR"),
    }
    async with simulating.read_only(installed) as connection:
        run = await trying.Run.begin(connection, settings, trying.Trial("email"), now())
        tried = await run.page(connection, [1])
    assert [(one.provider, one.cost) for one in tried] == [("main", Decimal("0.25"))]


async def test_the_transaction_refuses_to_write(installed: Database) -> None:
    with pytest.raises(DBAPIError, match="read-only transaction"):
        async with simulating.read_only(installed) as connection:
            await connection.execute(text("update contact set language = 'ru'"))


async def test_the_story_of_a_contact_shows_its_letters_and_reasons(installed: Database, settings: Settings) -> None:
    asked = await wanted(installed, segment=None, contact="email:one@example.com", properties={"topic": "tea"})
    story = await simulating.tell(installed, settings, asked)
    assert story.let_in
    letters = [line.message for line in story.lines if line.message is not None]
    assert [letter.subject for letter in letters] == ["Dear Ann, about tea"] * 2
    assert letters[0].text.startswith("Hello Ann.")
    words = [f"{line.step}: {line.what}" for line in story.lines]
    assert "if-1: has the tag vip: holds" in words
    assert "if-2: has the tag quiet and agreed to news by email: does not hold" in words
    assert words[-2:] == [": has all of the tags vip, told: holds", ": the journey ends: told"]
    child = await simulating.tell(installed, settings, await wanted(installed, segment=None, contact="9"))
    assert not child.let_in
    refused = await simulating.tell(installed, settings, await wanted(installed, segment=None, contact="8"))
    assert "letter: email letter is not sent: suppressed: bounced" in [
        f"{one.step}: {one.what}" for one in refused.lines
    ]


async def test_caps_count_what_was_sent_before_and_in_the_simulation(installed: Database) -> None:
    asked = await wanted(installed)
    capped = asked.plan.model_copy(
        update={"rules": asked.plan.rules.model_copy(update={"cap": 1, "cap_seconds": 86_400})}
    )
    done = await simulating.simulate(installed, simulating.Wanted(capped, segment="all", days=3))
    assert {(one.step, one.reason) for one in done.result.reasons if "cap" in one.reason} == {
        ("vip-letter", "frequency_cap: 1 in 1 day, 0:00:00"),
        ("quiet-letter", "frequency_cap: 1 in 1 day, 0:00:00"),
        ("allowed", "frequency_cap: 1 in 1 day, 0:00:00"),
    }
    async with installed.begin() as connection:
        await connection.execute(
            text(
                "insert into message (id, created_at, contact_id, state, channel, purpose) "
                "select gen_random_uuid(), now() - interval '1 hour', id, 50, 'email', 'marketing' from contact"
            )
        )
    after = await simulating.simulate(installed, simulating.Wanted(capped, segment="all", days=3))
    assert "letter" not in after.result.sent()


async def test_a_budget_counts_what_the_journey_has_spent_and_the_prices_that_are_given(installed: Database) -> None:
    async with installed.begin() as connection:
        await store.publish(connection, f"limits: {{budget: 5}}\n{JOURNEY}", "compare.yaml")
        await connection.execute(text("insert into journey_spending select id, 2.5 from journey"))
    done = await simulating.simulate(installed, await wanted(installed, prices={"email": 0.5}))
    assert (done.result.budget, sum(done.result.sent().values()), done.result.cost) == (2.5, 5, 2.5)
    assert done.result.spent_at is not None
    shown = "\n".join(str(part) for part in simulated(done))
    assert "The budget is spent on day 1" in shown and "2.50 were left at the start" in shown
    assert (await simulating.simulate(installed, await wanted(installed))).result.spent_at is None


async def test_quiet_hours_hold_messages_back(installed: Database) -> None:
    asked = await wanted(installed)
    quiet = asked.plan.model_copy(update={"rules": asked.plan.rules.model_copy(update={"quiet": ("00:00", "23:59")})})
    done = await simulating.simulate(installed, simulating.Wanted(quiet, segment="all", days=3))
    delayed = sum(row.delayed for row in done.result.messages if row.step == "letter")
    assert delayed == 3  # the others are skipped at once


async def test_bounds_and_missing_names_are_said(installed: Database) -> None:
    with pytest.raises(InvalidInput, match="say who enters"):
        await simulating.simulate(installed, await wanted(installed, segment=None))
    with pytest.raises(InvalidInput, match="more than 5 contacts"):
        await simulating.simulate(installed, await wanted(installed, most=5))
    with pytest.raises(NotFound, match="no segment nobody"):
        await simulating.simulate(installed, await wanted(installed, segment="nobody"))
    with pytest.raises(InvalidInput, match="from 1 to"):
        await simulating.simulate(installed, await wanted(installed, days=0))
    with pytest.raises(NotFound, match="cannot be read"):
        simulating.source_of("nowhere/x.yaml")


OF_CART = "{name: order.paid, where: {event.cart: {same: cart}}}"
CARTS = f"""
journey: carts
enter: {{event: cart.left, where: {{event.items: {{gt: 0}}}}, key: event.cart, reenter: always}}
steps:
  - {{if: {{event: {OF_CART}}}, then: [{{end: paid}}]}}
  - {{wait: 1d, until: {{event: order.paid, where: {{event.cart: {{same: cart}}}}}}}}
  - {{if: {{event: {OF_CART}}}, then: [{{end: paid later}}]}}
  - end: lost
"""


async def test_same_is_asked_of_the_latest_event_by_which_each_contact_could_enter(
    installed: Database, settings: Settings
) -> None:
    happened: list[tuple[int, str, dict[str, Any]]] = [
        (1, "cart.left", {"cart": "a", "items": 2}),
        (1, "order.paid", {"cart": "a"}),
        (2, "cart.left", {"cart": "a", "items": 1}),
        (2, "order.paid", {"cart": "a"}),
        (2, "cart.left", {"cart": "b", "items": 1}),
        (3, "cart.left", {"cart": "a", "items": 3}),
        (3, "order.paid", {"cart": "a"}),
        (3, "cart.left", {"cart": "b", "items": 0}),
        (4, "order.paid", {"cart": "a"}),
    ]
    async with installed.begin() as connection:
        for second, (contact, name, properties) in enumerate(happened):
            await eventlog.record(connection, name, contact, now() + timedelta(seconds=second - 60), properties)
    async with simulating.read_only(installed) as connection:
        plan, warnings = await simulating.plan_of(connection, "carts", CARTS)
    assert warnings == ()

    async def ended(**more: Any) -> dict[str, int]:
        done = await simulating.simulate(installed, simulating.Wanted(plan, segment="all", days=3, **more))
        return {one.outcome: one.contacts for one in done.result.outcomes}

    assert await ended() == {"paid": 2, "lost": len(PEOPLE) - 2}
    # Of an answer it is taken as met, in the criteria as in the wait.
    assert await ended(responses="order.paid=1@=1h") == {"paid": 2, "paid later": len(PEOPLE) - 2}
    asked = simulating.Wanted(plan, contact="2", properties={"cart": "a"})
    story = await simulating.tell(installed, settings, asked)
    assert story.lines[-1].what == "the journey ends: paid"
    assert (await simulating.tell(installed, settings, simulating.Wanted(plan, contact="2"))).lines[-1].what == (
        "the journey ends: lost"
    )


async def test_the_command(installed: Database, tmp_path: Path) -> None:
    async def kaskad(*arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "from studio.cli import main; main()", "journey", "simulate", *arguments,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"KASKAD_DATABASE": installed.url, "KASKAD_DATA": str(tmp_path), "COLUMNS": "140"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode(), err.decode()

    file = tmp_path / "compare.yaml"
    file.write_text(JOURNEY.replace("template: letter", "template: unwritten", 1))
    code, out, err = await kaskad(str(file), "--segment", "all", "--response", "answered=1@=1h", "--price", "email=2")
    assert code == 0, err
    for said in (
        "9 contacts enter, 1 more",
        "could not be published yet",
        "no_consent".replace("_", " "),
        "answered",
        "█",
    ):
        assert said in out
    code, out, err = await kaskad("compare", "--segment", "all", "--days", "2", "--seed", "7", "--json")
    assert code == 0, err
    result = json.loads(out)["result"]
    assert (result["seed"], result["days"], result["entered"]) == (7, 2, 9)
    code, out, err = await kaskad("compare", "--contact", "1")
    assert code == 0, err
    assert "Dear Ann, about nothing" in out
    code, _, err = await kaskad("compare", "--segment", "all", "--response", "clicked=often")
    assert code == 1
    assert "is not a response" in err


def test_bars() -> None:
    assert bar(10, 10, width=4) == "████"
    assert bar(5, 10, width=5) == "██▌"
    assert bar(1, 10_000, width=5) == "▏"
    assert bar(0, 10) == bar(0, 0) == ""
