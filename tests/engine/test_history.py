"""Histories in words: why it came so, what each wait waits for, why a message was not sent."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

import contacts
import journeys
from channels import reasons, templates
from channels.policy import Reason
from core.clock import now
from core.database import Database
from engine import history, telling
from engine.versions import Version
from journeys import store
from journeys.plan import Choose, Plan, Send, Wait
from tests.engine.steps_world import World

pytestmark = pytest.mark.usefixtures("email_provider")

JOURNEY = """
journey: told
enter: {event: asked}
goal: {event: order.paid, where: {event.cart_id: {same: cart_id}}, outcome: bought}
exit: {when: {contact.tags: gone}, outcome: gone}
quiet_hours: 22:00-08:00
steps:
  - {id: letter, send: email, template: letter}
  - wait: 4h
    id: pause
    until:
      - {event: answered, where: {event.score: {gte: 3}}, then: thanks}
  - id: who
    choose:
      - {when: {contact.tags: vip}, then: [{id: vip, send: email, template: letter, purpose: news}]}
      - {when: {contact.age: {gte: 18}}, then: [{update: {tags: {add: grown}}}]}
    else: [{end: child}]
  - id: halves
    split: {a: 3, b: {weight: 1, then: [{end: b}]}}
  - wait: until 10:00 on weekdays, in the contact's time zone
    id: morning
  - end: silent
  - {id: thanks, end: answered}
"""
LETTER = "---\ntemplate: letter\nsubject: Hi\n---\n<p>Hello</p>\n"


@pytest.fixture
def plan() -> Plan:
    return journeys.compile(journeys.load(JOURNEY, "told.yaml"))


def number(plan: Plan, step: str) -> int:
    return next(place for place, one in enumerate(plan.steps) if one.id == step)


def came(plan: Plan, *visits: tuple[str, str]) -> str:
    """How the last of these visits came about."""
    return telling.came(plan, [(number(plan, step), via) for step, via in visits], len(visits) - 1)


def test_it_says_which_branch_held_and_what_its_criteria_say(plan: Plan) -> None:
    assert came(plan, ("who", "timeout"), ("vip", "branch:1")) == "branch 1 of who held: has the tag vip"
    choice = plan.steps[number(plan, "who")]
    assert isinstance(choice, Choose)
    grown = plan.steps[choice.branches[1][1]].id
    assert came(plan, ("who", "timeout"), (grown, "branch:2")) == "branch 2 of who held: age is at least 18"
    assert came(plan, ("who", "timeout"), ("end-1", "otherwise")) == "none held: has the tag vip; age is at least 18"
    assert (
        came(plan, ("halves", "next"), ("morning", "arm:a")) == "was given arm a of halves (75% of contacts, by chance)"
    )


def test_it_says_what_ended_a_wait_and_what_did_not_come(plan: Plan) -> None:
    assert came(plan, ("pause", "next"), ("thanks", "event")) == "answered where score is at least 3 came"
    assert came(plan, ("pause", "next"), ("who", "timeout")) == (
        "4 hours were over without answered where score is at least 3"
    )


def test_a_way_that_nobody_knows_is_said_as_it_is(plan: Plan) -> None:
    assert came(plan, ("letter", "sideways")) == "sideways"
    assert came(plan, ("vip", "branch:1")) == "branch 1 held"  # its choice is not among the visits


def test_waits_say_how_long_and_for_what(plan: Plan) -> None:
    pause, morning = plan.steps[number(plan, "pause")], plan.steps[number(plan, "morning")]
    assert isinstance(pause, Wait)
    assert isinstance(morning, Wait)
    assert telling.doing(plan, pause, None) == "waits for 4 hours, or until answered where score is at least 3"
    assert telling.doing(plan, morning, None) == "waits until 10:00 on weekdays, in the contact's time zone"
    assert telling.doing(plan, Wait(id="w", next=0, until=pause.until), None) == (
        "waits for answered where score is at least 3, as long as it takes"
    )


def test_held_messages_say_which_rules_may_hold_them(plan: Plan) -> None:
    letter = plan.steps[0]
    assert isinstance(letter, Send)
    assert telling.held(plan, letter) == "email letter is held back: quiet hours from 22:00 to 08:00"
    assert telling.held(plan, letter.model_copy(update={"priority": "alert"})) == "email letter is held back"


def skipped(plan: Plan, reason: str) -> str:
    """What is told of a message that was skipped for a reason."""
    row = SimpleNamespace(state=15, reason=reason, opened_at=None, clicked_at=None)
    return telling.doing(plan, plan.steps[number(plan, "vip")], row)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("no_consent", "the contact has not agreed to news by email"),
        ("suppressed: bounced", "the address must not be used: bounced"),
        ("over_budget: 5 of 5", "the journey has spent what it may spend: 5 of 5"),
        ("550 5.1.1 no such user", "550 5.1.1 no such user"),
    ],
)
def test_reasons_in_words(plan: Plan, stored: str, said: str) -> None:
    assert skipped(plan, stored) == f"email letter skipped, because {said}"


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_told_in_words(plan: Plan, reason: Reason) -> None:
    assert reasons.clause(reason) is not None
    assert f"because {reason}" not in skipped(plan, reason)
    assert skipped(plan, f"{reason}: more").endswith(": more")


def test_who_came_by_a_decided_split_was_not_given_its_arm_by_chance(plan: Plan) -> None:
    assert came(plan, ("halves", "next"), ("morning", "won:a")) == "was given arm a of halves, which had won"


async def test_a_history_from_the_tables(database: Database) -> None:
    at = now()

    async def run(statement: str, **values: Any) -> Any:
        async with database.begin() as connection:
            return await connection.execute(text(statement), values)

    async with database.begin() as connection:
        await contacts.attributes.register(connection, {"age": "number"})
        await templates.publish(connection, LETTER, "letter.html")
        published = await store.publish(connection, JOURNEY, "told.yaml")
        plan = await store.plan_of(connection, published.version_id)
    due = at + timedelta(hours=4)
    await run(
        "insert into enrollment "
        "(id, contact_id, cohort_id, journey_id, version_id, exclusive, state, step, visit, due_at) "
        "overriding system value select 7, 1, 1, journey_id, id, false, 'active', :step, 2, :due "
        "from journey_version where id = :version",
        step=number(plan, "pause"), due=due, version=published.version_id,
    )  # fmt: skip
    for visit, (step, via) in enumerate((("letter", "entry"), ("pause", "next")), start=1):
        await run(
            "insert into step_visit (arrived_at, enrollment_id, version_id, visit, step, via) "
            "values (:at, 7, :version, :visit, :step, :via)",
            at=at + timedelta(seconds=visit), version=published.version_id, visit=visit, step=number(plan, step),
            via=via,
        )  # fmt: skip
    await run(
        "insert into message "
        "(id, created_at, contact_id, enrollment_id, version_id, visit, step, state, channel, purpose, reason) "
        "values (gen_random_uuid(), :at, 1, 7, :version, 1, 0, 15, 'email', 'marketing', 'no_consent')",
        at=at, version=published.version_id,
    )  # fmt: skip
    async with database.begin() as connection:
        told = await history.of_enrollment(connection, 7)
    assert [(one.step, one.what) for one in told.moments] == [
        (
            "letter",
            "entered; email letter skipped, because the contact has not agreed to marketing by email",
        ),
        ("pause", "went on; waits for 4 hours, or until answered where score is at least 3"),
    ]
    assert told.waits == [
        history.Waiting("pause", due, "waits for 4 hours, or until answered where score is at least 3")
    ]
    assert told.ends_upon == (
        "order.paid where cart_id is the cart_id of the entry (bought) or has the tag gone (gone)"
    )


WAITING = """
journey: waiting
steps:
  - {id: letter, send: email, template: letter}
  - {id: ask, call: "https://crm.example.com/score"}
"""


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("active", None, "email letter is ready to leave: waits for its turn with hole"),
        ("active", "450 later", "email letter is ready to leave: waits for its turn with hole (450 later)"),
        ("paused", "450 later", "email letter is ready to leave: the journey is paused"),
    ],
)
async def test_a_message_that_waits_for_its_provider_is_a_wait(
    world: World, state: str, reason: str | None, said: str
) -> None:
    _, enrollment = await standing(world, "letter")
    await world.run(
        "insert into message (id, created_at, contact_id, enrollment_id, version_id, visit, step, state, channel, "
        "purpose, provider_id, reason) select gen_random_uuid(), now(), contact_id, id, version_id, 1, 0, 10, 'email', "
        "'marketing', (select id from provider), :reason from enrollment",
        reason=reason,
    )
    await world.run("update journey set state = :state", state=state)
    async with world.database.begin() as connection:
        told = await history.of_enrollment(connection, enrollment)
    assert told.waits == [history.Waiting("letter", None, said)]


async def test_a_call_that_will_be_tried_again_is_a_wait(world: World) -> None:
    _, enrollment = await standing(world, "ask")
    at = now()
    await world.run("update enrollment set due_at = :at", at=at)
    async with world.database.begin() as connection:
        told = await history.of_enrollment(connection, enrollment)
    assert told.waits == [history.Waiting("ask", at, "call failed and will be tried again")]


async def standing(world: World, step: str) -> tuple[Version, int]:
    """A contact who has come to a step and no further."""
    async with world.database.begin() as connection:
        await templates.publish(connection, LETTER, "letter.html")
    version = await world.publish(WAITING)
    (enrollment,) = await world.enroll(version, await world.contact())
    at = number(version.plan, step)
    await world.run("update enrollment set state = 'active', step = :at, visit = 1", at=at)
    await world.run(
        "insert into step_visit (enrollment_id, visit, step, arrived_at, via, version_id) "
        "values (:id, 1, :at, now(), 'entry', :version)",
        id=enrollment, at=at, version=version.id,
    )  # fmt: skip
    return version, enrollment
