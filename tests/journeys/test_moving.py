"""Moving contacts who are under way: step kind × edit kind × how the contact stands there, over the pure parts.

Nobody is lost, nobody is sent the same message twice.
"""

import json
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

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
    Watch,
    Window,
    Winner,
)
from journeys.plan import Join as Meeting
from journeys.tokens import Due, Finish, Heard, Held, Input, Join, Key, Token, Tokens, Went, branches_of, dump, restore

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
FAILED = (Branch(name="failed", next=2),)
ARMS = (Arm(name="x", weight=1, next=2), Arm(name="y", weight=1, next=2))

# What stands at number 1 of `letter → STEP → last letter → end`, by kind, as it was and as it may be changed.
KINDS: dict[str, tuple[Step, Step]] = {
    "send": (letter("it", 2), letter("it", 2, "another")),
    "wait": (
        Wait(id="it", seconds=600, next=2),
        Wait(id="it", seconds=600, until=(Until(subscription=0, next=2),), next=2),
    ),
    "local": (
        Wait(id="it", local=LocalTime(time="10:00", zone="UTC"), next=2),
        Wait(id="it", local=LocalTime(time="12:00", zone="UTC"), next=2),
    ),
    "choose": (
        Choose(id="it", branches=((0, 2),), otherwise=2),
        Choose(id="it", branches=((1, 2), (0, 2)), otherwise=2),
    ),
    "window": (
        Wait(id="it", window=Window(start="10:00", end="18:00"), next=2),
        Wait(id="it", window=Window(start="12:00", end="18:00"), next=2),
    ),
    "watching": (
        Wait(id="it", seconds=600, watches=(Watch(criteria=0, next=2),), watch_subscription=2, next=2),
        Wait(id="it", seconds=900, watches=(Watch(criteria=1, next=2),), watch_subscription=2, next=2),
    ),
    "winning": (
        Split(id="it", salt="a", arms=ARMS, winner=Winner(metric="opened", sample=10)),
        Split(id="it", salt="a", arms=ARMS, winner=Winner(metric="clicked", sample=10)),
    ),
    "notify": (
        Notify(id="it", to="staff@example.com", subject="a", text="a", next=2),
        Notify(id="it", to="staff@example.com", subject="b", text="b", next=2),
    ),
    "enroll": (
        Act(id="it", kind="enroll", data={"journey": "a", "awaited": False}, next=2),
        Act(id="it", kind="enroll", data={"journey": "b", "awaited": False}, next=2),
    ),
    "update": (
        Act(id="it", kind="tag", data={"add": ["a"]}, next=2),
        Act(id="it", kind="tag", data={"add": ["b"]}, next=2),
    ),
    "call": (
        Act(id="it", kind="call", data={"url": "https://example.com/a"}, ways=FAILED, next=2, long=True),
        Act(id="it", kind="call", data={"url": "https://example.com/b"}, ways=FAILED, next=2, long=True),
    ),
}
WAITS = {"wait", "local", "window", "watching"}
STANDS = ("ready", "acting", "waiting", "held")


def before(kind: str) -> Plan:
    """The version that contacts are on."""
    return plan(letter("first", 1), KINDS[kind][0], letter("last", 3), END)


def renumbered(step: Step, to: int) -> Step:
    """The same step with its ways leading to another number."""
    changes: dict[str, object] = (
        {"next": to}
        if not isinstance(step, Choose)
        else {
            "branches": tuple((criteria, to) for criteria, _ in step.branches),
            "otherwise": to,
        }
    )
    if isinstance(step, Act):
        changes["ways"] = tuple(way.model_copy(update={"next": to}) for way in step.ways)
    if isinstance(step, Split):
        changes = {"arms": tuple(arm.model_copy(update={"next": to}) for arm in step.arms)}
    if isinstance(step, Wait):
        changes["until"] = tuple(Until(subscription=way.subscription, next=to) for way in step.until)
        changes["watches"] = tuple(Watch(criteria=way.criteria, next=to) for way in step.watches)
    return step.model_copy(update=changes)


def after(kind: str, edit: str) -> tuple[Plan, dict[str, str]]:  # noqa: PLR0911 - one line an edit
    """The version that they come to, and the placement."""
    step = KINDS[kind][0]
    match edit:
        case "same":
            return before(kind), {}
        case "changed":
            return plan(letter("first", 1), KINDS[kind][1], letter("last", 3), END), {}
        case "retimed":
            shorter = Wait(id="it", seconds=60, next=2)
            return plan(letter("first", 1), shorter, letter("last", 3), END), {}
        case "reordered":  # it stands behind a new letter now, and what led to it leads to that one
            return plan(letter("first", 1), letter("new", 2), renumbered(step, 3), letter("last", 4), END), {}
        case "gone":
            return plan(letter("first", 1), letter("last", 2), END), {}
        case "placed":
            return plan(letter("first", 1), letter("instead", 2), letter("last", 3), END), {"it": "instead"}
        case "out":
            return plan(letter("first", 1), letter("last", 2), END), {"it": "end of it"}
    raise AssertionError(edit)


def standing(stands: str, kind: str) -> Tokens:
    """Enrollment 7 on the step, under its second visit."""
    due = {"waiting": 700.0, "held": 650.0}.get(stands)
    return {(7, 0): Token(1, 2, stands, 1, 100.0, due, ends=due)}  # type: ignore[arg-type]


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
                if isinstance(step, Send):
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
        return Due(enrollment, visit, now + 30)
    if isinstance(step, Split):
        return Went(enrollment, visit, step.arms[0].next, "arm:x")
    if isinstance(step, Choose):
        return Went(enrollment, visit, step.otherwise)
    assert isinstance(step, Send | Act | Notify) and step.next is not None
    return Went(enrollment, visit, step.next)


POSSIBLE = [
    (kind, edit, stands)
    for kind in KINDS
    for edit in ("same", "changed", "retimed", "reordered", "gone", "placed", "out")
    for stands in STANDS
    if (edit != "retimed" or kind == "wait")
    and (stands != "waiting" or kind in WAITS)
    and (stands != "held" or kind in {"send"})
    and (stands != "acting" or kind != "wait")
]


@pytest.mark.parametrize(("kind", "edit", "stands"), POSSIBLE)
def test_nobody_is_lost_and_nobody_sent_twice(kind: str, edit: str, stands: str) -> None:
    old, (new, placement) = before(kind), after(kind, edit)
    steps = ways(old, new, {name: "end" if to == "end of it" else to for name, to in placement.items()})
    if edit == "out":  # no step has this id, so it means: out of the journey
        new = new.model_copy(update={"steps": (*new.steps[:-1], End(id="bottom", outcome="done"))})
        steps = ways(old, new, {"it": "end"})
    tokens = standing(stands, kind)
    flying = [result(old.steps[1], 7, 2, 200.0)] if stands == "acting" else []
    moved = moving.move(old, new, steps, tokens, {}, 200.0)
    tokens = restore(json.loads(json.dumps(dump(moved.tokens))))
    if edit == "out":
        assert [one.outcome for one in moved.finished] == [moving.OUTCOME]
        assert tokens == {}
        return
    sent, finished = live_on(new, tokens, moved.landings, flying, 200.0)
    assert [(one.enrollment, one.outcome) for one in finished] == [(7, "done")]
    expected = {"placed": ["instead", "last"]}.get(edit, ["last"])
    if kind == "send" and edit in {"same", "changed", "reordered"} and stands != "acting":
        expected = ["it", "last"]  # it had not been sent
    if kind == "send" and edit == "placed":
        # A letter instead of a letter: who has been sent the one is not sent the other.
        expected = ["last"] if stands == "acting" else ["instead", "last"]
    assert [name for _, _, name in sent] == expected
    visits = [2] if kind == "send" and stands == "acting" else []
    visits += [visit for _, visit, _ in sent]
    assert len(set(visits)) == len(visits), "two messages of one visit would be one message"


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
    old = before("wait")
    moved = moving.place(old, standing("waiting", "wait"), 7, 2, "", {}, 200.0)
    assert (moved.tokens[7, 0].step, moved.tokens[7, 0].phase) == (2, "ready")
    assert [(visit.visit, visit.via) for visit in moved.visits] == [(3, "moved")]
    assert moving.place(old, standing("waiting", "wait"), 7, None, "refunded", {}, 200.0).finished == [
        Finish(7, 2, 200.0, "refunded")
    ]
    flying = moving.place(before("send"), standing("acting", "send"), 7, 1, "", {}, 200.0)
    assert flying.visits == []
    sent, _ = live_on(before("send"), flying.tokens, flying.landings, [Went(7, 2, 2)], 201.0)
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
