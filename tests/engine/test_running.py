"""Whole journeys on the real database, router and Temporal server, with a provider that keeps what it is given."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from channels import Delivery, providers, registry, templates
from core import eventlog
from core.clock import now
from core.database import Database
from core.settings import Settings
from engine import entering, history, pacing, winners
from engine.activities import Activities
from engine.cohort import CohortWorkflow
from engine.cohorts import Cohorts
from engine.listening import Listening
from engine.router import Router
from engine.versions import Versions
from engine.wire import LOG_QUEUE, MAIN_QUEUE
from journeys import store
from tests.channels.world import LETTER, Recorder
from tracker.event_files import Options
from tracker.importing import import_events


@dataclass
class Installation:
    """A running installation."""

    database: Database
    router: Router
    versions: Versions
    recorder: Recorder

    async def run(self, statement: str, **values: Any) -> list[Any]:
        """One statement in its own transaction."""
        async with self.database.begin() as connection:
            done = await connection.execute(text(statement), values)
            return list(done) if done.returns_rows else []

    async def publish(self, source: str, hasten: float = 1.0) -> None:
        """Publish a journey."""
        async with self.database.begin() as connection:
            await store.publish(connection, source, hasten=hasten)

    async def contact(self, **attributes: Any) -> int:
        """A contact who may be written to."""
        rows = await self.run(
            "with c as (insert into contact (attributes) values (cast(:attributes as jsonb)) returning id), "
            "i as (insert into identity (kind, value, contact_id) select 'email', 'c' || id || '@example.com', id from "
            "c), k as (insert into consent (contact_id, channel, purpose, granted) "
            "select id, 'email', 'marketing', true from c) select id from c",
            attributes=json.dumps(attributes),
        )
        return int(rows[0].id)

    async def happen(self, name: str, contact: int, **properties: Any) -> None:
        """Append an event."""
        async with self.database.begin() as connection:
            await eventlog.record(connection, name, contact, now(), properties)

    async def set_state(self, journey: str, state: str) -> None:
        """Pause or resume a journey, and tell its cohorts."""
        async with self.database.begin() as connection:
            await store.set_state(connection, journey, state)
        await self.router._cohorts.spread_control(self.database)

    async def enter(self, journey: str, *contacts: int) -> None:
        """Let contacts in by hand."""
        async with self.database.begin() as connection:
            await entering.enter(connection, journey, contacts)

    async def until(self, statement: str, **values: Any) -> list[Any]:
        """Route until a query gives rows."""
        for _ in range(600):
            await self.router.round()
            rows = await self.run(statement, **values)
            if rows:
                return rows
            await asyncio.sleep(0.03)
        raise AssertionError(f"it never came to that: {statement}")

    async def outcome(self, journey: str, contact: int) -> str:
        """How the contact's enrollment ended, once it has."""
        rows = await self.until(
            "select e.outcome from enrollment e join journey j on j.id = e.journey_id "
            "where j.name = :journey and e.contact_id = :contact and e.finished_at is not null",
            journey=journey, contact=contact,
        )  # fmt: skip
        return str(rows[0].outcome)


@pytest_asyncio.fixture(loop_scope="session")
async def here(
    database: Database, settings: Settings, brief_histories: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Installation]:
    """The installation; its cohorts continue as new all the time."""
    recorder = Recorder()
    monkeypatch.setitem(registry.SCHEMES, "test", registry.Scheme("email", lambda _url, _settings: recorder, batch=10))
    settings = settings.model_copy(update={"cohort_open_seconds": 1, "cohort_size": 2})
    async with database.begin() as connection:
        await providers.add(connection, settings, "main", "test://host")
        await templates.publish(
            connection, LETTER.replace("event.application_id | default('-')", "contact.id"), "a.html"
        )
        await connection.execute(
            text(
                "insert into attribute (name, type) values ('points', 'number'), "
                "('city', 'text'), ('first_name', 'text')"
            )
        )
        # Workflow ids come from cohort numbers, and the server is shared with other tests.
        await connection.execute(text("select setval(pg_get_serial_sequence('cohort', 'id'), :at)"), {"at": _number()})
    async with _served(database, settings, brief_histories) as versions:
        cohorts = Cohorts(brief_histories.client, settings)
        yield Installation(database, Router(database, settings, cohorts, versions), versions, recorder)


def _number() -> int:
    return int(now().timestamp() * 1000)


@asynccontextmanager
async def _served(database: Database, settings: Settings, environment: WorkflowEnvironment) -> AsyncIterator[Versions]:
    delivery, versions = Delivery(database, settings), Versions()
    activities = Activities(database, settings, delivery, versions)
    work: list[Callable[..., object]] = [activities.record, activities.prepare, activities.choose, activities.act]
    work += [activities.leave, activities.withdraw]
    client = environment.client
    try:
        async with (
            Worker(client, task_queue=MAIN_QUEUE, workflows=[CohortWorkflow], activities=work),
            Worker(client, task_queue=LOG_QUEUE, activities=[Listening(database).listen]),
            Worker(client, task_queue="provider-main", activities=[activities.deliver]),
        ):
            yield versions
    finally:
        await activities.close()
        await delivery.close()


CHILD = """
journey: child
steps:
  - {id: hello, send: email, template: letter}
  - {id: w, wait: 1h, until: {event: answered}, then: [{end: answered}]}
  - end: silent
"""
PARENT = """
journey: parent
steps:
  - enroll: child
    await: true
    outcomes:
      answered: [{score: {points: 3}}, {end: good}]
      not_entered: [{end: refused}]
  - end: bad
"""


async def test_a_parent_goes_on_by_the_outcome_of_its_child(here: Installation) -> None:
    await here.publish(CHILD)
    await here.publish(PARENT)
    anna, boris, vera = [await here.contact() for _ in range(3)]
    await here.enter("parent", anna, boris)
    await here.until("select 1 from message having count(*) = 2")
    await here.happen("answered", anna)
    assert await here.outcome("parent", anna) == "good"
    await here.run("update journey set state = 'stopped', control = control + 1 where name = 'child'")
    await here.router._cohorts.spread_control(here.database)
    assert await here.outcome("parent", boris) == "bad"
    await here.enter("parent", vera)
    assert await here.outcome("parent", vera) == "refused"
    rows = await here.run("select id, attributes from contact order by id")
    assert [row.attributes for row in rows] == [{"points": 3}, {}, {}]
    assert [row.outcome for row in await here.run("select outcome from enrollment e join journey j on "
            "j.id = e.journey_id where j.name = 'child' order by e.id")] == ["answered", "stopped"]  # fmt: skip


async def test_a_child_that_lets_nobody_in_again_tells_its_parent(here: Installation) -> None:
    await here.publish(CHILD)
    await here.publish(PARENT)
    anna = await here.contact()
    await here.enter("child", anna)
    await here.until("select 1 from message")
    await here.enter("parent", anna)
    assert await here.outcome("parent", anna) == "refused"


async def test_branches_meet_and_no_message_is_sent_twice(here: Installation) -> None:
    await here.publish(
        """
journey: both
steps:
  - parallel:
      one: [{send: email, template: letter}, {wait: 1s}, {send: email, template: letter}]
      two: [{notify: email, to: [a@corp.example, b@corp.example], subject: "{{ contact.city | default('Nowhere') }}",
             text: "{{ contact.id }} <b>"}]
  - {send: email, template: letter}
  - end: done
"""
    )
    contacts = [await here.contact(city="Kazan"), await here.contact(), await here.contact()]
    await here.enter("both", *contacts)
    for contact in contacts:
        assert await here.outcome("both", contact) == "done"
    rows = await here.run(
        "select contact_id, purpose, state, count(*) as n from message group by 1, 2, 3 order by 1, 2"
    )
    assert [tuple(row) for row in rows] == [
        row for contact in contacts for row in ((contact, "marketing", 50, 3), (contact, "staff", 50, 2))
    ]
    staff = [letter for letter in here.recorder.letters if letter.recipient.endswith("corp.example")]
    assert sorted({(letter.recipient, letter.subject) for letter in staff}) == [
        (who, what) for who in ("a@corp.example", "b@corp.example") for what in ("Kazan", "Nowhere")
    ]
    assert {letter.text for letter in staff} == {f"{contact} <b>" for contact in contacts}
    assert all(not letter.headers and not letter.html for letter in staff)
    visits = await here.run(
        "select enrollment_id, count(*) as n, count(distinct visit) as d from step_visit group by 1"
    )
    assert all(row.n == row.d for row in visits)


async def test_criteria_are_looked_at_again_when_something_happens_to_the_contact(here: Installation) -> None:
    await here.publish(
        "journey: w\nsteps:\n  - {wait: 30d, until: {when: {contact.city: Moscow}}, then: [{end: moved}]}\n"
    )
    anna = await here.contact()
    await here.enter("w", anna)
    await here.until("select 1 from enrollment where step is not null")
    await here.run('update contact set attributes = \'{"city": "Moscow"}\'')
    await here.happen("profile.seen", anna)
    assert await here.outcome("w", anna) == "moved"


LEAVING = """
journey: leaving
goal: {when: {event: order.paid}, outcome: bought}
exit:
  - {when: {not: {contact.city: Moscow}}, outcome: moved}
  - {event: account.closed}
steps:
  - {id: letter, send: email, template: letter}
  - {wait: 2s, until: {event: asked}}
  - {id: more, send: email, template: letter}
  - {id: months, wait: 30d}
"""


async def test_who_meets_criteria_that_end_the_journey_leaves_wherever_they_stand(here: Installation) -> None:
    await here.publish(LEAVING)
    await here.publish(
        "journey: parent\nsteps:\n  - {enroll: leaving, await: true, outcomes: {bought: happy}}\n"
        "  - end: other\n  - {id: happy, end: happy}\n"
    )
    kazan, anna, boris = await here.contact(city="Kazan"), await here.contact(city="Moscow"), await here.contact()
    await here.run('update contact set attributes = \'{"city": "Moscow"}\' where id = :id', id=boris)
    await here.enter("leaving", kazan, anna)
    await here.enter("parent", boris)
    assert await here.outcome("leaving", kazan) == "moved"
    await here.until("select 1 from message having count(*) = 2")
    # Nothing happened to her: it is found out before the next letter.
    await here.run('update contact set attributes = \'{"city": "Kazan"}\' where id = :id', id=anna)
    assert await here.outcome("leaving", anna) == "moved"
    await here.until("select 1 from enrollment where contact_id = :id and step = 3", id=boris)
    async with here.database.begin() as connection:
        _, waiting = await history.of_contact(connection, boris)
        (left,) = await history.of_contact(connection, kazan)
    assert waiting.journey == "parent"
    assert left.moments[-1].what == "finished by a goal or an exit rule: moved"
    await here.happen("order.paid", boris)
    assert await here.outcome("leaving", boris) == "bought"
    assert await here.outcome("parent", boris) == "happy"
    rows = await here.run("select contact_id, count(*) as n from message group by 1 order by 1")
    assert [tuple(row) for row in rows] == [(anna, 1), (boris, 2)]
    closed = await here.run("select distinct closed_by from enrollment where outcome in ('moved', 'bought')")
    assert [row.closed_by for row in closed] == [0]


OF_CART = "{event: {name: order.paid, where: {event.cart: {same: cart}}}}"


async def test_of_two_carts_of_a_contact_the_one_that_was_paid_goes_its_way(here: Installation) -> None:
    await here.publish(
        "journey: carts\nenter: {event: cart.left, key: event.cart, reenter: always}\nsteps:\n"
        "  - {wait: 30d, until: {event: asked}}\n"
        f"  - {{if: {OF_CART}, then: [{{end: paid}}]}}\n"
        f"  - {{id: late, wait: 30d, until: {{when: {OF_CART}}}}}\n"
        "  - {if: {event: {name: order.paid, count: 2}}, then: [{end: paid later}], else: [{end: too early}]}\n"
    )
    anna = await here.contact()
    await here.happen("cart.left", anna, cart=1)
    await here.happen("cart.left", anna, cart=2)
    await here.until("select 1 from enrollment where step is not null having count(*) = 2")
    assert len(await here.run("select distinct cohort_id from enrollment")) == 1
    await here.happen("order.paid", anna, cart=1)
    await here.happen("asked", anna)
    await here.until("select 1 from enrollment where key = '1' and outcome = 'paid'")
    await here.until("select 1 from enrollment where key = '2' and step = 3")
    await here.happen("order.paid", anna, cart=2)
    await here.until("select 1 from enrollment where key = '2' and outcome = 'paid later'")


async def test_conversions_are_counted_once_also_after_the_end(here: Installation) -> None:
    await here.publish(
        "journey: c\nenter: {event: cart.left, reenter: always}\n"
        "conversion: {event: order.paid, where: {event.cart: {same: cart}}, within: 1h, value: event.total}\n"
        "steps:\n  - end\n"
    )
    anna, boris = await here.contact(), await here.contact()
    await here.happen("order.paid", anna, cart=1, total=5)  # before it entered
    await here.happen("cart.left", anna, cart=1)
    await here.outcome("c", anna)
    await here.happen("cart.left", boris, cart=2)
    await here.outcome("c", boris)
    await here.run("update enrollment set entered_at = now() - interval '61 minutes' where contact_id = :id", id=boris)
    await here.happen("order.paid", anna, cart=7, total=1)
    await here.happen("order.paid", anna, cart=1, total=9.5)
    await here.happen("order.paid", boris, cart=2, total=3)
    await here.until("select 1 from conversion")
    await here.run("update log_cursor set position = 0 where reader = 'router'")
    while await here.router.round():
        pass
    rows = await here.run("select contact_id, value from conversion")
    assert [tuple(row) for row in rows] == [(anna, 9.5)]


async def test_messages_a_minute_are_spread(here: Installation) -> None:
    await here.publish(
        "journey: slow\nlimits: {per_minute: 120}\nsteps:\n  - {send: email, template: letter}\n  - end: done\n"
    )
    contacts = [await here.contact() for _ in range(6)]
    await here.enter("slow", *contacts)
    for contact in contacts:
        await here.outcome("slow", contact)
    times = [row.created_at for row in await here.run("select created_at from message order by 1")]
    assert len(times) == 6
    # Two a second: what is due within a second leaves at once, and no second sees more than that.
    assert times[-1] - times[0] >= timedelta(seconds=0.9)
    assert len(here.recorder.letters) == len({letter.message_id for letter in here.recorder.letters}) == 6


async def test_messages_a_minute_hold_also_after_a_pause(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_VOID_AFTER", timedelta(seconds=0.5))
    await here.publish(
        "journey: slow\nlimits: {per_minute: 120}\nsteps:\n  - {send: email, template: letter}\n  - end: done\n"
    )
    contacts = [await here.contact() for _ in range(12)]
    await here.enter("slow", *contacts)
    await here.until("select 1 from sending_turn having count(*) >= 8")
    await here.set_state("slow", "paused")
    await here.until("select 1 where (select max(leaves_at) from sending_turn) < now() - interval '1 second'")
    before = (await here.run("select count(*) as n from message"))[0].n
    assert before < 6
    await here.set_state("slow", "active")
    resumed = now()
    for contact in contacts:
        await here.outcome("slow", contact)
    times = [row.created_at for row in await here.run("select created_at from message order by 1")]
    assert len(times) == len(here.recorder.letters) == 12
    late = [at for at in times if at > resumed - timedelta(seconds=0.5)]
    assert len(late) >= 6
    # Two a second, and what is due within a second leaves at once: never more than four in any second.
    assert all(later - first > timedelta(seconds=0.9) for first, later in zip(late, late[4:], strict=False))


async def test_a_winner_takes_everybody_who_comes_later(here: Installation) -> None:
    await here.publish(
        "journey: ab\nsteps:\n  - id: arms\n    split:\n      a: {then: [{send: email, template: letter}]}\n"
        "      b: {then: [{send: email, template: letter}]}\n    holdout: 20\n"
        "    winner: {metric: clicked, sample: 10}\n  - end: done\n"
    )
    contacts = [await here.contact() for _ in range(60)]
    await here.enter("ab", *contacts)
    for contact in contacts:
        await here.outcome("ab", contact)
    assert await winners.Winners(here.database, here.versions).decide() == 0
    arms = {row.contact_id: row.via for row in await here.run(
        "select e.contact_id, v.via from step_visit v join enrollment e on e.id = v.enrollment_id "
            "where via ~ '^arm'")}  # fmt: skip
    assert set(arms.values()) == {"arm:a", "arm:b", "arm:holdout"}
    clicked = [contact for contact in contacts if arms[contact] == "arm:b"]
    await here.run("update message set clicked_at = now() where contact_id = any(:ids)", ids=clicked)
    assert await winners.Winners(here.database, here.versions).decide() == 1
    assert await winners.Winners(here.database, here.versions).decide() == 0
    (row,) = await here.run("select arm, reason, figures from split_decision")
    assert (row.arm, row.reason, row.figures["b"]) == ("b", "significance", [len(clicked), len(clicked)])
    late = [await here.contact() for _ in range(30)]
    await here.enter("ab", *late)
    for contact in late:
        await here.outcome("ab", contact)
    rows = await here.run(
        "select v.via, count(*) from step_visit v join enrollment e on e.id = v.enrollment_id "
        "where via ~ '^(arm|won)' and e.contact_id = any(:late) group by 1", late=late)  # fmt: skip
    assert {row.via for row in rows} == {"won:b", "arm:holdout"}


async def test_history_says_what_happened_in_words(here: Installation) -> None:
    await here.run("insert into attribute (name, type) values ('ends', 'date')")
    await here.publish(
        "journey: words\nsteps:\n  - parallel:\n      left: [{wait: {date: contact.ends}, missing: [{tag: endless}]}]\n"
        "      right: [{score: {points: 1}}]\n  - wait: 30d\n    until: [{when: {contact.tags: vip}}, {event: x}]\n"
    )
    anna = await here.contact()
    await here.enter("words", anna)
    await here.until("select 1 from enrollment where due_at is not null and visit >= 6")
    async with here.database.begin() as connection:
        (found,) = await history.of_contact(connection, anna)
    said = [moment.what for moment in found.moments]
    assert "entered; goes 2 ways at the same time" in said
    assert "began the branch left; waits until the contact's ends" in said
    assert "there is no such date; was tagged: endless" in said
    assert any(line.startswith("the branches have met; waits") for line in said), said
    assert ["until x or has the tag vip" in wait.what for wait in found.waits] == [True]


async def test_past_events_that_are_imported_begin_nothing(here: Installation, tmp_path: Path) -> None:
    await here.publish("journey: past\nenter: {event: cart.left}\nsteps:\n  - {wait: 1h}\n")
    file = tmp_path / "past.jsonl"
    line = '{"event": "cart.left", "contact": {"email": "a@x.com"}, "at": "%s"}\n'
    await asyncio.to_thread(file.write_text, line % (now() - timedelta(days=200)).isoformat() * 3)
    await import_events(here.database, file)
    contact = await here.contact()
    await here.happen("cart.left", contact)
    rows = await here.until("select contact_id from enrollment")
    assert [row.contact_id for row in rows] == [contact]
    await import_events(here.database, file, Options(live=True))
    await here.until("select contact_id from enrollment where contact_id <> :contact", contact=contact)
