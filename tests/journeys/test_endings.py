"""Goals and exits that are criteria: who meets them leaves, wherever they stand."""

import json
from collections.abc import Sequence

import pytest

import journeys
from core.errors import InvalidInput
from journeys import canonical, moving, picture
from journeys.machine import advance
from journeys.plan import Ending, Plan
from journeys.tokens import Due, Finish, Heard, Held, Input, Join, Met, Tokens, Turn, Unmet, Went, dump, restore

STORY = """
journey: watched
goal:
  - {event: order.paid, outcome: paid}
  - {when: {contact.tags: customer}, outcome: customer}
exit: {when: {not: {contact.segments: loyal}}}
steps:
  - {id: first, send: email, template: a}
  - {id: pause, wait: 2h}
  - if: {contact.city: Moscow}
    then: [{id: tagged, tag: warm}]
  - {id: second, send: email, template: b}
"""


def plan_of(text: str) -> Plan:
    return journeys.compile(journeys.load(text))


PLAN = plan_of(STORY)
assert PLAN.endings is not None
WATCH = PLAN.endings.subscription


def number(plan: Plan, step: str) -> int:
    return next(place for place, one in enumerate(plan.steps) if one.id == step)


def after(*rounds: tuple[float, Sequence[Input]], plan: Plan = PLAN) -> Turn:
    """The last of several turns."""
    tokens: Tokens = {}
    turn = Turn({})
    for now, inputs in rounds:
        turn = advance(plan, tokens, now, inputs)
        tokens = turn.tokens
    return turn


IN_PAUSE = ((0.0, [Join(1, 7)]), (1.0, [Unmet(1, 1)]), (2.0, [Went(1, 1, number(PLAN, "pause"))]))
OVER = 7260.0
"""When the pause is over: rounded up to its grid."""


def test_criteria_stand_beside_events_and_name_outcomes() -> None:
    assert PLAN.endings is not None
    assert PLAN.endings.rules == (
        Ending(role="goal", criteria=PLAN.endings.rules[0].criteria, outcome="customer"),
        Ending(role="exit", criteria=PLAN.endings.rules[1].criteria, outcome="exit"),
    )
    asked = [PLAN.criteria[one.criteria] for one in PLAN.endings.rules]
    assert asked == [{"contact.tags": "customer"}, {"not": {"contact.segments": "loyal"}}]
    assert PLAN.endings.look_seconds == 900
    assert [(one.role, one.outcome) for one in PLAN.subscriptions] == [("goal", "paid"), ("watch", "")]
    assert PLAN.goals() == {"paid", "customer"}
    assert plan_of("journey: j\ngoal: {event: a}\nsteps: [end]").endings is None
    hastened = journeys.compile(journeys.load(STORY), hasten=1440)
    assert hastened.endings is not None and hastened.endings.look_seconds == 1


@pytest.mark.parametrize("found", [Met(1, "customer"), Unmet(1, 1)])
def test_nobody_is_written_to_before_it_is_known_that_the_criteria_do_not_hold(found: Input) -> None:
    entered = advance(PLAN, {}, 0.0, [Join(1, 7)])
    assert (entered.batches, sorted(entered.looks)) == ([], [(1, 0), (1, 1)])
    assert [visit.via for visit in entered.visits] == ["entry"]
    turn = advance(PLAN, restore(json.loads(json.dumps(dump(entered.tokens)))), 1.0, [found])
    if isinstance(found, Met):
        assert (turn.finished, turn.tokens, turn.batches) == ([Finish(1, 1, 1.0, "customer", met=True)], {}, [])
    else:
        assert [(batch.step, batch.members) for batch in turn.batches] == [(number(PLAN, "first"), ((1, 1),))]


def test_it_is_asked_again_before_each_step_that_does_something_and_before_the_end() -> None:
    over = after(*IN_PAUSE, (OVER, []))
    choosing = [batch.step for batch in over.batches]
    assert isinstance(PLAN.steps[choosing[0]].kind, str) and PLAN.steps[choosing[0]].kind == "choose"
    for step in ("tagged", "second"):
        there = after(*IN_PAUSE, (OVER, []), (OVER, [Went(1, 3, number(PLAN, step))]))
        assert (there.batches, there.looks) == ([], [(1, 4)])
        assert [batch.step for batch in advance(PLAN, there.tokens, OVER, [Unmet(1, 4)]).batches] == [
            number(PLAN, step)
        ]
    bottom = advance(PLAN, {}, 0.0, [Join(1, 7)])
    bottom = advance(PLAN, bottom.tokens, 0.0, [Unmet(1, 1)])
    bottom = advance(PLAN, bottom.tokens, 0.0, [Went(1, 1, len(PLAN.steps) - 1)])
    assert (bottom.finished, bottom.looks) == ([], [(1, 2)])
    assert [one.outcome for one in advance(PLAN, bottom.tokens, 0.0, [Met(1, "exit")]).finished] == ["exit"]
    assert [(one.outcome, one.met) for one in advance(PLAN, bottom.tokens, 0.0, [Unmet(1, 2)]).finished] == [
        ("completed", False)
    ]


def test_a_message_that_was_held_back_is_asked_about_again() -> None:
    sending = after((0.0, [Join(1, 7)]), (0.0, [Unmet(1, 1)]))
    held = advance(PLAN, sending.tokens, 0.0, [Held(1, 1, 600.0)])
    released = advance(PLAN, held.tokens, 600.0, [])
    assert (released.batches, released.looks) == ([], [(1, 1)])
    assert advance(PLAN, released.tokens, 600.0, [Unmet(1, 1)]).batches[0].members == ((1, 1),)


def test_who_waits_is_looked_at_soon_after_an_event_and_every_quarter_of_an_hour() -> None:
    waiting = after(*IN_PAUSE)
    assert (waiting.looks, waiting.next_due()) == ([], 900.0)
    stirred = advance(PLAN, waiting.tokens, 101.0, [Heard(1, WATCH, 5), Heard(1, WATCH, 6)])
    assert (stirred.looks, stirred.next_due()) == ([], 105.0)
    looked = advance(PLAN, stirred.tokens, 105.0, [])
    assert (looked.looks, looked.next_due()) == ([(1, 0)], 900.0)
    assert advance(PLAN, looked.tokens, 106.0, []).looks == []
    later = advance(PLAN, looked.tokens, 900.0, [])
    assert (later.looks, later.next_due()) == ([(1, 0)], 1800.0)
    left = advance(PLAN, later.tokens, 901.0, [Met(1, "exit"), Met(1, "exit")])
    assert (left.finished, left.tokens) == ([Finish(1, 2, 901.0, "exit", met=True)], {})


def test_an_answer_that_nobody_waits_for_any_more_changes_nothing() -> None:
    waiting = after(*IN_PAUSE)
    assert advance(PLAN, waiting.tokens, 10.0, [Unmet(1, 1), Unmet(1, 2), Unmet(1, 0)]).tokens == waiting.tokens
    assert advance(PLAN, {}, 10.0, [Met(1, "exit"), Unmet(1, 1)]).finished == []
    acting = after(*IN_PAUSE, (OVER, []), (OVER, [Went(1, 3, number(PLAN, "second"))]), (OVER, [Unmet(1, 4)]))
    assert advance(PLAN, acting.tokens, OVER, [Unmet(1, 4)]).batches == []


def test_in_a_pause_nothing_is_asked_and_what_was_answered_is_asked_again() -> None:
    entered = advance(PLAN, {}, 0.0, [Join(1, 7)], paused=True)
    assert (entered.looks, entered.batches) == ([], [])
    resumed = advance(PLAN, entered.tokens, 50.0, [])
    assert sorted(resumed.looks) == [(1, 0), (1, 1)]
    answered = advance(PLAN, resumed.tokens, 51.0, [Unmet(1, 1)], paused=True)
    assert answered.batches == []
    assert advance(PLAN, answered.tokens, 9000.0, []).looks == [(1, 0), (1, 1)]


def test_branches_ask_each_for_itself_and_leave_together() -> None:
    plan = plan_of(
        "journey: b\nexit: {when: {contact.tags: x}}\nsteps:\n"
        "  - parallel: {one: [{tag: a}], two: [{send: email, template: t}], three: [{wait: 1d}]}\n"
    )
    begun = advance(plan, {}, 0.0, [Join(1, 7)])
    assert sorted(begun.looks) == [(1, 0), (1, 2), (1, 3)]
    tagging = advance(plan, begun.tokens, 1.0, [Unmet(1, 2)])
    assert [batch.members for batch in tagging.batches] == [((1, 2),)]
    assert tagging.next_due() == 900.0  # it is the enrollment that is looked at, not each branch
    assert advance(plan, tagging.tokens, 2.0, [Met(1, "exit")]).tokens == {}


MOVED = plan_of(STORY.replace("exit: {when: {not: {contact.segments: loyal}}}", "exit: {when: {contact.tags: gone}}"))
WITHOUT = plan_of(
    STORY.replace("  - {when: {contact.tags: customer}, outcome: customer}\n", "").replace(
        "exit: {when: {not: {contact.segments: loyal}}}\n", ""
    )
)


def moved(old: Plan, new: Plan, tokens: Tokens) -> Tokens:
    return moving.move(old, new, moving.ways(old, new, {}), tokens, {}, 60.0).tokens


def test_who_is_moved_to_other_criteria_is_asked_about_these_at_once() -> None:
    asking = after((0.0, [Join(1, 7)]))
    for tokens in (asking.tokens, after(*IN_PAUSE).tokens):
        turn = advance(MOVED, moved(PLAN, MOVED, tokens), 60.0, [])
        assert (1, 0) in turn.looks
        assert turn.batches == []
    anew = advance(MOVED, moved(PLAN, MOVED, asking.tokens), 60.0, [Unmet(1, 1)])  # of the criteria of before
    assert (anew.batches, sorted(anew.looks)) == ([], [(1, 0), (1, 1)])


def test_a_version_without_criteria_asks_nothing() -> None:
    asking = after((0.0, [Join(1, 7)]))
    turn = advance(WITHOUT, moved(PLAN, WITHOUT, asking.tokens), 60.0, [])
    assert (turn.looks, [batch.step for batch in turn.batches]) == ([], [0])
    assert turn.next_due() is None
    back = advance(PLAN, moved(WITHOUT, PLAN, after(*IN_PAUSE, plan=WITHOUT).tokens), 60.0, [])
    assert back.looks == [(1, 0)]


def test_a_wait_for_criteria_and_an_exit_by_criteria_do_not_disturb_each_other() -> None:
    plan = plan_of(
        "journey: w\nexit: {when: {contact.tags: x}}\nsteps:\n"
        "  - {id: w, wait: 1d, until: {when: {contact.tags: y}}, then: [{end: y}]}\n"
    )
    assert plan.endings is not None
    other = next(n for n in range(2) if n != plan.endings.subscription)
    tokens = after((0.0, [Join(1, 7)]), (1.0, [Due(1, 1, None, 900.0)]), plan=plan).tokens
    mine = advance(plan, tokens, 11.0, [Heard(1, plan.endings.subscription)])
    assert (mine.tokens[1, 0].look, mine.tokens[1, 0].due) == (15.0, 900.0)
    its = advance(plan, tokens, 11.0, [Heard(1, other)])
    assert (its.tokens[1, 0].look, its.tokens[1, 0].due) == (900.0, 15.0)


# --- written, shown and compared


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{}", "2:1: a goal or an exit names an event, or criteria under when (write {event: order.paid})"),
        ("{event: a, when: {contact.tags: x}}", "2:1: a goal or an exit names an event, or criteria under when"),
        ("{when: {contact.tags: x}, where: {event.a: 1}}", "2:1: where tests an event; there is none"),
        ("[{event: a}, {when: {contcat.tags: x}}]", "2:28: unknown criterion contcat.tags"),
        ("{when: {random: 500}}", "2:15: a share is some percent"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_with_its_place(rule: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        journeys.load(f"journey: j\nexit: {rule}\nsteps: [end]\n", "x.yaml")
    assert [str(problem).startswith(f"x.yaml:{said}") for problem in caught.value.problems] == [True]


def test_a_comparison_and_a_picture_show_the_criteria() -> None:
    lines = canonical.text(PLAN)
    assert "goal:\n  outcome: customer\n  when:\n    contact.tags: customer\n" in lines
    assert "watch:" not in lines
    assert canonical.text(MOVED) != lines
    labels = [str(branch.label) for branch in picture.drawn(PLAN).children]
    assert "goal when contact.tags: customer: [bold]customer[/]" in labels
