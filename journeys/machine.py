"""The machine: decides where tokens go. It is pure; `engine.cohort` performs what it decides.

`advance` takes a plan, the tokens that stand on it, the time and what has happened since, and gives the tokens' new
places and the work to do. No clock, database, network, random number or Temporal in here. Tokens never influence each
other, so it does not matter how contacts are divided into cohorts (invariant 1).
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from journeys.plan import Choose, End, Plan, Send, Split, Step, Update, Wait

Phase = Literal["ready", "acting", "waiting", "held"]
Tokens = dict[int, "Token"]
"""Enrollment id to its token."""

_MOST_MOVES = 1000


class Token(NamedTuple):
    """One enrollment's position in the plan."""

    step: int
    visit: int
    """How many steps were visited, this one included."""
    phase: Phase
    """ready: just arrived; acting: its batch is under way; waiting: until `due` or an event; held: the step is to be
    tried again at `due`."""
    seed: int
    """Of the contact (core.ids.seed); splits hash it."""
    since: float
    """When it arrived, in seconds since 1970."""
    due: float | None = None
    heard: tuple[int, ...] = ()
    """Subscriptions whose event came since the last wait ended. A wait that begins later takes them into account, so
    an answer that is quicker than our own sending is not lost."""


class Visit(NamedTuple):
    """A token came to a step."""

    enrollment: int
    visit: int
    step: int
    at: float
    via: str
    """next, branch, arm:NAME, event or timeout."""


class Waiting(NamedTuple):
    """When a token's present wait ends; None: only an event ends it."""

    enrollment: int
    visit: int
    due: float | None


class Finish(NamedTuple):
    """An enrollment is over."""

    enrollment: int
    visit: int
    at: float
    outcome: str


class Batch(NamedTuple):
    """Tokens that do the same step together."""

    step: int
    members: tuple[tuple[int, int], ...]
    """(enrollment, visit)"""


class Join(NamedTuple):
    """A contact enters."""

    enrollment: int
    seed: int


class Heard(NamedTuple):
    """An event came that the enrollment listens to."""

    enrollment: int
    subscription: int


class Went(NamedTuple):
    """An acting step is done; the token goes on to step `to`."""

    enrollment: int
    visit: int
    to: int
    via: str = "next"


class Due(NamedTuple):
    """The time until which a wait lasts has been found."""

    enrollment: int
    visit: int
    at: float


class Held(NamedTuple):
    """The acting step cannot be done now; try again at `until`."""

    enrollment: int
    visit: int
    until: float


class Stop(NamedTuple):
    """End every enrollment with this outcome."""

    outcome: str


Input = Join | Heard | Went | Due | Held | Stop


@dataclass
class Turn:
    """What `advance` decided."""

    tokens: Tokens
    batches: list[Batch] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    waits: list[Waiting] = field(default_factory=list)
    finished: list[Finish] = field(default_factory=list)

    def next_due(self) -> float | None:
        """The earliest time at which a token has to be looked at again."""
        return min((t.due for t in self.tokens.values() if t.due is not None), default=None)


def advance(
    plan: Plan, tokens: Mapping[int, Token], now: float, inputs: Sequence[Input], *, paused: bool = False
) -> Turn:
    """Apply what happened, let the due ones go on, and move every token until it rests.

    Args:
        plan: The graph the tokens stand on.
        tokens: Where they stand; not changed.
        now: The time, in seconds since 1970.
        inputs: What happened since the last turn, in order. What is no longer true of a token (it moved on, it has
            finished) is ignored, so inputs may be repeated.
        paused: Hold: note what happened, but begin no work and end no wait by time.

    Returns:
        The new tokens, batches of work to begin, and what to write down. Inputs come before time: where an event and
        the end of a wait fall into one turn, the event counts.
    """
    turn = Turn(dict(tokens))
    for item in inputs:
        _apply(plan, turn, now, item)
    if not paused:
        _release(plan, turn, now)
        _settle(plan, turn, now)
    return turn


def due_time(step: Wait, since: float) -> float | None:
    """When a wait that began at `since` ends: rounded up to an absolute grid of one second, or a hundredth of the wait
    up to one minute, so that contacts who came one by one leave together."""
    if step.seconds is None:
        return None
    due = since + step.seconds
    if step.precise:
        return due
    grid = min(60.0, max(1.0, step.seconds / 100))
    return math.ceil(due / grid) * grid


def choose_arm(step: Split, seed: int) -> tuple[str, int]:
    """The arm of a split that belongs to a contact: its name and where it leads."""
    digest = hashlib.sha256(f"{step.salt}:{seed}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * sum(arm.weight for arm in step.arms)
    for arm in step.arms:
        point -= arm.weight
        if point < 0:
            return arm.name, arm.next
    last = step.arms[-1]
    return last.name, last.next


def _apply(plan: Plan, turn: Turn, now: float, item: Input) -> None:
    match item:
        case Join(enrollment, seed):
            if enrollment not in turn.tokens:
                _arrive(turn, enrollment, Token(0, 0, "ready", seed, now), 0, now, "entry")
        case Stop(outcome):
            for enrollment in list(turn.tokens):
                _finish(turn, enrollment, now, outcome)
        case Heard(enrollment, subscription):
            token = turn.tokens.get(enrollment)
            if token is not None:
                _hear(plan, turn, enrollment, token, subscription, now)
        case Went() | Due() | Held():
            token = turn.tokens.get(item.enrollment)
            if token is not None and token.phase == "acting" and token.visit == item.visit:
                _act_ended(plan, turn, token, item, now)


def _act_ended(plan: Plan, turn: Turn, token: Token, item: Went | Due | Held, now: float) -> None:
    match item:
        case Went(enrollment, _, to, via):
            _arrive(turn, enrollment, token, to, now, via)
        case Due(enrollment, visit, at):
            waiting = token._replace(phase="waiting", due=at)
            turn.tokens[enrollment] = waiting
            if not _leave_if_heard(plan, turn, enrollment, waiting, now):
                turn.waits.append(Waiting(enrollment, visit, at))
        case Held(enrollment, visit, until):
            turn.tokens[enrollment] = token._replace(phase="held", due=until)
            turn.waits.append(Waiting(enrollment, visit, until))


def _hear(plan: Plan, turn: Turn, enrollment: int, token: Token, number: int, now: float) -> None:
    subscription = plan.subscriptions[number]
    if subscription.role != "wait":
        _finish(turn, enrollment, now, subscription.outcome)
        return
    if number not in token.heard:
        token = token._replace(heard=(*token.heard, number))
        turn.tokens[enrollment] = token
    if token.phase == "waiting":
        _leave_if_heard(plan, turn, enrollment, token, now)


def _leave_if_heard(plan: Plan, turn: Turn, enrollment: int, token: Token, now: float) -> bool:
    """End a wait whose event has come; says whether it did."""
    step = plan.steps[token.step]
    if isinstance(step, Wait):
        for way in step.until:
            if way.subscription in token.heard:
                _arrive(turn, enrollment, token._replace(heard=()), way.next, now, "event")
                return True
    return False


def _release(plan: Plan, turn: Turn, now: float) -> None:
    """Let go on whose time has come."""
    for enrollment, token in list(turn.tokens.items()):
        if token.due is None or token.due > now:
            continue
        if token.phase == "held":
            turn.tokens[enrollment] = token._replace(phase="ready", due=None)
        elif token.phase == "waiting":
            step = plan.steps[token.step]
            if isinstance(step, Wait) and not _leave_if_heard(plan, turn, enrollment, token, now):
                _arrive(turn, enrollment, token._replace(heard=()), step.next, now, "timeout")


def _settle(plan: Plan, turn: Turn, now: float) -> None:
    """Move the tokens that are ready until each of them acts, waits or has finished."""
    batches: dict[int, list[tuple[int, int]]] = {}
    for enrollment in [e for e, token in turn.tokens.items() if token.phase == "ready"]:
        for _ in range(_MOST_MOVES):
            token = turn.tokens.get(enrollment)
            if token is None or token.phase != "ready":
                break
            if _enter(plan.steps[token.step], plan, turn, enrollment, token, now):
                batches.setdefault(token.step, []).append((enrollment, token.visit))
        else:
            raise ValueError(f"step {plan.steps[turn.tokens[enrollment].step].id}: a loop without a wait")
    turn.batches.extend(Batch(step, tuple(members)) for step, members in sorted(batches.items()))


def _enter(step: Step, plan: Plan, turn: Turn, enrollment: int, token: Token, now: float) -> bool:
    """Do what a ready token does at its step; True when the token belongs into the step's batch."""
    match step:
        case Wait(local=None):
            due = due_time(step, token.since)
            waiting = token._replace(phase="waiting", due=due)
            turn.tokens[enrollment] = waiting
            if not _leave_if_heard(plan, turn, enrollment, waiting, now):
                turn.waits.append(Waiting(enrollment, token.visit, due))
            return False
        case Split():
            name, to = choose_arm(step, token.seed)
            _arrive(turn, enrollment, token, to, now, f"arm:{name}")
            return False
        case End():
            _finish(turn, enrollment, now, step.outcome)
            return False
        case Send() | Choose() | Update() | Wait():
            turn.tokens[enrollment] = token._replace(phase="acting")
            return not _leave_if_heard(plan, turn, enrollment, token, now)
    raise TypeError(f"no such step: {step!r}")


def _arrive(turn: Turn, enrollment: int, token: Token, step: int, now: float, via: str) -> None:
    moved = Token(step, token.visit + 1, "ready", token.seed, now, None, token.heard)
    turn.tokens[enrollment] = moved
    turn.visits.append(Visit(enrollment, moved.visit, step, now, via))


def _finish(turn: Turn, enrollment: int, now: float, outcome: str) -> None:
    token = turn.tokens.pop(enrollment)
    turn.finished.append(Finish(enrollment, token.visit, now, outcome))


def dump(tokens: Mapping[int, Token]) -> list[list[Any]]:
    """Tokens as plain lists, for a workflow's state."""
    return [[enrollment, *token] for enrollment, token in tokens.items()]


def restore(rows: Iterable[Sequence[Any]]) -> Tokens:
    """Tokens from what `dump` gave, also after a way through JSON."""
    return {row[0]: Token._make([*row[1:7], tuple(row[7])]) for row in rows}
