"""Moving contacts who are under way: step kind × edit kind × how the contact stands there, over the pure parts.

Nobody is lost, nobody is sent the same message twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import journeys
from journeys import moving
from journeys.machine import advance
from journeys.moving import Landing, Landings, edits, heirs, ways
from journeys.plan import (
    ANY_EVENT,
    Act,
    Arm,
    Branch,
    Choose,
    End,
    Entry,
    EventFilter,
    LocalTime,
    Notify,
    Parallel,
    Plan,
    Send,
    Split,
    Step,
    Subscription,
    Until,
    Wait,
)
from journeys.plan import Join as Meeting
from journeys.steps import registry
from journeys.tokens import (
    Due,
    Ended,
    Finish,
    Heard,
    Held,
    Input,
    Join,
    Key,
    Token,
    Tokens,
    Went,
    branches_of,
    dump,
    restore,
)

PAID = Subscription(role="wait", filter=EventFilter(event="order.paid"))
LEFT = Subscription(role="wait", filter=EventFilter(event="cart.left"))
EVERYTHING = Subscription(role="watch", filter=EventFilter(event=ANY_EVENT))
GOAL = Subscription(role="goal", filter=EventFilter(event="order.sent"), outcome="sent")


def plan(*steps: Step, subscriptions: Sequence[Subscription] = (PAID, GOAL, EVERYTHING)) -> Plan:
    """A version with these steps."""
    return Plan(
        journey="j",
        title="J",
        entry=Entry(),
        steps=steps,
        criteria=({"contact.tags": "vip"}, {"contact.tags": "new"}),
        subscriptions=tuple(subscriptions),
    )


def letter(name: str, to: int, template: str = "") -> Send:
    return Send(id=name, channel="email", template=template or name, next=to)


END = End(id="end", outcome="done")

# --- the contract: step kind × edit × how the contact stands there


@dataclass(frozen=True)
class Case:
    """A step as it was and as it may be changed, in YAML without its id."""

    key: str
    """Of the registry."""
    was: str
    changed: str
    retimed: str = ""
    """With another length of waiting, for kinds that wait."""


UNTIL = "until: {event: order.paid}"
ANSWERS = "answers: {https://x.example/yes: last}"
KINDS: dict[str, Case] = {
    "send": Case("send", "send: email, template: it", "send: email, template: another"),
    "wait": Case("wait", "wait: 10m", f"wait: 10m, {UNTIL}", "wait: 1m"),
    "local": Case(
        "wait", "wait: until 10:00 in UTC", f"wait: until 10:00 in UTC, {UNTIL}", "wait: until 12:00 on weekdays in UTC"
    ),
    "window": Case(
        "wait",
        "wait: {hours: 10:00-18:00}",
        f"wait: {{hours: 10:00-18:00}}, {UNTIL}",
        "wait: {hours: 12:00-18:00, holidays: RU}",
    ),
    "date": Case(
        "wait",
        "wait: {date: contact.ends, minus: 3d}",
        f"wait: {{date: contact.ends, minus: 3d}}, {UNTIL}",
        "wait: {date: contact.ends, plus: 1d, at: 9:00}",
    ),
    "watching": Case(
        "wait",
        "wait: 10m, until: {when: {contact.tags: vip}}",
        "wait: 15m, until: {when: {contact.tags: new}}",
        "wait: 15m, until: {when: {contact.tags: vip}}",
    ),
    "ask": Case(
        "ask",
        f"ask: link, within: 1h, {ANSWERS}",
        "ask: link, within: 1h, answers: {https://x.example/no: last}",
        f"ask: link, within: 2h, {ANSWERS}",
    ),
    "if": Case("if", "if: {contact.tags: vip}, then: last", "if: {contact.tags: new}, then: last"),
    "choose": Case(
        "choose",
        "choose: [{when: {contact.tags: vip}, then: last}]",
        "choose: [{when: {contact.tags: new}, then: last}, {when: {contact.tags: vip}, then: last}]",
    ),
    "split": Case("split", "split: {x: 1, y: 1}", "split: {x: 1, y: 2, z: 1}"),
    "winning": Case(
        "split",
        "split: {x: 1, y: 1}, winner: {metric: opened}",
        "split: {x: 1, y: 1}, winner: {metric: clicked}",
    ),
    "parallel": Case(
        "parallel",
        "parallel: {x: [{id: inner, send: email, template: inner}], y: [{id: pause, wait: 10m}]}",
        "parallel: {x: [{id: inner, send: email, template: inner}], z: [{id: pause, wait: 10m}]}",
    ),
    "update": Case("update", "update: {attributes: {a: 1}}", "update: {attributes: {a: 2}}"),
    "tag": Case("tag", "tag: a", "tag: b"),
    "consent": Case("consent", "consent: {email: true}", "consent: {email: false}"),
    "suppress": Case("suppress", "suppress: email", "suppress: sms"),
    "score": Case("score", "score: {points: 1}", "score: {points: 2}"),
    "segment": Case("segment", "segment: {add: a}", "segment: {add: b}"),
    "notify": Case(
        "notify",
        "notify: email, to: staff@example.com, subject: a, text: a",
        "notify: email, to: staff@example.com, subject: b, text: b",
    ),
    "call": Case("call", "call: https://example.com/a, failed: last", "call: https://example.com/b, failed: last"),
    "enroll": Case("enroll", "enroll: a", "enroll: b"),
    "awaiting": Case("enroll", "enroll: a, await: 1h", "enroll: b, await: 1h"),
    "show": Case("show", "show: front, template: a", "show: front, template: b"),
    "hide": Case("hide", "hide: front", "hide: top"),
    "delete": Case("delete", "delete: contact", "delete: contact, outcome: done"),
    "end": Case("end", "end: done", "end: gone"),
}
EDITS = ("same", "changed", "retimed", "reordered", "gone", "placed", "out")
STANDS = ("ready", "acting", "waiting", "held")
HELD = {"send", "notify", "call"}
"""Kinds whose work may be put off: quiet hours and limits, a program that does not answer."""
LAST = "{id: last, send: email, template: last}"


def test_the_contract_is_about_every_kind_there_is() -> None:
    """A kind that is added has to be added here. Nobody ever stands on a `goto`, which leaves no step."""
    assert {case.key for case in KINDS.values()} == {kind.key for kind in registry.KINDS if kind.compile is not None}
    waits = {name for name in KINDS if isinstance(step_of(version(KINDS[name].was)), Wait)}
    assert waits == {name for name, case in KINDS.items() if case.retimed}


def version(step: str, above: str = "", name: str = "it") -> Plan:
    """A version with a step, and possibly another one above it; or without, if it is empty."""
    lines = ["{id: first, send: email, template: first}", "{id: way, if: {contact.tags: old}, then: last}"]
    lines += [above] if above else []
    lines += [f"{{id: {name}, {step}}}"] if step else []
    lines += [LAST, "{id: bottom, end: done}"]
    return journeys.compile(journeys.load("journey: j\nsteps:\n" + "".join(f"  - {line}\n" for line in lines)))


def step_of(plan: Plan, name: str = "it") -> Step:
    """The step of this id."""
    return plan.steps[number_of(plan, name)]


def number_of(plan: Plan, name: str) -> int:
    """The number of the step of this id."""
    return next(number for number, step in enumerate(plan.steps) if step.id == name)


def after(case: Case, edit: str) -> tuple[Plan, dict[str, str]]:  # noqa: PLR0911 - one line an edit
    """The version that contacts come to, and the placement."""
    match edit:
        case "same":
            return version(case.was), {}
        case "changed":
            return version(case.changed), {}
        case "retimed":
            return version(case.retimed), {}
        case "reordered":  # it stands behind a new letter now, and what led to it leads to that one
            return version(case.was, above="{id: new, send: email, template: new}"), {}
        case "gone":
            return version(""), {}
        case "placed":
            new = version("send: email, template: instead", name="instead")
            return new, dict.fromkeys(_gone(case, new), "instead")
        case "out":
            return version(""), dict.fromkeys(_gone(case, version("")), "end")
    raise AssertionError(edit)


def _gone(case: Case, new: Plan) -> list[str]:
    return [step.id for step in version(case.was).steps if step.id not in {one.id for one in new.steps}]


def standing(stands: str, old: Plan) -> tuple[Tokens, list[Input]]:
    """Enrollment 7, which came to the step under its second visit, and what is still to come of work under way.

    The machine itself takes it from `ready` further, so it stands as it does in earnest. Empty if nobody stands so.
    """
    tokens: Tokens = {(7, 0): Token(number_of(old, "it"), 2, "ready", 1, 100.0)}
    if stands == "ready":
        return tokens, []
    turn = advance(old, tokens, 100.0, [])
    flying = [result(old.steps[batch.step], *batch.members[0], 100.0) for batch in turn.batches]
    if number_of(old, "last") in {token.step for token in turn.tokens.values()}:  # nobody rests there
        return {}, []
    if stands == "acting":
        return (turn.tokens, flying) if flying else ({}, [])
    if stands == "held":
        return advance(old, turn.tokens, 100.0, [Held(7, 2, 650.0)]).tokens, []
    rested = advance(old, turn.tokens, 100.0, [*flying]) if flying else turn
    tokens = {key: token for key, token in rested.tokens.items() if token.step != number_of(old, "last")}
    return (tokens, []) if tokens and not rested.batches else ({}, [])


Sent = list[tuple[int, int, str]]


def live_on(
    new: Plan, tokens: Tokens, landings: Landings, flying: Sequence[Input], now: float
) -> tuple[Sent, list[Finish]]:
    """Carry on to the end; work takes one turn. Gives the messages that were begun, and how it ended."""
    sent: Sent = []
    finished: list[Finish] = []
    results: list[Input] = list(flying)
    for _ in range(50):
        turn = advance(new, tokens, now, moving.land(new, tokens, landings, results))
        tokens, results = turn.tokens, []
        finished += turn.finished
        for batch in turn.batches:
            step = new.steps[batch.step]
            for enrollment, visit in batch.members:
                if isinstance(step, Send | Notify):
                    sent.append((enrollment, visit, step.id))
                results.append(result(step, enrollment, visit, now))
        if not tokens:
            return sent, finished
        if not results:
            now = max(now, turn.next_due() or now)
    raise AssertionError(f"stuck: {tokens}")


def result(step: Step, enrollment: int, visit: int, now: float) -> Input:
    """What the activity of a step comes to."""
    if isinstance(step, Wait):
        if step.date and now > 200:  # the day is read anew when it has come, and is past then
            return Went(enrollment, visit, step.next, "timeout")
        return Due(enrollment, visit, now + 30)
    if isinstance(step, Split):
        return Went(enrollment, visit, step.arms[0].next, "arm:x")
    if isinstance(step, Choose):
        return Went(enrollment, visit, step.otherwise)
    assert isinstance(step, Send | Act | Notify)
    if step.next is None:
        assert isinstance(step, Act)
        return Ended(enrollment, visit, step.outcome)
    return Went(enrollment, visit, step.next)


POSSIBLE = [
    (kind, edit, stands)
    for kind, case in KINDS.items()
    for edit in EDITS
    for stands in STANDS
    if (edit != "retimed" or case.retimed) and (stands != "held" or kind in HELD)
    if standing(stands, version(case.was))[0]
]


@pytest.mark.parametrize(("kind", "edit", "stands"), POSSIBLE)
def test_nobody_is_lost_and_nobody_sent_twice(kind: str, edit: str, stands: str) -> None:
    case = KINDS[kind]
    old, (new, placement) = version(case.was), after(case, edit)
    assert edit_of(old, new, placement) == {"reordered": "same", "placed": "gone", "out": "gone"}.get(edit, edit)
    tokens, flying = standing(stands, old)
    moved = moving.move(old, new, ways(old, new, placement), tokens, {}, 200.0)
    tokens = restore(json.loads(json.dumps(dump(moved.tokens))))
    if edit == "out":
        assert [one.outcome for one in moved.finished] == [moving.OUTCOME]
        assert tokens == {}
        return
    sent, ended = live_on(new, tokens, moved.landings, flying, 200.0) if tokens else ([], [])
    finished = [*moved.finished, *ended]
    assert [one.enrollment for one in finished] == [7]
    assert [name for _, _, name in sent] == expected(kind, edit, stands, finished[0].outcome)
    visits = [2] if kind in {"send", "notify"} and stands == "acting" else []
    visits += [visit for _, visit, _ in sent]
    assert len(set(visits)) == len(visits), "two messages of one visit would be one message"


def edit_of(old: Plan, new: Plan, placement: Mapping[str, str]) -> str:
    """What the publisher is told of the step."""
    return next(one.edit for one in edits(old, new, placement) if one.step == "it")


def expected(kind: str, edit: str, stands: str, outcome: str) -> list[str]:  # noqa: PLR0911 - one line a case
    """The messages that are begun after the move, in order."""
    stays = edit in {"same", "changed", "retimed", "reordered"}
    if kind in {"delete", "end"} and edit == "gone":  # nothing came behind it
        assert outcome == moving.OUTCOME
        return []
    if kind in {"delete", "end"} and (stays or stands == "acting"):
        assert outcome == {"delete": "done" if edit == "changed" and stands == "ready" else "deleted",
                           "end": "gone" if edit == "changed" else "done"}[kind]  # fmt: skip
        return []
    assert outcome == "done"
    if kind in {"send", "notify"} and stays:
        return ["last"] if stands == "acting" else ["it", "last"]  # unless it had been sent
    if kind == "send" and edit == "placed":
        # A letter instead of a letter: who has been sent the one is not sent the other.
        return ["last"] if stands == "acting" else ["instead", "last"]
    if kind == "parallel" and stands != "ready":
        return ["last"]  # what the branches did is not done again
    if kind == "parallel" and stays:
        return ["inner", "last"]
    return ["instead", "last"] if edit == "placed" else ["last"]


def test_a_letter_under_way_lands_where_its_step_went() -> None:
    old = plan(letter("it", 1), Wait(id="pause", seconds=60, next=2), END)
    new = plan(letter("other", 1), Wait(id="pause", seconds=60, next=2), END)
    token = Token(0, 1, "acting", 1, 0.0)
    moved = moving.move(old, new, ways(old, new, {"it": "pause"}), {(1, 0): token}, {}, 5.0)
    assert moved.landings == {(1, 1): Landing((1,), stays=True)}
    turn = advance(new, moved.tokens, 6.0, moving.land(new, moved.tokens, moved.landings, [Went(1, 1, 1)]))
    assert [(visit.visit, visit.step, visit.via) for visit in turn.visits] == [(2, 1, "moved")]
    assert turn.tokens[1, 0].phase == "waiting"
    assert moved.landings == {}


def test_a_letter_that_could_not_leave_is_not_sent_once_its_step_is_gone() -> None:
    old = plan(letter("it", 1), Wait(id="pause", seconds=60, next=2), END)
    new = plan(Wait(id="pause", seconds=60, next=1), END)
    moved = moving.move(old, new, ways(old, new, {}), {(1, 0): Token(0, 1, "acting", 1, 0.0)}, {}, 5.0)
    landed = moving.land(new, moved.tokens, moved.landings, [Held(1, 1, 900.0)])
    assert landed == [Went(1, 1, 0, "moved")]


def test_two_moves_while_a_letter_is_under_way() -> None:
    first = plan(letter("it", 1), END)
    second = plan(letter("new", 1), letter("it", 2), letter("more", 3), END)
    third = plan(letter("new", 1), letter("more", 2), letter("it", 3), END)
    tokens: Tokens = {(1, 0): Token(0, 1, "acting", 1, 0.0)}
    once = moving.move(first, second, ways(first, second, {}), tokens, {}, 5.0)
    twice = moving.move(second, third, ways(second, third, {}), once.tokens, once.landings, 6.0)
    sent, finished = live_on(third, twice.tokens, twice.landings, [Went(1, 1, 1)], 7.0)
    assert (sent, finished[0].outcome) == ([], "done")


def test_a_wait_of_another_length_ends_by_it_counted_from_arrival() -> None:
    old = plan(Wait(id="pause", seconds=600, next=1), END)
    for seconds, due in ((900.0, 1008.0), (60.0, 160.0)):
        new = plan(Wait(id="pause", seconds=seconds, next=1), END)
        moved = moving.move(old, new, ways(old, new, {}), {(1, 0): Token(0, 1, "waiting", 1, 100.0, 702.0)}, {}, 300.0)
        assert (moved.tokens[1, 0].due, moved.tokens[1, 0].ends) == (due, due)
    assert [one.outcome for one in advance(new, moved.tokens, 300.0, []).finished] == ["done"]  # overdue


def test_a_wait_whose_ways_have_changed_keeps_its_end() -> None:
    old = plan(Wait(id="pause", seconds=600, next=1), END)
    new = plan(Wait(id="pause", seconds=600, until=(Until(subscription=0, next=1),), next=1), END)
    moved = moving.move(old, new, ways(old, new, {}), {(1, 0): Token(0, 1, "waiting", 1, 100.0, 702.0)}, {}, 300.0)
    assert moved.tokens[1, 0].due == 702.0
    assert advance(new, moved.tokens, 301.0, [Heard(1, 0)]).visits[0].via == "event"


def test_what_was_heard_is_known_by_its_new_number_and_forgotten_if_nobody_listens() -> None:
    old = plan(letter("it", 1), Wait(id="pause", seconds=60, until=(Until(subscription=0, next=2),), next=2), END)
    steps: tuple[Step, ...] = (
        letter("it", 1),
        Wait(id="pause", seconds=60, until=(Until(subscription=1, next=2),), next=2),
        END,
    )
    new = plan(*steps, subscriptions=(LEFT, PAID, GOAL, EVERYTHING))
    token = Token(0, 1, "acting", 1, 0.0, heard=(0,))
    moved = moving.move(old, new, ways(old, new, {}), {(1, 0): token}, {}, 5.0)
    assert moved.tokens[1, 0].heard == (1,)
    deaf = plan(letter("it", 1), Wait(id="pause", seconds=60, next=2), END, subscriptions=(LEFT, GOAL))
    assert moving.move(old, deaf, ways(old, deaf, {}), {(1, 0): token}, {}, 5.0).tokens[1, 0].heard == ()


def test_steps_without_an_id_are_found_by_what_they_do() -> None:
    old = plan(
        Wait(id="wait-1", seconds=60, next=1), letter("send-1", 2, "a"), Wait(id="wait-2", seconds=90, next=3), END
    )
    new = plan(
        Wait(id="wait-1", seconds=5, next=1),
        Wait(id="wait-2", seconds=60, next=2),
        letter("send-1", 3, "b"),
        Wait(id="wait-3", seconds=90, next=4),
        END,
    )
    assert heirs(old, new) == {0: 1, 1: 2, 2: 3, 3: 4}
    assert [(one.step, one.edit, one.to) for one in edits(old, new, {})] == [
        ("wait-1", "same", "wait-2"),
        ("send-1", "changed", "send-1"),
        ("wait-2", "same", "wait-3"),
        ("end", "same", "end"),
    ]


def split(name: str, to: int, arms: str = "xy", salt: str = "") -> Split:
    """A split as the compiler makes it, or with another version's salt."""
    made = tuple(Arm(name=arm, weight=1, next=to) for arm in arms)
    return Split(id=name, salt=salt or f"j:{name}", arms=made)


def _salts(steps: Plan) -> list[str]:
    return [step.salt for step in steps.steps if isinstance(step, Split)]


def test_contacts_keep_their_arms_when_a_split_is_put_above() -> None:
    old = plan(split("split-1", 1), split("split-2", 2, "yz"), END)
    new = plan(split("split-1", 1, "pq"), split("split-2", 2), split("split-3", 3, "yz"), END)
    kept = moving.keep_arms(old, new)
    assert _salts(kept) == ["j:split-1+1", "j:split-1", "j:split-2"]
    assert [one.edit for one in edits(old, kept, {})] == ["same"] * 3
    assert moving.keep_arms(kept, kept) == kept
    taken_out_again = moving.keep_arms(kept, plan(split("split-1", 1), split("split-2", 2, "yz"), END))
    assert taken_out_again == old
    named = moving.keep_arms(kept, plan(split("mine", 1, "pq"), split("own", 2), split("split-1", 3, "yz"), END))
    assert _salts(named) == _salts(kept)


def test_a_split_that_is_told_apart_by_its_id_keeps_its_arms_whatever_they_are() -> None:
    old = plan(split("mine", 1), END)
    assert _salts(moving.keep_arms(old, plan(split("other", 1), split("mine", 2, "xyz"), END))) == ["j:other", "j:mine"]


def test_edits_are_told_apart() -> None:
    old = plan(Wait(id="a", seconds=60, next=1), Wait(id="b", seconds=60, next=2), letter("c", 3), letter("d", 4), END)
    new = plan(Wait(id="a", seconds=5, next=2), letter("b", 2), letter("c", 3, "x"), END)
    found = [(one.step, one.edit, one.to) for one in edits(old, new, {"d": "end"})]
    assert found == [
        ("a", "retimed", "a"),
        ("b", "gone", None),
        ("c", "changed", "c"),
        ("d", "gone", "end"),
        ("end", "same", "end"),
    ]
    with pytest.raises(KeyError, match="nowhere"):
        edits(old, new, {"b": "nowhere"})


PARALLEL = plan(
    Parallel(id="both", branches=(Branch(name="x", next=1), Branch(name="y", next=3))),
    letter("x1", 2),
    Wait(id="x2", seconds=600, next=4),
    letter("y1", 4),
    Meeting(id="meet", next=5),
    letter("last", 6),
    END,
)


def forked() -> Tokens:
    """An enrollment of which one branch has sent and waits and the other is sending."""
    turn = advance(PARALLEL, {}, 0.0, [Join(1, 1)])
    first = next(batch for batch in turn.batches if batch.step == 1).members[0][1]
    return advance(PARALLEL, turn.tokens, 1.0, [Went(1, first, 2)]).tokens


def test_branches_move_with_their_enrollment() -> None:
    tokens = forked()
    second = next(token.visit for token in tokens.values() if token.phase == "acting")
    new = plan(letter("zero", 1), *(_shift(step) for step in PARALLEL.steps))
    moved = moving.move(PARALLEL, new, ways(PARALLEL, new, {}), tokens, {}, 5.0)
    sent, finished = live_on(new, moved.tokens, moved.landings, [Went(1, second, 4)], 6.0)
    assert [name for _, _, name in sent] == ["last"]
    assert len(finished) == 1


def test_branches_whose_beginning_is_gone_go_on_behind_where_they_would_have_met() -> None:
    new = plan(letter("x1", 1), letter("last", 2), END)
    moved = moving.move(PARALLEL, new, ways(PARALLEL, new, {}), forked(), {}, 5.0)
    assert set(moved.tokens) == {(1, 0)}
    sent, finished = live_on(new, moved.tokens, moved.landings, [Went(1, 3, 4)], 6.0)
    assert [name for _, _, name in sent] == ["last"]
    assert len(finished) == 1


def _shift(step: Step) -> Step:
    """A step whose ways lead one number further."""
    data = step.model_dump()
    for name in ("next", "otherwise", "failed"):
        if name in data:
            data[name] += 1
    for branch in data.get("branches", ()):
        branch["next"] += 1
    return type(step).model_validate(data)


def test_by_hand_to_another_step_and_out() -> None:
    old = version(KINDS["wait"].was)
    waiting, _ = standing("waiting", old)
    moved = moving.place(old, waiting, 7, number_of(old, "last"), "", {}, 200.0)
    assert (moved.tokens[7, 0].step, moved.tokens[7, 0].phase) == (number_of(old, "last"), "ready")
    assert [(visit.visit, visit.via) for visit in moved.visits] == [(3, "moved")]
    assert moving.place(old, waiting, 7, None, "refunded", {}, 200.0).finished == [Finish(7, 2, 200.0, "refunded")]
    old = version(KINDS["send"].was)
    acting, results = standing("acting", old)
    flying = moving.place(old, acting, 7, number_of(old, "it"), "", {}, 200.0)
    assert flying.visits == []
    sent, _ = live_on(old, flying.tokens, flying.landings, results, 201.0)
    assert sent == [(7, 3, "it"), (7, 4, "last")]  # asked to do the step again: a second letter, under its own visit
    assert set(moving.place(PARALLEL, forked(), 1, 5, "", {}, 2.0).tokens) == {(1, 0)}


# A property: whatever the two versions are, everybody comes to an end, and no message is begun twice under one visit.

NAMES = ("a", "b", "c", "d", "e", "f")


def _some_step(draw: st.DrawFn, name: str, to: int, other: int) -> Step:
    match draw(st.sampled_from(["send", "wait", "local", "choose", "update", "split"])):
        case "send":
            return letter(name, to, draw(st.sampled_from(["t1", "t2"])))
        case "wait":
            return Wait(id=name, seconds=draw(st.sampled_from([60.0, 600.0])), next=to)
        case "local":
            return Wait(id=name, local=LocalTime(time="10:00", zone="UTC"), next=to)
        case "choose":
            return Choose(id=name, branches=((0, other),), otherwise=to)
        case "update":
            return Act(id=name, kind="tag", data={"add": ["t"]}, next=to)
    arms = (Arm(name="x", weight=1, next=to), Arm(name="y", weight=1, next=other))
    return Split(id=name, salt=name, arms=arms)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True))
    steps: list[Step] = []
    for number, name in enumerate(names):
        follower = st.integers(number + 1, len(names))
        to = draw(follower)
        steps.append(_some_step(draw, name, to, draw(follower)))
    return plan(*steps, END)


@hypothesis_settings(max_examples=400, deadline=None)
@given(plans(), plans(), st.integers(0, 6), st.dictionaries(st.sampled_from(NAMES), st.sampled_from(("end", *NAMES))))
def test_whatever_the_versions_nobody_is_lost_and_nothing_is_sent_twice(
    old: Plan, new: Plan, turns: int, wishes: Mapping[str, str]
) -> None:
    known = {step.id for step in new.steps}
    placement = {name: to for name, to in wishes.items() if to in known}
    tokens: Tokens = {}
    flying: list[Input] = [Join(number, number) for number in range(6)]
    begun: list[tuple[int, int]] = []
    finished: set[int] = set()
    now = 0.0
    for _ in range(turns):
        turn = advance(old, tokens, now, flying)
        tokens, flying = turn.tokens, []
        finished |= {one.enrollment for one in turn.finished}
        for batch in turn.batches:
            step = old.steps[batch.step]
            begun += batch.members if isinstance(step, Send) else ()
            flying += [result(step, *member, now) for member in batch.members]
        now = now + 1 if flying else max(now, turn.next_due() or now)
    if turns == 0:
        return
    moved = moving.move(old, new, ways(old, new, placement), tokens, {}, now)
    assert {key[0] for key in moved.tokens} | {one.enrollment for one in moved.finished} | finished == set(range(6))
    sent, ended = live_on(new, moved.tokens, moved.landings, flying, now) if moved.tokens else ([], [])
    everybody = finished | {one.enrollment for one in (*moved.finished, *ended)}
    assert everybody == set(range(6))
    begun += [(enrollment, visit) for enrollment, visit, _ in sent]
    assert len(begun) == len(set(begun))


@hypothesis_settings(max_examples=200, deadline=None)
@given(plans())
def test_a_version_is_its_own_heir(same: Plan) -> None:
    assert heirs(same, same) == {number: number for number in range(len(same.steps))}
    assert {one.edit for one in edits(same, same, {})} == {"same"}


def test_every_branch_is_found_from_the_trunk() -> None:
    keys: list[Key] = branches_of(forked(), 1)
    assert keys[0] == (1, 0) and len(keys) == 3
