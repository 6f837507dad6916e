"""Simulation as a pure function: the same seed the same result, whatever the order and the grouping."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

import journeys
from core.errors import InvalidInput
from core.ids import seed
from journeys.calendar import next_local
from journeys.expecting import Calendar
from journeys.plan import (
    Act,
    Branch,
    Choose,
    DateOf,
    End,
    Entry,
    EventFilter,
    LocalTime,
    Notify,
    Parallel,
    Plan,
    Send,
    Subscription,
    Until,
    Wait,
    Watch,
    Window,
)
from journeys.plan import Join as JoinStep
from journeys.responses import chance, parse
from journeys.scenario import Decision, Note, Person, Scenario
from journeys.simulation import simulate
from journeys.tally import DAY, Charge, Result, priced
from segments.supposing import Supposed
from tests.journeys.test_machine import REFERENCE

START = datetime(2026, 11, 2, 9, tzinfo=UTC).timestamp()  # a Monday
ANSWERED = "application.status_changed"
SUBMITTED = "application.submitted"


class Simple:
    """A world in which everybody may be written to, and even contacts meet every criterion."""

    def __init__(self, decisions: Sequence[Decision] = ()) -> None:
        self.decisions = list(decisions)
        self.asked: list[tuple[int, float]] = []
        self.charges: dict[int, Charge] = {}

    def may_send(self, person: Person, _number: int, _step: Send, at: float, _supposed: Supposed) -> Decision:
        self.asked.append((person.id, at))
        return self.decisions.pop(0) if self.decisions else Decision("send")

    def charge(self, person: Person, _step: Send) -> Charge:
        return self.charges.get(person.id, Charge())

    def holds(self, _criterion: int, person: Person, _at: float, _supposed: Supposed) -> bool:
        return person.id % 2 == 0

    def words(self, criterion: int) -> str:
        return f"criterion {criterion}"

    def value(self, person: Person, attribute: str) -> Any:
        return {"birthday": "1990-11-05", "score": person.id}.get(attribute)


def people(count: int) -> list[Person]:
    zones = ("Europe/Moscow", "Asia/Omsk", None)
    return [Person(number, seed(number), zones[number % 3]) for number in range(1, count + 1)]


def scenario(responses: str = "", plan: Plan = REFERENCE, **more: Any) -> Scenario:
    values: dict[str, Any] = {"start": START, "days": 10} | more
    return Scenario(plan=plan, responses=parse(responses), **values)


def run(given_scenario: Scenario, who: Sequence[Person] | None = None, **more: Any) -> Result:
    return simulate(given_scenario, who if who is not None else people(60), more.pop("world", Simple()), **more)


def outcomes(result: Result) -> dict[str, int]:
    return {one.outcome: one.contacts for one in result.outcomes}


def test_without_answers_everybody_goes_to_the_end() -> None:
    result = run(scenario())
    assert outcomes(result) == {"silent": 60}
    assert result.sent() == {"letter": 60, "second": 30}
    assert {(one.step, one.via): one.visits for one in result.ways} == {
        ("letter", "entry"): 60,
        ("wait", "next"): 60,
        ("if", "timeout"): 60,
        ("second", "branch:1"): 30,
        ("end", "next"): 30,
        ("end", "otherwise"): 30,
    }
    assert (result.entered, result.finished, result.running, result.converted) == (60, 60, 0, 0)


def test_probability_one_answers_always_and_nought_never() -> None:
    result = run(scenario(f"{ANSWERED}=1@=100s"))
    assert outcomes(result) == {"returned": 60}
    assert result.sent() == {"letter": 60}
    assert result.seconds_median == 100.0
    assert run(scenario(f"{ANSWERED}=0@=100s")).sent() == run(scenario()).sent()


def test_an_answer_after_the_wait_comes_too_late() -> None:
    assert outcomes(run(scenario(f"{ANSWERED}=1@=500s"))) == {"silent": 60}


def test_shares_come_out_about_as_asked_and_goals_convert() -> None:
    result = run(scenario(f"{SUBMITTED}=25%@=10s"), people(4000))
    assert 0.22 < result.converted / 4000 < 0.28
    assert outcomes(result)["submitted"] == result.converted
    [row] = result.responses
    assert (row.asked, row.answered, row.converted, row.converted_silent) == (
        4000, result.converted, result.converted, 0,
    )  # fmt: skip


def test_the_seed_decides() -> None:
    asked = f"{ANSWERED}=0.5@1m-6m,opened=0.5,clicked=0.2"
    first, again = run(scenario(asked, seed=1)), run(scenario(asked, seed=1))
    assert first == again
    other = run(scenario(asked, seed=2))
    assert other.responses != first.responses


@hypothesis(deadline=None, max_examples=40)
@given(
    group=st.integers(1, 70),
    order=st.randoms(use_true_random=False),
    within=st.sampled_from([0.0, 5 * DAY]),
    share=st.floats(0, 1),
)
def test_neither_grouping_nor_order_changes_the_result(group: int, order: Any, within: float, share: float) -> None:
    asked = f"{ANSWERED}={share:.3f}@2m,clicked={share:.3f}@1m-9m,{SUBMITTED}=0.1@1h"
    given_scenario = scenario(asked, enter_within=within, days=4)
    mixed = people(60)
    order.shuffle(mixed)
    assert run(given_scenario, mixed, group=group) == run(given_scenario, group=60)


def test_who_clicks_has_opened() -> None:
    clicks = Plan(
        journey="clicks",
        title="Clicks",
        entry=Entry(),
        steps=(
            Send(id="letter", channel="email", template="one", next=1),
            Wait(id="wait", seconds=DAY, until=(Until(subscription=0, next=2),), next=3),
            End(id="clicked", outcome="clicked"),
            End(id="silent", outcome="silent"),
        ),
        subscriptions=(
            Subscription(role="wait", filter=EventFilter(event="message.clicked", where={"step": "letter"})),
        ),
    )
    result = run(scenario("opened=0.5@=1h,clicked=0.2@=1m", clicks), people(500))
    rows = {one.event: one for one in result.responses}
    assert 0 < outcomes(result)["clicked"] < rows["message.opened"].answered < 350
    assert result.seconds_median == DAY
    # Nobody clicks before the letter is open, an hour after it came.
    early = run(scenario("opened=1@=1h,clicked=1@=1m", clicks), people(5))
    assert early.seconds_p90 == 3600.0
    elsewhere = clicks.model_copy(
        update={
            "subscriptions": (
                Subscription(role="wait", filter=EventFilter(event="message.clicked", where={"step": "other"})),
            )
        }
    )
    assert outcomes(run(scenario("clicked=1@=1m", elsewhere))) == {"silent": 60}


def test_local_times_are_each_contacts_own_and_days_are_counted() -> None:
    plan = Plan(
        journey="morning",
        title="Morning",
        entry=Entry(),
        steps=(
            Wait(id="wait", local=LocalTime(time="10:00", zone="contact"), next=1),
            Send(id="letter", channel="email", template="one", next=2),
            End(id="end", outcome="end"),
        ),
    )
    # It is 9:00 UTC: 12:00 in Moscow, 15:00 in Omsk. Ten o'clock in UTC is today, elsewhere tomorrow.
    world = Simple()
    result = simulate(scenario(plan=plan), people(3), world)
    assert dict(world.asked) == {
        1: datetime(2026, 11, 3, 4, tzinfo=UTC).timestamp(),
        2: datetime(2026, 11, 2, 10, tzinfo=UTC).timestamp(),
        3: datetime(2026, 11, 3, 7, tzinfo=UTC).timestamp(),
    }
    assert {(one.day, one.sent) for one in result.messages} == {(1, 3)}


def test_who_stands_where_at_the_end_of_each_day() -> None:
    plan = REFERENCE.model_copy(
        update={
            "steps": (
                *REFERENCE.steps[:1],
                Wait(id="wait", seconds=2.5 * DAY, until=(Until(subscription=0, next=5),), next=2),
                *REFERENCE.steps[2:],
            )
        }
    )
    result = run(scenario(plan=plan, days=5))
    assert [(one.day, one.step, one.contacts) for one in result.standing] == [(1, "wait", 60), (2, "wait", 60)]
    assert run(scenario(plan=plan, days=1)).running == 60


def test_skipped_and_delayed_messages_are_counted_with_their_reasons() -> None:
    world = Simple([Decision("delay", "quiet hours", START + 3600), Decision("skip", "no_consent")])
    result = simulate(scenario(), people(1), world)
    assert [(one.action, one.reason, one.messages) for one in result.reasons] == [
        ("delayed", "quiet hours", 1),
        ("skipped", "no_consent", 1),
    ]
    assert [moment for _, moment in world.asked] == [START, START + 3600]
    assert result.sent() == {}
    assert outcomes(result) == {"silent": 1}


def test_prices_make_costs() -> None:
    result = priced(run(scenario()), {"email": 0.0004})
    assert (result.cost, result.costs[0].messages) == (0.036, 90)
    assert priced(run(scenario()), {}).costs[0].price is None


def _charged(charges: dict[int, Charge]) -> Result:
    """Of five contacts: the odd ones get one message, the others two."""
    world = Simple()
    world.charges = charges
    return simulate(scenario(), people(5), world)


def test_without_a_price_it_is_what_each_contact_costs() -> None:
    dear, cheap = Charge("b", Decimal("0.3"), "EUR"), Charge("a", Decimal("0.1"), "EUR")
    result = _charged({1: cheap, 2: dear, 3: Charge("a", Decimal("0.2"), "EUR"), 4: Charge("a", None, "EUR")})
    assert [(row.provider, row.messages, row.cost, row.unpriced) for row in result.costs] == [
        (None, 1, 0.0, 1),
        ("a", 4, 0.3, 2),
        ("b", 2, 0.6, 0),
    ]
    assert result.cost == 0.9
    given = priced(result, {"email": 1.0})
    assert [(row.provider, row.messages, row.cost) for row in given.costs] == [(None, 7, 7.0)]
    assert given.cost == 7.0


def test_different_currencies_are_not_added() -> None:
    result = _charged({1: Charge("a", Decimal(1), "EUR"), 2: Charge("b", Decimal(1), "RUB")})
    assert (result.cost, [row.cost for row in result.costs]) == (None, [0.0, 1.0, 2.0])


def test_updates_are_seen_by_what_is_asked_later() -> None:
    class Watching(Simple):
        def holds(self, _criterion: int, _person: Person, _at: float, supposed: Supposed) -> bool:
            return supposed.tags == {"seen": True} and supposed.attributes == {"score": 3}

    plan = Plan(
        journey="tags",
        title="Tags",
        entry=Entry(),
        steps=(
            Act(id="update", kind="update", data={"attributes": {"score": 3}, "add_tags": ["seen"]}, next=1),
            Choose(id="if", branches=((0, 2),), otherwise=3),
            End(id="yes", outcome="yes"),
            End(id="no", outcome="no"),
        ),
        criteria=({"contact.tags": "seen"},),
    )
    assert outcomes(simulate(scenario(plan=plan), people(2), Watching())) == {"yes": 2}


def test_the_story_of_one_contact_gives_every_reason() -> None:
    told: list[Note] = []
    run(scenario(f"{ANSWERED}=1@=500s,opened=0"), people(2)[1:], tell=told.append)
    words = [f"{note.step}: {note.what}" for note in told]
    assert "letter: email first is sent" in words
    assert "wait: waits until 2026-11-02 09:06:40 UTC, or for application.status_changed" in words
    late = "8 minutes 20 seconds"
    assert f"wait: {ANSWERED} will come after {late} (100% answer so, after {late})" in words
    assert "if: criterion 0: holds" in words
    assert words[-1] == ": the journey ends: silent"
    assert [note.at for note in told] == sorted(note.at for note in told)
    assert next(note for note in told if note.template).template == "first"


def test_a_model_of_answers_is_read_strictly() -> None:
    found = parse("opened=0.3, clicked=5%@1h-6h,order.paid=0.2@3h,x=1@=0s")
    assert {event: one.probability for event, one in found.items()} == {
        "message.opened": 0.3,
        "message.clicked": 0.05,
        "order.paid": 0.2,
        "x": 1,
    }
    assert [found["message.clicked"].delay(point) for point in (0, 0.5)] == [3600, 3.5 * 3600]
    assert found["order.paid"].delay(0.5) == 3 * 3600
    assert found["x"].delay(0.9) == 0
    for wrong in ("opened", "opened=2", "opened=0.1@soon", "opened=0.1@6h-1h", "=1", "opened=120%", "opened=."):
        with pytest.raises(InvalidInput, match="is not a response"):
            parse(wrong)
    with pytest.raises(InvalidInput, match="stands twice"):
        parse("opened=0.1,message.opened=0.2")


def test_chances_spread_evenly_and_differ_by_everything_they_are_made_of() -> None:
    points = [chance(0, contact, 0, 1, "a")[0] for contact in range(2000)]
    assert all(0 <= point < 1 for point in points)
    assert 0.47 < sum(points) / len(points) < 0.53
    one = (0, 1, 2, 3, "a")
    others = [(9, 1, 2, 3, "a"), (0, 9, 2, 3, "a"), (0, 1, 9, 3, "a"), (0, 1, 2, 9, "a"), (0, 1, 2, 3, "b")]
    assert len({chance(*values) for values in [one, *others]}) == 6


def test_every_kind_of_wait_and_step_has_its_place() -> None:
    plan = Plan(
        journey="many",
        title="Many",
        entry=Entry(),
        steps=(
            Parallel(id="both", branches=(Branch(name="a", next=1), Branch(name="b", next=2))),
            Wait(id="birthday", date=DateOf(attribute="birthday", zone="UTC", yearly=True, missing=8), next=3),
            Wait(id="open", window=Window(start="18:00", end="20:00", zone="UTC"), next=3),
            JoinStep(id="join", next=4),
            Act(id="score", kind="score", data={"amounts": {"score": 2.0}}, next=5),
            Wait(id="until", watches=(Watch(criteria=0, next=6),), watch_subscription=0, next=6),
            Notify(id="tell", to="a@example.com", subject="s", text="t", next=7),
            Act(id="delete", kind="delete", outcome="gone"),
            End(id="lost", outcome="lost"),
        ),
        criteria=({"contact.score": 3},),
        subscriptions=(Subscription(role="watch", filter=EventFilter(event="*")),),
    )

    class Scoring(Simple):
        def holds(self, _criterion: int, _person: Person, _at: float, supposed: Supposed) -> bool:
            return bool(supposed.attributes["score"] == 3.0)

    told: list[Note] = []
    result = simulate(scenario(plan=plan), people(2), Scoring(), tell=told.append)
    assert outcomes(result) == {"gone": 1}  # the other one's score is four
    assert result.seconds_median == 3 * DAY + 3600  # the birthday, at ten
    at_days_end = [(one.day, one.step, one.contacts) for one in result.standing]
    assert at_days_end[:4] == [(1, "birthday", 2), (2, "birthday", 2), (3, "birthday", 2), (4, "until", 1)]
    assert at_days_end[-1] == (10, "until", 1)
    assert "open: waits until 2026-11-02 18:00:00 UTC" in [f"{note.step}: {note.what}" for note in told]


SPENDING = """
journey: spending
steps:
  - {id: first, send: email, template: a}
  - wait: 1d
    until: {event: message.opened, where: {event.step: first}, then: [{id: second, send: email, template: b}, end]}
  - {id: urgent, send: email, template: c, priority: alert}
  - {id: third, send: email, template: d}
"""


class Costly(Simple):
    """A letter costs as much as the contact's number says."""

    def charge(self, person: Person, _step: Send) -> Charge:
        return Charge("main", Decimal(person.id) / 4, "EUR")


def sent_in_order(budget: float | None, group: int = 8) -> tuple[Result, list[tuple[float, str, Decimal]]]:
    """The result, and every letter that was sent with what it cost, in the order of time."""
    plan = journeys.compile(journeys.load(SPENDING))
    given = scenario("opened=0.5@=2h", plan, enter_within=4 * DAY, budget=None if budget is None else Decimal(budget))
    letters: list[tuple[float, str, Decimal]] = []
    for person in people(40):  # whose contact it is follows from whom we are told of

        def tell(note: Note, number: int = person.id) -> None:
            if note.template is not None:
                letters.append((note.at, note.step, Decimal(number) / 4))

        if budget is None:
            simulate(given, [person], Costly(), tell=tell)
    return simulate(given, people(40), Costly(), group=group), sorted(letters)


def test_a_budget_pays_in_the_order_of_time_and_never_for_alerts() -> None:
    free, letters = sent_in_order(None)
    assert (free.budget, free.spent_at) == (None, None)
    paid, left, end = 0, Decimal(60), 0.0
    for at, step, cost in letters:
        if step == "urgent":
            continue
        left -= cost
        if left < 0:
            end = at
            break
        paid += 1
    assert 5 < paid < 40
    limited, _ = sent_in_order(60)
    assert limited.spent_at is not None
    assert limited.budget == 60
    assert limited.spent_at.timestamp() == pytest.approx(end, abs=0.001)
    charged = {step: number for step, number in limited.sent().items() if step != "urgent"}
    assert sum(charged.values()) == paid
    # Who is not written to opens nothing, and so comes to the alert instead of the second letter.
    assert limited.sent()["urgent"] > free.sent()["urgent"]
    assert {(one.action, one.reason) for one in limited.reasons} == {("skipped", "over_budget")}
    assert {"first", "third"} <= {one.step for one in limited.reasons} <= {"first", "second", "third"}
    assert sent_in_order(60, group=1)[0] == sent_in_order(60, group=40)[0] == limited


def test_a_budget_that_lasts_changes_nothing_but_is_told() -> None:
    free, _ = sent_in_order(None)
    assert sent_in_order(1000)[0] == replace(free, budget=1000)
    spent, _ = sent_in_order(-1)
    assert set(spent.sent()) == {"urgent"}
    assert spent.spent_at is not None and spent.spent_at > datetime.fromtimestamp(START, UTC)


def test_the_story_of_a_contact_says_what_the_budget_did_not_pay_for() -> None:
    told: list[Note] = []
    plan = journeys.compile(journeys.load(SPENDING))
    simulate(scenario(plan=plan, budget=Decimal(1)), people(4)[3:], Costly(), tell=told.append)
    assert [note.what for note in told if "email" in note.what] == [
        "email a is sent",
        "email c is sent",
        "email d is not sent: over_budget",
    ]


def test_who_meets_criteria_that_end_the_journey_leaves() -> None:
    plan = journeys.compile(
        journeys.load(
            "journey: left\ngoal: {when: {event: order.paid}, outcome: bought}\n"
            "exit: {when: {contact.tags: staff}, outcome: staff}\nsteps:\n"
            "  - {id: first, send: email, template: a}\n  - wait: 4d\n  - {id: second, send: email, template: b}\n"
        )
    )
    bought, staff = (one.criteria for one in plan.endings.rules) if plan.endings else (-1, -1)

    class Leaving(Simple):
        def holds(self, criterion: int, person: Person, at: float, supposed: Supposed) -> bool:
            if criterion == bought:
                return any(name == "order.paid" for name, _ in supposed.events)
            assert criterion == staff
            return person.id == 3 or (person.id == 4 and at >= START + 2 * DAY)

    told: list[Note] = []
    result = simulate(scenario("order.paid=0.5@=1d", plan), people(60), Leaving(), tell=told.append)
    ended = outcomes(result)
    assert (ended["staff"], ended["bought"] + ended["completed"]) == (2, 58)
    assert 15 < ended["bought"] == result.converted < 45
    assert result.sent() == {"first": 59, "second": ended["completed"]}
    assert [note.what for note in told if "criterion" in note.what and note.at == START] == [
        f"criterion {staff}: holds"
    ]
    assert run(scenario("order.paid=0.5@=1d", plan), world=Leaving()) == simulate(
        scenario("order.paid=0.5@=1d", plan), people(60), Leaving(), group=1
    )


def test_a_loop_that_goes_round_too_often_is_refused() -> None:
    plan = Plan(
        journey="loop",
        title="Loop",
        entry=Entry(),
        steps=(Wait(id="wait", seconds=1, next=0),),
    )
    with pytest.raises(InvalidInput, match="more than 50000 steps"):
        run(scenario(plan=plan), people(1))


@hypothesis(deadline=None)
@given(moments=st.permutations([600 * number for number in range(3 * 24 * 6)]))
def test_the_calendar_of_the_simulation_is_the_engines(moments: list[int]) -> None:
    local, quick = LocalTime(time="02:30", weekdays=(0, 5, 6), zone="contact"), Calendar()
    for moment in moments:
        at = datetime(2026, 10, 24, tzinfo=UTC).timestamp() + moment  # the clocks go back on the 25th
        expected = next_local(datetime.fromtimestamp(at, UTC), local, "Europe/Berlin").timestamp()
        assert quick.next(local, "Europe/Berlin", at) == expected


def test_the_answer_to_one_message_is_not_that_to_another() -> None:
    clicked = Subscription(role="wait", filter=EventFilter(event="message.clicked", where={"step": "second"}))
    plan = Plan(
        journey="two",
        title="Two",
        entry=Entry(),
        steps=(
            Send(id="first", channel="email", template="one", next=1),
            Send(id="second", channel="email", template="two", next=2),
            Wait(id="wait", seconds=100, until=(Until(subscription=0, next=3),), next=4),
            End(id="clicked", outcome="clicked"),
            End(id="silent", outcome="silent"),
        ),
        subscriptions=(clicked,),
    )
    for skipped, outcome in ((0, "clicked"), (1, "silent")):
        decisions = [Decision("send"), Decision("send")]
        decisions[skipped] = Decision("skip", "no_consent")
        result = simulate(scenario("clicked=1@=1s", plan), people(1), Simple(decisions))
        assert outcomes(result) == {outcome: 1}
