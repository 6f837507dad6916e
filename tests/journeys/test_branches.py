"""Parallel branches, waits that are looked at, and overdue messages; and the first invariant for all of them."""

import json
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import journeys
from journeys.machine import advance
from journeys.plan import Act, Choose, Plan, Send, Wait
from journeys.tokens import (
    Batch,
    Due,
    Ended,
    Finish,
    Heard,
    Held,
    Input,
    Join,
    Met,
    Tokens,
    Turn,
    Unmet,
    Went,
    dump,
    restore,
)

BOTH = """
journey: both
goal: {event: bought, outcome: bought}
steps:
  - parallel:
      letters:
        - {id: first, send: email, template: a}
        - {id: pause, wait: 100s}
        - {id: second, send: email, template: b}
      answers:
        - {id: answer, wait: 1000s, until: {event: answered}, then: [{id: thanks, send: email, template: c}]}
    join: JOIN
  - {id: after, wait: 50s, until: {event: late}, then: [{end: heard}]}
  - end: done
"""


def plan_of(text: str) -> Plan:
    return journeys.compile(journeys.load(text))


def numbers(plan: Plan) -> dict[str, int]:
    return {step.id: number for number, step in enumerate(plan.steps)}


def listens(plan: Plan, event: str) -> int:
    return next(n for n, one in enumerate(plan.subscriptions) if one.filter.event == event)


def play(plan: Plan, *rounds: tuple[float, Sequence[Input]], paused: Sequence[int] = ()) -> list[Turn]:
    """Several turns, each with its time and inputs; sending and asking are answered at once by `Went`."""
    tokens: Tokens = {}
    turns = []
    for place, (now, inputs) in enumerate(rounds):
        turn = advance(plan, tokens, now, inputs, paused=place in paused)
        turns.append(turn)
        tokens = turn.tokens
        while work := [
            Went(*member, step.next)
            for batch in turn.batches
            for member in batch.members
            if isinstance(step := plan.steps[batch.step], Send)
        ]:
            turn = advance(plan, tokens, now, work)
            turns.append(turn)
            tokens = turn.tokens
    return turns


def finishes(turns: Sequence[Turn]) -> list[Finish]:
    return [finish for turn in turns for finish in turn.finished]


def visited(turns: Sequence[Turn]) -> list[tuple[int, int, str]]:
    return [(visit.visit, visit.step, visit.via) for turn in turns for visit in turn.visits]


ALL, FIRST = plan_of(BOTH.replace("JOIN", "all")), plan_of(BOTH.replace("JOIN", "first"))


def test_branches_go_at_the_same_time_and_meet() -> None:
    at = numbers(ALL)
    turns = play(ALL, (0.0, [Join(1, 1)]), (101.0, []), (500.0, [Heard(1, listens(ALL, "answered"))]), (600.0, []))
    begun = [(step, via) for _, step, via in visited(turns)][:3]
    assert begun == [(at["parallel-1"], "entry"), (at["first"], "parallel:letters"), (at["answer"], "parallel:answers")]
    joined = [(visit.at, visit.via) for turn in turns for visit in turn.visits if visit.step == at["after"]]
    assert joined == [(500.0, "join")]
    assert finishes(turns)[0].outcome == "done"
    given_out = [visit for visit, _, _ in visited(turns)]
    assert given_out == list(range(1, len(given_out) + 1))


def test_with_first_the_other_branches_are_given_up() -> None:
    turns = play(FIRST, (0.0, [Join(1, 1)]), (5.0, [Heard(1, listens(FIRST, "answered"))]), (101.0, []))
    assert finishes(turns)[0].outcome == "done"
    assert numbers(FIRST)["second"] not in [step for _, step, _ in visited(turns)]
    assert turns[-1].tokens == {}


def test_a_result_of_a_branch_that_was_given_up_is_ignored() -> None:
    begun = advance(FIRST, {}, 0.0, [Join(1, 1)])
    (letter,) = [batch for batch in begun.batches if batch.step == numbers(FIRST)["first"]]
    heard = advance(FIRST, begun.tokens, 1.0, [Heard(1, listens(FIRST, "answered"))])
    (thanks,) = heard.batches
    met = advance(FIRST, heard.tokens, 2.0, [Went(*thanks.members[0], numbers(FIRST)["join-1"])])
    assert list(met.tokens) == [(1, 0)]
    late = advance(FIRST, met.tokens, 3.0, [Went(*letter.members[0], numbers(FIRST)["pause"])])
    assert (late.tokens, late.visits) == (met.tokens, [])


def test_a_goal_ends_all_branches() -> None:
    turns = play(ALL, (0.0, [Join(1, 1)]), (1.0, [Heard(1, listens(ALL, "bought"))]))
    assert [finish.outcome for finish in finishes(turns)] == ["bought"]
    assert turns[-1].tokens == {}


def test_what_is_heard_after_the_last_wait_of_a_branch_counts_behind_the_join() -> None:
    at, late, answered = numbers(FIRST), listens(FIRST, "late"), listens(FIRST, "answered")
    tokens = advance(FIRST, {}, 0.0, [Join(1, 1)]).tokens
    thanks = advance(FIRST, tokens, 200.0, [Heard(1, answered)])
    (batch,) = [one for one in thanks.batches if one.step == at["thanks"]]
    heard = advance(FIRST, thanks.tokens, 200.5, [Heard(1, late), Heard(1, answered)])
    met = advance(FIRST, heard.tokens, 201.0, [Went(*batch.members[0], at["join-1"])])
    assert [finish.outcome for finish in met.finished] == ["heard"]


def test_what_a_wait_inside_listens_to_is_forgotten_at_the_join() -> None:
    tokens = advance(FIRST, {}, 0.0, [Join(1, 1)]).tokens
    thanks = advance(FIRST, tokens, 200.0, [Heard(1, listens(FIRST, "answered"))])
    (batch,) = [one for one in thanks.batches if one.step == numbers(FIRST)["thanks"]]
    inputs: list[Input] = [Heard(1, listens(FIRST, "answered")), Went(*batch.members[0], numbers(FIRST)["join-1"])]
    assert advance(FIRST, thanks.tokens, 201.0, inputs).tokens[1, 0].heard == ()


def test_members_of_a_batch_are_of_different_enrollments() -> None:
    text = """
journey: twice
steps:
  - parallel:
      a: [{wait: 10s}, {if: {contact.tags: x}, then: [{tag: y}]}]
      b: [{wait: 10s}, {if: {contact.tags: x}, then: [{tag: y}]}]
"""
    plan = plan_of(text)
    merged = plan.model_copy(update={"steps": tuple(_same_step(plan))})
    tokens = advance(merged, {}, 0.0, [Join(1, 1), Join(2, 2)]).tokens
    turn = advance(merged, tokens, 20.0, [])
    assert [len(batch.members) for batch in turn.batches] == [2, 2]
    assert all({enrollment for enrollment, _ in batch.members} == {1, 2} for batch in turn.batches)


def _same_step(plan: Plan) -> list[object]:
    """The plan with both waits leading to the same question."""
    first = next(number for number, step in enumerate(plan.steps) if isinstance(step, Choose))
    return [step.model_copy(update={"next": first}) if isinstance(step, Wait) else step for step in plan.steps]


def test_branches_survive_json() -> None:
    tokens = play(ALL, (0.5, [Join(1, 1), Join(2, 2)]), (5.0, [Heard(2, 0)]))[-1].tokens
    assert len(tokens) > 3
    assert restore(json.loads(json.dumps(dump(tokens)))) == tokens


CRITERIA = plan_of(
    "journey: w\nsteps:\n  - {id: w, wait: 1h, until: {when: {contact.tags: x}}, then: [{end: held}]}\n  - end: not\n"
)


def test_a_wait_for_criteria_is_looked_at_until_its_time_is_over() -> None:
    asked = advance(CRITERIA, {}, 0.0, [Join(1, 1)])
    assert asked.batches == [Batch(0, ((1, 1),))]
    waiting = advance(CRITERIA, asked.tokens, 1.0, [Due(1, 1, None, 900.0)])
    assert (waiting.next_due(), [wait.due for wait in waiting.waits]) == (900.0, [3600.0])
    again = advance(CRITERIA, waiting.tokens, 900.0, [])
    assert again.batches == [Batch(0, ((1, 1),))]
    still = advance(CRITERIA, again.tokens, 901.0, [Due(1, 1, None, 1800.0)])
    assert still.waits == []  # its end is what it was
    last = advance(CRITERIA, still.tokens, 3600.0, [])
    assert (last.finished, last.batches) == ([], [Batch(0, ((1, 1),))])  # they may have come true unheard
    true = advance(CRITERIA, last.tokens, 3600.5, [Went(1, 1, numbers(CRITERIA)["end-1"], "criteria")])
    assert [finish.outcome for finish in true.finished] == ["held"]
    over = advance(CRITERIA, restore(dump(last.tokens)), 3600.5, [Due(1, 1, None, 4500.0)])
    assert [finish.outcome for finish in over.finished] == ["not"]
    held = advance(CRITERIA, again.tokens, 901.0, [Went(1, 1, numbers(CRITERIA)["end-1"], "criteria")])
    assert [finish.outcome for finish in held.finished] == ["held"]


def test_an_event_lets_criteria_be_looked_at_soon_and_not_at_every_event() -> None:
    watch = listens(CRITERIA, "*")
    tokens = advance(CRITERIA, {}, 0.0, [Join(1, 1)]).tokens
    tokens = advance(CRITERIA, tokens, 1.0, [Due(1, 1, None, 900.0)]).tokens
    stirred = advance(CRITERIA, tokens, 11.0, [Heard(1, watch), Heard(1, watch)])
    assert (stirred.batches, stirred.next_due()) == ([], 15.0)
    looked = advance(CRITERIA, stirred.tokens, 15.0, [])
    assert looked.batches == [Batch(0, ((1, 1),))]
    during = advance(CRITERIA, looked.tokens, 15.1, [Heard(1, watch), Due(1, 1, None, 900.0)])
    assert during.next_due() == 20.0


OVERDUE = plan_of(
    "journey: o\nsteps:\n  - {id: w, wait: 1h}\n  - tag: x\n  - {id: s, send: email, template: t, if_overdue: skip}\n"
)


@pytest.mark.parametrize(("resumed", "sent"), [(3601.0, True), (7000.0, True), (7300.0, False)])
def test_an_overdue_message_is_skipped_also_behind_other_steps(resumed: float, sent: bool) -> None:
    tokens = advance(OVERDUE, {}, 0.0, [Join(1, 1)]).tokens
    tokens = advance(OVERDUE, tokens, 3601.0, [], paused=True).tokens
    tagging = advance(OVERDUE, tokens, resumed, [])
    turn = advance(OVERDUE, tagging.tokens, resumed, [Went(1, 2, 2)])
    assert bool(turn.batches) is sent
    assert ([finish.outcome for finish in turn.finished] == []) is sent
    if not sent:
        assert turn.visits[-1].via == "overdue"


def test_a_message_that_policy_holds_back_is_not_overdue() -> None:
    tokens = advance(OVERDUE, {}, 0.0, [Join(1, 1)]).tokens
    tokens = advance(OVERDUE, tokens, 3600.0, []).tokens
    tokens = advance(OVERDUE, tokens, 3600.0, [Went(1, 2, 2)]).tokens
    tokens = advance(OVERDUE, tokens, 3600.0, [Held(1, 3, 40_000.0)]).tokens
    assert advance(OVERDUE, tokens, 40_000.0, []).batches == [Batch(2, ((1, 3),))]


def test_who_came_during_a_pause_is_overdue_when_it_lasted() -> None:
    plan = plan_of("journey: o\nsteps:\n  - {id: s, send: email, template: t, if_overdue: skip}\n")
    tokens = advance(plan, {}, 0.0, [Join(1, 1)], paused=True).tokens
    assert advance(plan, tokens, 3000.0, []).batches
    assert not advance(plan, tokens, 4000.0, []).batches


def test_a_step_may_end_the_enrollment() -> None:
    plan = plan_of("journey: d\nsteps:\n  - parallel: {a: [{delete: contact}], b: [{wait: 1d}]}\n")
    turn = advance(plan, {}, 0.0, [Join(1, 1)])
    (batch,) = turn.batches
    over = advance(plan, turn.tokens, 1.0, [Ended(*batch.members[0], "deleted")])
    assert (over.tokens, [finish.outcome for finish in over.finished]) == ({}, ["deleted"])


# The first invariant again, for plans with branches in branches, waits that are looked at, and winners.

NESTED = """
journey: nested
goal: {event: bought}
steps:
  - {id: begin, send: email, template: a}
  - parallel:
      one:
        - {id: watch, wait: 2000s, until: [{when: {contact.tags: x}, then: [{tag: seen}]}, {event: e1}]}
        - split: {a: [WAIT], b: 1}
      two:
        - parallel:
            inner: [{wait: 300s, until: {event: e2}}, {send: email, template: b}]
            other: [{wait: 500s}, {if: {contact.tags: x}, then: [{wait: 40s}], else: [{send: email, template: c}]}]
          join: first
        - {id: again, wait: 700s, until: {event: e1}, then: [{send: email, template: d}]}
    join: MODE
  - {id: tail, wait: 100s, until: {event: e2}}
  - {id: last, send: email, template: e}
""".replace("[WAIT]", "{then: [{wait: 90s}]}")
LEAVING = NESTED.replace("goal: {event: bought}", "goal: {event: bought}\nexit: {when: {contact.tags: x}}")
PLANS = [plan_of(story.replace("MODE", mode)) for story in (NESTED, LEAVING) for mode in ("all", "first")]

World = list[tuple[int, float, int, list[tuple[float, str]], float | None]]
"""Per contact: enrollment, when it enters, its seed, its events, and from when on its criteria hold."""


def live(plan: Plan, world: World) -> dict[int, list[tuple[int, int, float, str]]]:
    """Carry contacts through as one cohort; work takes no time. Gives visits and ends: (visit, step, at, how)."""
    history: dict[int, list[tuple[int, int, float, str]]] = defaultdict(list)
    agenda: list[tuple[float, Input]] = []
    holds: dict[int, float] = {}
    for enrollment, enters, seed, events, since in world:
        agenda.append((enters, Join(enrollment, seed)))
        holds[enrollment] = float("inf") if since is None else enters + since
        for after, name in events:
            agenda += [
                (enters + after, Heard(enrollment, number))
                for number, one in enumerate(plan.subscriptions)
                if one.filter.event in {name, "*"}
            ]
    agenda.sort(key=lambda row: (row[0], str(row[1])))
    tokens: Tokens = {}
    results: list[Input] = []
    now = 0.0
    for _ in range(20_000):
        inputs = [*results, *(item for at, item in agenda if at <= now)]
        agenda = [row for row in agenda if row[0] > now]
        turn = advance(plan, tokens, now, inputs)
        tokens = turn.tokens
        for visit in turn.visits:
            history[visit.enrollment].append((visit.visit, visit.step, visit.at, visit.via))
        for finish in turn.finished:
            history[finish.enrollment].append((finish.visit, -1, finish.at, finish.outcome))
        results = [_did(plan, batch.step, one, now, holds) for batch in turn.batches for one in batch.members]
        results += [Met(one, "exit") if holds[one] <= now else Unmet(one, visit) for one, visit in turn.looks]
        if results:
            continue
        times = [at for at in (turn.next_due(), min((row[0] for row in agenda), default=None)) if at is not None]
        if not times:
            assert not tokens
            return dict(history)
        now = min(times)
    raise AssertionError("the story does not end")


def _did(plan: Plan, number: int, member: tuple[int, int], now: float, holds: dict[int, float]) -> Input:
    step = plan.steps[number]
    held = holds[member[0]] <= now
    if isinstance(step, Wait):
        if held:
            return Went(*member, step.watches[0].next, "criteria")
        return Due(*member, None, (now // step.look_seconds + 1) * step.look_seconds)
    if isinstance(step, Choose):
        return Went(*member, step.branches[0][1] if held else step.otherwise)
    assert isinstance(step, Send | Act) and step.next is not None
    return Went(*member, step.next)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    event = st.tuples(st.integers(0, 6000).map(lambda n: n / 4), st.sampled_from(["e1", "e2", "bought", "noise"]))
    return [
        (
            number,
            draw(st.integers(0, 3000)) / 2,
            draw(st.integers(0, 5)),
            draw(st.lists(event, max_size=4)),
            draw(st.none() | st.integers(0, 3000).map(float)),
        )
        for number in range(draw(st.integers(1, 8)))
    ]


@settings(max_examples=250, deadline=None)
@given(worlds(), st.integers(1, 4), st.sampled_from(PLANS))
def test_cohort_size_never_changes_an_outcome(world: World, cohorts: int, plan: Plan) -> None:
    together = live(plan, world)
    apart: dict[int, list[tuple[int, int, float, str]]] = {}
    for number in range(cohorts):
        apart |= live(plan, [row for row in world if row[0] % cohorts == number])
    assert apart == together
    for way in together.values():
        visits = [visit for visit, step, _, _ in way if step >= 0]
        assert visits == list(range(1, len(visits) + 1))


def test_where_branches_stand_is_told_also_when_one_ends_in_a_pause() -> None:
    plan = plan_of(
        "journey: two\nsteps:\n"
        "  - parallel: {one: [{send: email, template: a}], two: [{id: pause, wait: 100s}]}\n  - {id: after, wait: 1d}\n"
    )
    at = numbers(plan)
    begun = advance(plan, {}, 0.0, [Join(1, 7)])
    (batch,) = begun.batches
    ((enrollment, visit),) = batch.members
    assert [(one.steps, one.ends) for one in begun.branched] == [((batch.step, at["pause"]), (None, 100.0))]
    step = plan.steps[batch.step]
    assert isinstance(step, Send)
    sent = Went(enrollment, visit, step.next)
    paused = advance(plan, begun.tokens, 10.0, [sent], paused=True)
    resumed = advance(plan, paused.tokens, 20.0, [])
    assert [one.steps for one in resumed.branched] == [(at["pause"],)]
    paused = advance(plan, resumed.tokens, 30.0, [], paused=True)
    assert paused.branched == []
    met = advance(plan, resumed.tokens, 100.0, [])
    assert [one.steps for one in met.branched] == [()]
    assert met.tokens[1, 0].step == at["after"]
