"""The machine: table tests for each step, and the first invariant as a property."""

import json
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from journeys import machine
from journeys.machine import advance, choose_arm
from journeys.plan import (
    Arm,
    Choose,
    End,
    Entry,
    EventFilter,
    LocalTime,
    Plan,
    Send,
    Split,
    Subscription,
    Until,
    Wait,
    Watch,
)
from journeys.tokens import Batch, Due, Finish, Heard, Held, Input, Join, Stop, Tokens, Turn, Went, dump, restore

REFERENCE = Plan(
    journey="reference",
    title="Reference",
    entry=Entry(),
    steps=(
        Send(id="letter", channel="email", template="first", next=1),
        Wait(id="wait", seconds=400, until=(Until(subscription=0, next=5),), next=2),
        Choose(id="if", branches=((0, 3),), otherwise=4),
        Send(id="second", channel="email", template="second", next=4),
        End(id="end", outcome="silent"),
        End(id="done", outcome="returned"),
    ),
    criteria=({"contact.tags": "vip"},),
    subscriptions=(
        Subscription(role="wait", filter=EventFilter(event="application.status_changed")),
        Subscription(role="goal", filter=EventFilter(event="application.submitted"), outcome="submitted"),
    ),
)


def turn_of(plan: Plan, *rounds: tuple[float, Sequence[Input]], paused: bool = False) -> Turn:
    """The last of several turns, each with its time and inputs."""
    tokens: Tokens = {}
    turn = Turn(tokens)
    for now, inputs in rounds:
        turn = advance(plan, tokens, now, inputs, paused=paused)
        tokens = turn.tokens
    return turn


def test_newcomers_at_one_step_make_one_batch() -> None:
    turn = turn_of(REFERENCE, (0.0, [Join(7, 1), Join(8, 2)]))
    assert turn.batches == [Batch(0, ((7, 1), (8, 1)))]
    assert [(v.enrollment, v.step, v.via) for v in turn.visits] == [(7, 0, "entry"), (8, 0, "entry")]


def test_wait_ends_on_a_grid_so_that_stragglers_leave_together() -> None:
    for arrived in (1000.2, 1001.9, 1003.4):
        turn = turn_of(REFERENCE, (1000.0, [Join(1, 1)]), (arrived, [Went(1, 1, 1)]))
        assert turn.next_due() == 1404.0  # a grid of 4 s, a hundredth of 400 s


def test_precise_wait_keeps_its_time() -> None:
    assert machine.due_time(Wait(id="w", seconds=10, precise=True, next=0), 5.25) == 15.25


def test_grid_is_at_least_a_second_and_at_most_a_minute() -> None:
    assert machine.due_time(Wait(id="w", seconds=2, next=0), 0.5) == 3.0
    assert machine.due_time(Wait(id="w", seconds=864_000, next=0), 61.0) == 864_120.0


def test_event_ends_the_wait_and_time_out_goes_on() -> None:
    begun: list[tuple[float, Sequence[Input]]] = [
        (0.0, [Join(1, 1), Join(2, 2)]),
        (1.0, [Went(1, 1, 1), Went(2, 1, 1)]),
    ]
    turn = turn_of(REFERENCE, *begun, (2.0, [Heard(1, 0)]))
    assert turn.finished == [Finish(1, 3, 2.0, "returned")]
    turn = turn_of(REFERENCE, *begun, (2.0, [Heard(1, 0)]), (500.0, []))
    assert turn.batches == [Batch(2, ((2, 3),))]
    assert turn.visits[-1].via == "timeout"


def test_event_and_time_in_one_turn_the_event_counts() -> None:
    turn = turn_of(REFERENCE, (0.0, [Join(1, 1)]), (1.0, [Went(1, 1, 1)]), (900.0, [Heard(1, 0)]))
    assert [one.outcome for one in turn.finished] == ["returned"]


def test_answer_quicker_than_the_letter_is_not_lost() -> None:
    turn = turn_of(REFERENCE, (0.0, [Join(1, 1)]), (0.5, [Heard(1, 0)]), (1.0, [Went(1, 1, 1)]))
    assert [one.outcome for one in turn.finished] == ["returned"]


def test_event_of_an_earlier_wait_does_not_end_a_later_one() -> None:
    plan = Plan(
        journey="j",
        title="j",
        entry=Entry(),
        steps=(
            Wait(id="a", seconds=10, until=(Until(subscription=0, next=1),), next=1),
            Wait(id="b", seconds=10, until=(Until(subscription=0, next=2),), next=3),
            End(id="came", outcome="came"),
            End(id="not", outcome="not"),
        ),
        subscriptions=(Subscription(role="wait", filter=EventFilter(event="x")),),
    )
    turn = turn_of(plan, (0.0, [Join(1, 1)]), (1.0, [Heard(1, 0)]))
    assert turn.tokens[1, 0].step == 1
    assert turn_of(plan, (0.0, [Join(1, 1)]), (1.0, [Heard(1, 0)]), (30.0, [])).finished[0].outcome == "not"


def test_one_event_does_not_end_two_waits_one_behind_the_other() -> None:
    ways = [(Until(subscription=number, next=number + 1),) for number in (0, 1)]
    plan = Plan(
        journey="j",
        title="j",
        entry=Entry(),
        steps=(
            Wait(id="a", seconds=10, until=ways[0], next=1),
            Wait(id="b", seconds=10, until=ways[1], next=2),
            End(id="end", outcome="end"),
        ),
        subscriptions=(Subscription(role="wait", filter=EventFilter(event="x")),) * 2,
    )
    once = turn_of(plan, (0.0, [Join(1, 1)]), (1.0, [Heard(1, 0, 7), Heard(1, 1, 7)]))
    assert once.tokens[1, 0].step == 1
    twice = turn_of(plan, (0.0, [Join(1, 1)]), (1.0, [Heard(1, 0, 7), Heard(1, 1, 7), Heard(1, 0, 8), Heard(1, 1, 8)]))
    assert twice.finished[0].outcome == "end"


def test_goal_ends_the_enrollment_wherever_it_stands_and_late_results_are_ignored() -> None:
    turn = turn_of(REFERENCE, (0.0, [Join(1, 1)]), (1.0, [Heard(1, 1)]), (2.0, [Went(1, 1, 1)]))
    assert turn.tokens == {}
    assert turn.visits == []


def test_held_step_is_tried_again_at_its_time_under_the_same_visit() -> None:
    begun: list[tuple[float, Sequence[Input]]] = [(0.0, [Join(1, 1)]), (1.0, [Held(1, 1, 60.0)])]
    assert turn_of(REFERENCE, *begun, (59.0, [])).batches == []
    assert turn_of(REFERENCE, *begun, (60.0, [])).batches == [Batch(0, ((1, 1),))]


def test_wait_for_a_local_time_asks_and_then_waits() -> None:
    plan = Plan(
        journey="j",
        title="j",
        entry=Entry(),
        steps=(
            Wait(
                id="w",
                local=LocalTime(time="10:00", zone="contact"),
                until=(Until(subscription=0, next=2),),
                next=1,
            ),
            End(id="time", outcome="time"),
            End(id="came", outcome="came"),
        ),
        subscriptions=(Subscription(role="wait", filter=EventFilter(event="x")),),
    )
    assert turn_of(plan, (0.0, [Join(1, 1)])).batches == [Batch(0, ((1, 1),))]
    asked: list[tuple[float, Sequence[Input]]] = [(0.0, [Join(1, 1)]), (1.0, [Due(1, 1, 500.0)])]
    assert turn_of(plan, *asked).next_due() == 500.0
    assert turn_of(plan, *asked, (500.0, [])).finished[0].outcome == "time"
    early = turn_of(plan, (0.0, [Join(1, 1)]), (0.5, [Heard(1, 0)]), (1.0, [Due(1, 1, 500.0)]))
    assert early.finished[0].outcome == "came"


def test_pause_holds_time_and_work_but_notes_events() -> None:
    tokens = turn_of(REFERENCE, (0.0, [Join(1, 1), Join(2, 2)]), (1.0, [Went(1, 1, 1), Went(2, 1, 1)])).tokens
    paused = advance(REFERENCE, tokens, 1000.0, [Heard(1, 1), Join(3, 3)], paused=True)
    assert [one.outcome for one in paused.finished] == ["submitted"]
    assert paused.batches == []
    resumed = advance(REFERENCE, paused.tokens, 1001.0, [])
    assert resumed.batches == [Batch(0, ((3, 1),)), Batch(2, ((2, 3),))]


def test_wait_ends_by_time_only_when_everything_until_then_was_heard() -> None:
    begun = turn_of(REFERENCE, (0.0, [Join(1, 1), Join(2, 2)]), (1.0, [Went(1, 1, 1), Went(2, 1, 1)]))
    behind = advance(REFERENCE, begun.tokens, 900.0, [], heard_until=403.9)
    assert behind.tokens == begun.tokens
    assert behind.unheard == {(1, 0), (2, 0)}
    assert behind.next_due() is None
    caught_up = advance(REFERENCE, behind.tokens, 901.0, [Heard(1, 0)], heard_until=404.0)
    assert caught_up.finished == [Finish(1, 3, 901.0, "returned")]
    assert caught_up.batches == [Batch(2, ((2, 3),))]
    assert not caught_up.unheard


def test_wait_that_no_event_can_end_asks_nobody() -> None:
    deaf = REFERENCE.steps[1].model_copy(update={"until": ()})
    aimless = REFERENCE.model_copy(
        update={"steps": (REFERENCE.steps[0], deaf, *REFERENCE.steps[2:]), "subscriptions": ()}
    )
    begun = turn_of(aimless, (0.0, [Join(1, 1)]), (1.0, [Went(1, 1, 1)]))
    assert advance(aimless, begun.tokens, 900.0, [], heard_until=0.0).batches == [Batch(2, ((1, 3),))]
    # A goal could end any of its journey's waits.
    aiming = aimless.model_copy(update={"subscriptions": REFERENCE.subscriptions})
    assert advance(aiming, begun.tokens, 900.0, [], heard_until=0.0).unheard == {(1, 0)}


def test_looking_again_and_held_steps_wait_for_nobody() -> None:
    begun: list[tuple[float, Sequence[Input]]] = [(0.0, [Join(1, 1)]), (1.0, [Held(1, 1, 60.0)])]
    held = turn_of(REFERENCE, *begun)
    assert advance(REFERENCE, held.tokens, 60.0, [], heard_until=0.0).batches == [Batch(0, ((1, 1),))]
    watching = REFERENCE.steps[1].model_copy(update={"watches": (Watch(criteria=0, next=5),)})
    plan = REFERENCE.model_copy(update={"steps": (REFERENCE.steps[0], watching, *REFERENCE.steps[2:])})
    asked = turn_of(plan, (0.0, [Join(1, 1)]), (1.0, [Went(1, 1, 1)]), (2.0, [Due(1, 2, None, 300.0)]))
    assert advance(plan, asked.tokens, 300.0, [], heard_until=0.0).batches == [Batch(1, ((1, 2),))]
    assert advance(plan, asked.tokens, 404.0, [], heard_until=300.0).unheard == {(1, 0)}


def test_stop_ends_everybody() -> None:
    turn = turn_of(REFERENCE, (0.0, [Join(1, 1), Join(2, 2)]), (1.0, [Stop("stopped")]))
    assert turn.tokens == {}
    assert {one.outcome for one in turn.finished} == {"stopped"}


def test_repeated_join_changes_nothing() -> None:
    once = turn_of(REFERENCE, (0.0, [Join(1, 1)]))
    assert advance(REFERENCE, once.tokens, 1.0, [Join(1, 1)]).tokens == once.tokens


def test_who_runs_in_a_circle_without_waiting_is_stopped_and_nobody_else() -> None:
    """Whoever else is in the cohort: the one goes round in both, the other waits in both."""
    split = Split(id="s", salt="s", arms=(Arm(name="round", weight=1, next=0), Arm(name="on", weight=1, next=1)))
    plan = Plan(
        journey="j",
        title="j",
        entry=Entry(),
        steps=(split, Wait(id="w", seconds=60, next=2), End(id="end", outcome="")),
    )
    seeds = {choose_arm(split, seed)[0]: seed for seed in range(20)}
    together = turn_of(plan, (0.0, [Join(1, seeds["round"]), Join(2, seeds["on"])]))
    assert [(one.enrollment, one.outcome) for one in together.finished] == [(1, machine.ENDLESS)]
    assert together.tokens == turn_of(plan, (0.0, [Join(2, seeds["on"])])).tokens
    assert turn_of(plan, (0.0, [Join(1, seeds["round"])])).finished == together.finished


@given(st.integers(0, 2**32 - 1))
def test_split_is_sticky(seed: int) -> None:
    step = Split(id="s", salt="j:s", arms=(Arm(name="a", weight=3, next=1), Arm(name="b", weight=1, next=2)))
    assert machine.choose_arm(step, seed) == machine.choose_arm(step, seed)


def test_split_keeps_its_weights() -> None:
    step = Split(id="s", salt="j:s", arms=(Arm(name="a", weight=3, next=1), Arm(name="b", weight=1, next=2)))
    share = sum(machine.choose_arm(step, seed)[0] == "a" for seed in range(20_000)) / 20_000
    assert 0.73 < share < 0.77


def test_state_survives_json() -> None:
    tokens = turn_of(REFERENCE, (0.5, [Join(1, 1), Heard(1, 0), Join(2, 9)]), (1.5, [Went(2, 1, 1)])).tokens
    assert restore(json.loads(json.dumps(dump(tokens)))) == tokens


# The first invariant: any partition into cohorts, same outcomes.

World = list[tuple[int, float, int, float | None, bool]]
"""Per contact: enrollment, when it enters, its seed, when its event comes (if ever), whether the condition holds."""


Log = dict[int, tuple[float, float]]
"""Enrollment to when its event is committed and when the cohort is told of it; in the order of the log."""


def live(
    plan: Plan, world: World, subscription: int, log: Log | None = None
) -> dict[int, list[tuple[int, float, str]]]:
    """Carry contacts through the plan as one cohort under a virtual clock; work takes no time.

    Without a `log` events are told when they happen. Gives each enrollment's visits and its end, as (step, time, how).
    """
    history: dict[int, list[tuple[int, float, str]]] = {row[0]: [] for row in world}
    agenda: list[tuple[float, Input]] = []
    holds = {}
    for enrollment, enters, seed, event, condition in world:
        agenda.append((enters, Join(enrollment, seed)))
        holds[enrollment] = condition
        if event is not None:
            told = enters + event if log is None else log[enrollment][1]
            agenda.append((told, Heard(enrollment, subscription)))
    agenda.sort(key=lambda row: (row[0], str(row[1])))
    tokens: Tokens = {}
    results: list[Input] = []
    now = 0.0
    for _ in range(10_000):
        inputs = [*results, *(item for at, item in agenda if at <= now)]
        agenda = [row for row in agenda if row[0] > now]
        unheard = [committed for committed, told in (log or {}).values() if committed <= now < told]
        turn = advance(plan, tokens, now, inputs, heard_until=min(unheard, default=now))
        tokens, results = turn.tokens, []
        for visit in turn.visits:
            history[visit.enrollment].append((visit.step, visit.at, visit.via))
        for finish in turn.finished:
            history[finish.enrollment].append((-1, finish.at, finish.outcome))
        for batch in turn.batches:
            results += [_result(plan, batch.step, member, holds) for member in batch.members]
        if results:
            continue
        times = [row[0] for row in agenda] + [told for _, told in (log or {}).values() if told > now]
        times += [at for at in (turn.next_due(),) if at is not None]
        if not times:
            return history
        now = min(times)
    raise AssertionError("the story does not end")


def _result(plan: Plan, number: int, member: tuple[int, int], holds: dict[int, bool]) -> Input:
    step = plan.steps[number]
    if isinstance(step, Choose):
        branch = step.branches[0][1] if holds[member[0]] else step.otherwise
        return Went(*member, branch)
    assert isinstance(step, Send)
    return Went(*member, step.next)


LOOPING = Plan(
    journey="loop",
    title="Loop",
    entry=Entry(),
    steps=(
        Send(id="letter", channel="email", template="t", next=1),
        Wait(id="wait", seconds=1000, until=(Until(subscription=0, next=3),), next=2),
        Choose(id="if", branches=((0, 0),), otherwise=4),
        Split(
            id="split",
            salt="x",
            arms=(Arm(name="again", weight=1, next=1), Arm(name="out", weight=1, next=4)),
        ),
        End(id="end", outcome="end"),
    ),
    subscriptions=REFERENCE.subscriptions,
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 12))
    return [
        (
            number,
            draw(st.integers(0, 3000)) / 2,
            draw(st.integers(0, 5)),
            draw(st.none() | st.integers(0, 3000).map(lambda n: n / 4)),
            draw(st.booleans()) and draw(st.booleans()),
        )
        for number in range(count)
    ]


@settings(max_examples=300, deadline=None)
@given(worlds(), st.integers(1, 5), st.sampled_from([0, 1]))
def test_cohort_size_never_changes_an_outcome(world: World, cohorts: int, subscription: int) -> None:
    together = live(REFERENCE, world, subscription)
    apart: dict[int, list[tuple[int, float, str]]] = {}
    for number in range(cohorts):
        apart |= live(REFERENCE, [row for row in world if row[0] % cohorts == number], subscription)
    assert apart == together


@settings(max_examples=200, deadline=None)
@given(worlds(), st.integers(1, 5))
def test_cohort_size_never_changes_an_outcome_in_loops(world: World, cohorts: int) -> None:
    world = [(*row[:4], False) for row in world]
    together = live(LOOPING, world, 0)
    apart: dict[int, list[tuple[int, float, str]]] = {}
    for number in range(cohorts):
        apart |= live(LOOPING, [row for row in world if row[0] % cohorts == number], 0)
    assert apart == together


@settings(max_examples=300, deadline=None)
@given(worlds(), st.data(), st.integers(1, 5), st.sampled_from([0, 1]))
def test_what_was_committed_in_time_counts_however_late_it_is_told(
    world: World, data: st.DataObject, cohorts: int, subscription: int
) -> None:
    log: Log = {}
    latest = 0.0
    for committed, enrollment in sorted((row[1] + row[3], row[0]) for row in world if row[3] is not None):
        latest = max(latest, committed + data.draw(st.sampled_from([0.0, 0.25, 700.0])))
        log[enrollment] = (committed, latest)
    together = live(REFERENCE, world, subscription, log)
    apart: dict[int, list[tuple[int, float, str]]] = {}
    for number in range(cohorts):
        apart |= live(REFERENCE, [row for row in world if row[0] % cohorts == number], subscription, log)
    assert apart == together
    wait = REFERENCE.steps[1]
    assert isinstance(wait, Wait)
    for enrollment, enters, *_ in world:
        committed = log.get(enrollment, (float("inf"), 0.0))[0]
        due = machine.due_time(wait, enters)
        assert due is not None
        story = together[enrollment]
        answered = story[-1][2] in {"returned", "submitted"}
        if enters < committed < due:
            assert answered
        elif answered and committed > enters:  # in the margin: after the time had come, but before anybody could go on
            assert committed <= story[-1][1]
            assert any(one < due and told > due for one, told in log.values())
