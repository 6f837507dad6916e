"""The machine: decides where tokens go. It is pure; `engine.cohort` performs what it decides.

`advance` takes a plan, the tokens that stand on it, the time and what has happened since, and gives the tokens' new
places and the work to do. No clock, database, network, random number or Temporal in here. Tokens of different
enrollments never influence each other, so it does not matter how contacts are divided into cohorts (invariant 1).

An enrollment has one token, its trunk (branch 0), until it comes to a `Parallel` step. There the trunk stays, `forked`,
and each branch gets a token of its own; where they meet (`Join`), the trunk goes on. The trunk counts the visits of all
branches, so that a visit's number is never given twice.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from journeys.plan import Act, Choose, End, Endings, Notify, Parallel, Plan, Send, Split, Step, Wait
from journeys.plan import Join as JoinStep
from journeys.tokens import (
    Batch,
    Due,
    Ended,
    Heard,
    Held,
    Input,
    Join,
    Key,
    Met,
    Stop,
    Token,
    Turn,
    Unmet,
    Waiting,
    Went,
    arrive,
    branched,
    branches_of,
    finish,
    give_up,
    next_end,
)

OVERDUE_SECONDS = 3600.0
"""A message is overdue when its contact came to it so much later than it should have, because of a pause."""
_EVENT_GRID = 5.0
"""Criteria are looked at again upon events, but not more often than this."""
_DOES = (Send, Notify, Act, End)
"""Steps before which the criteria that end the journey are looked at: those that do something, or end it."""
ENDLESS = "endless loop"
"""How an enrollment ends that runs in a circle without waiting. Publishing refuses such plans; should one be there all
the same, it must stop nobody else of the cohort."""
_MOST_MOVES = 1000


def advance(
    plan: Plan,
    tokens: Mapping[Key, Token],
    now: float,
    inputs: Sequence[Input],
    *,
    paused: bool = False,
    heard_until: float = math.inf,
) -> Turn:
    """Apply what happened, let the due ones go on, and move every token until it rests.

    Args:
        plan: The graph the tokens stand on.
        tokens: Where they stand; not changed.
        now: The time, in seconds since 1970.
        inputs: What happened since the last turn, in order. What is no longer true of a token (it moved on, it has
            finished) is ignored, so inputs may be repeated.
        paused: Hold: note what happened, but begin no work and end no wait by time.
        heard_until: Every event that was committed before this time is among the inputs up to now. A wait that an event
            could have ended does not end by time before this has come to its end.

    Returns:
        The new tokens, batches of work to begin, and what to write down. Inputs come before time: where an event and
        the end of a wait fall into one turn, the event counts.
    """
    turn = Turn(dict(tokens))
    for item in inputs:
        _apply(plan, turn, now, item)
    if not paused:
        _release(plan, turn, now, heard_until)
        _settle(plan, turn, now)
    turn.branched.extend(branched(turn.tokens, one) for one in turn.stirred if (one, 0) in turn.tokens)
    return turn


def grid_of(seconds: float) -> float:
    """The grid on which waits of a length end: one second, or a hundredth of the wait up to one minute, so that
    contacts who came one by one leave together."""
    return min(60.0, max(1.0, seconds / 100))


def due_time(step: Wait, since: float) -> float | None:
    """When a wait of a fixed length that began at `since` ends: rounded up to its grid."""
    if step.seconds is None:
        return None
    due = since + step.seconds
    if step.precise:
        return due
    grid = grid_of(step.seconds)
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
            if (enrollment, 0) not in turn.tokens:
                turn.tokens[enrollment, 0] = Token(0, 0, "ready", seed, now, look=first_look(plan, now))
                _arrive(turn, (enrollment, 0), 0, now, "entry")
        case Stop(outcome):
            for enrollment, branch in list(turn.tokens):
                if branch == 0:
                    turn.finished.append(finish(turn.tokens, enrollment, now, outcome))
        case Heard():
            _hear(plan, turn, item, now)
        case Met(enrollment, outcome):
            if (enrollment, 0) in turn.tokens:
                turn.finished.append(finish(turn.tokens, enrollment, now, outcome, met=True))
        case Unmet(enrollment, visit):
            _may_act(turn, enrollment, visit, now)
        case Went() | Due() | Held() | Ended():
            key = _acting(turn, item.enrollment, item.visit)
            if key is not None:
                _act_ended(plan, turn, key, item, now)


def first_look(plan: Plan, now: float) -> float | None:
    """When the criteria that end the journey are looked at for somebody who has just come to this plan: at once."""
    return None if plan.endings is None else now


def _may_act(turn: Turn, enrollment: int, visit: int, now: float) -> None:
    """Let the token that asked under this visit do its step."""
    for key in branches_of(turn.tokens, enrollment):
        token = turn.tokens[key]
        if token.phase == "asking" and token.visit == visit:
            turn.tokens[key] = token._replace(phase="ready", since=now)
            turn.unmet.add(key)


def _acting(turn: Turn, enrollment: int, visit: int) -> Key | None:
    """The token of this enrollment that acts under this visit."""
    token = turn.tokens.get((enrollment, 0))
    if token is None or not token.branches:
        return (enrollment, 0) if token is not None and token.phase == "acting" and token.visit == visit else None
    for key in branches_of(turn.tokens, enrollment):
        token = turn.tokens[key]
        if token.phase == "acting" and token.visit == visit:
            return key
    return None


def _act_ended(plan: Plan, turn: Turn, key: Key, item: Went | Due | Held | Ended, now: float) -> None:
    token = turn.tokens[key]
    match item:
        case Went(_, _, to, via):
            ended = isinstance(plan.steps[token.step], Wait)
            _arrive(turn, key, to, now, via, forget=ended)
        case Due():
            _wait_as_found(plan, turn, key, item, now)
        case Held(_, _, until):
            turn.tokens[key] = token._replace(phase="held", due=until)
            _note_wait(turn, key, until)
        case Ended(enrollment, _, outcome):
            turn.finished.append(finish(turn.tokens, enrollment, now, outcome))


def _wait_as_found(plan: Plan, turn: Turn, key: Key, found: Due, now: float) -> None:
    token = turn.tokens[key]
    step = plan.steps[token.step]
    if token.closing and isinstance(step, Wait) and token.ends is not None and token.ends <= now:
        if not _leave_if_heard(plan, turn, key, now):
            _arrive(turn, key, step.next, now, "timeout", forget=True)
        return
    ends = found.at
    if ends is None and isinstance(step, Wait):
        ends = due_time(step, token.since)
    again = found.again
    if again is not None and isinstance(step, Wait) and step.watch_subscription in token.heard:
        # Something happened to the contact while it was being looked at.
        again = min(again, _soon(now))
    times = [at for at in (ends, again) if at is not None]
    heard = tuple(number for number in token.heard if number != getattr(step, "watch_subscription", None))
    due = min(times, default=None)
    turn.tokens[key] = token._replace(phase="waiting", due=due, ends=ends, heard=heard, closing=False)
    if not _leave_if_heard(plan, turn, key, now) and ends != token.ends:
        _note_wait(turn, key, ends)


def _soon(now: float) -> float:
    return (math.floor(now / _EVENT_GRID) + 1) * _EVENT_GRID


def _hear(plan: Plan, turn: Turn, news: Heard, now: float) -> None:
    number = news.subscription
    subscription = plan.subscriptions[number]
    keys = branches_of(turn.tokens, news.enrollment)
    if keys and subscription.role in {"goal", "exit"}:
        turn.finished.append(finish(turn.tokens, news.enrollment, now, subscription.outcome))
        return
    if keys and plan.endings is not None and number == plan.endings.subscription:
        trunk = turn.tokens[keys[0]]
        if trunk.look is not None:
            turn.tokens[keys[0]] = trunk._replace(look=min(trunk.look, _soon(now)))
        return
    for key in keys:
        token = turn.tokens[key]
        if token.phase == "forked" or (news.event and turn.spent.get(key) == news.event):
            continue
        if subscription.role == "watch":
            _stir(plan, turn, key, number, now)
            continue
        if number not in token.heard:
            turn.tokens[key] = token._replace(heard=(*token.heard, number))
        if token.phase == "waiting" and _leave_if_heard(plan, turn, key, now):
            turn.spent[key] = news.event


def _stir(plan: Plan, turn: Turn, key: Key, number: int, now: float) -> None:
    """Let a wait for criteria be looked at soon."""
    token = turn.tokens[key]
    step = plan.steps[token.step]
    if not isinstance(step, Wait) or step.watch_subscription != number:
        return
    if token.phase == "waiting" and token.due is not None:
        turn.tokens[key] = token._replace(due=min(token.due, _soon(now)))
    elif token.phase == "acting" and number not in token.heard:
        turn.tokens[key] = token._replace(heard=(*token.heard, number))


def _leave_if_heard(plan: Plan, turn: Turn, key: Key, now: float) -> bool:
    """End a wait whose event has come; says whether it did."""
    token = turn.tokens[key]
    step = plan.steps[token.step]
    if isinstance(step, Wait):
        for way in step.until:
            if way.subscription in token.heard:
                _arrive(turn, key, way.next, now, "event", forget=True)
                return True
    return False


def _release(plan: Plan, turn: Turn, now: float, heard_until: float) -> None:
    """Let go on whose time has come."""
    any_wait = any(one.role in {"goal", "exit"} for one in plan.subscriptions)
    if plan.endings is not None:
        _look(plan.endings, turn, now)
    for key, token in list(turn.tokens.items()):
        if token.due is None or token.due > now:
            continue
        if token.phase == "held":
            late = token.late + now - token.due
            turn.tokens[key] = token._replace(phase="ready", since=now, due=None, late=late)
        elif token.phase == "waiting":
            step = plan.steps[token.step]
            if not isinstance(step, Wait) or _leave_if_heard(plan, turn, key, now):
                continue
            if token.ends is not None and heard_until < token.ends <= now and (step.until or any_wait):
                turn.unheard.add(key)
                continue
            # A date is read once more when it has come, for it may have been moved; an anniversary comes only once.
            # Criteria are looked at once more, for nobody may have told that they have come true.
            ends = step.date is None or step.date.yearly or step.seconds is not None
            if ends and token.ends is not None and token.ends <= now and not step.watches:
                turn.tokens[key] = token._replace(late=now - token.ends)
                _arrive(turn, key, step.next, now, "timeout", forget=True)
            else:
                late = 0.0 if token.ends is None else max(0.0, now - token.ends)
                closing = ends and token.ends is not None and token.ends <= now
                turn.tokens[key] = token._replace(phase="ready", due=None, late=late, closing=closing)


def _look(endings: Endings, turn: Turn, now: float) -> None:
    """Let the criteria that end the journey be looked at for those whose time it is. Until the answer comes contacts
    go on waiting; so the next look is set at once."""
    for key, token in turn.tokens.items():
        if token.look is not None and token.look <= now:
            grid = endings.look_seconds
            turn.tokens[key] = token._replace(look=(math.floor(now / grid) + 1) * grid)
            turn.looks.append((key[0], 0))


def _settle(plan: Plan, turn: Turn, now: float) -> None:
    """Move the tokens that are ready until each of them acts, waits, has forked or has finished."""
    batches: dict[tuple[int, int], dict[int, int]] = {}
    front = [key for key, token in turn.tokens.items() if token.phase == "ready"]
    for key in front:  # who has been ready since a turn in which nothing could begin is late
        token = turn.tokens[key]
        if token.since < now:
            turn.tokens[key] = token._replace(late=max(token.late, now - token.since))
    front.reverse()
    moves: dict[int, int] = {}
    while front:
        key = front.pop()
        ready = turn.tokens.get(key)
        if ready is None or ready.phase != "ready":
            continue
        moves[key[0]] = moves.get(key[0], 0) + 1
        if moves[key[0]] > _MOST_MOVES:
            turn.finished.append(finish(turn.tokens, key[0], now, ENDLESS))
            continue
        acts, more = _enter(plan.steps[ready.step], plan, turn, key, now)
        front += reversed(more)
        if acts:
            _into_batch(batches, ready.step, key[0], ready.visit)
    turn.batches.extend(
        Batch(step, tuple(members.items())) for (step, _), members in sorted(batches.items(), key=_place)
    )


def _place(batch: tuple[tuple[int, int], Any]) -> tuple[int, int]:
    return batch[0]


def _into_batch(batches: dict[tuple[int, int], dict[int, int]], step: int, enrollment: int, visit: int) -> None:
    """Put a member into the first batch of its step that has no other branch of the same enrollment."""
    number = 0
    while enrollment in batches.setdefault((step, number), {}):
        number += 1
    batches[step, number][enrollment] = visit


def _enter(  # noqa: PLR0911 - one line a kind
    step: Step, plan: Plan, turn: Turn, key: Key, now: float
) -> tuple[bool, list[Key]]:
    """Do what a ready token does at its step.

    Returns:
        Whether the token belongs into the step's batch, and which tokens are ready now.
    """
    token = turn.tokens[key]
    if plan.endings is not None and isinstance(step, _DOES) and key not in turn.unmet:
        turn.tokens[key] = token._replace(phase="asking")
        turn.looks.append((key[0], token.visit))
        return False, []
    match step:
        case Wait():
            return _enter_wait(step, plan, turn, key, now)
        case Split(winner=None):
            name, to = choose_arm(step, token.seed)
            _arrive(turn, key, to, now, f"arm:{name}")
            return False, [key]
        case Parallel():
            return False, _fork(step, turn, key, now)
        case JoinStep():
            return False, _join(step, plan, turn, key, now)
        case End():
            turn.finished.append(finish(turn.tokens, key[0], now, step.outcome))
            return False, []
        case Send(if_overdue="skip") if token.late > OVERDUE_SECONDS / plan.hasten:
            _arrive(turn, key, step.next, now, "overdue")
            return False, [key]
        case Send() | Choose() | Split() | Notify() | Act():
            turn.tokens[key] = token._replace(phase="acting")
            return True, []
    raise TypeError(f"no such step: {step!r}")


def _enter_wait(step: Wait, plan: Plan, turn: Turn, key: Key, now: float) -> tuple[bool, list[Key]]:
    token = turn.tokens[key]
    if token.ends is None:
        token = turn.tokens[key] = token._replace(late=0.0)
    if _leave_if_heard(plan, turn, key, now):
        return False, [key]
    due = due_time(step, token.since)
    if not step.asks:
        turn.tokens[key] = token._replace(phase="waiting", due=due, ends=due)
        _note_wait(turn, key, due)
        return False, []
    turn.tokens[key] = token._replace(phase="acting")
    return True, []


def _fork(step: Parallel, turn: Turn, key: Key, now: float) -> list[Key]:
    token = turn.tokens[key]
    turn.tokens[key] = token._replace(phase="forked", due=None, ends=None, heard=())
    token = token._replace(look=None)
    made: list[Key] = []
    for branch in step.branches:
        number = turn.tokens[key[0], 0].visit + 1
        child = (key[0], number)
        turn.tokens[child] = token._replace(phase="ready", branches=(), due=None, ends=None)
        turn.tokens[key] = turn.tokens[key]._replace(branches=(*turn.tokens[key].branches, number))
        _arrive(turn, child, branch.next, now, f"parallel:{branch.name}")
        made.append(child)
    return made


def _join(step: JoinStep, plan: Plan, turn: Turn, key: Key, now: float) -> list[Key]:
    enrollment, branch = key
    turn.stirred[enrollment] = None
    here = turn.tokens[key].step
    parents = [one for one in branches_of(turn.tokens, enrollment) if branch in turn.tokens[one].branches]
    if not parents:
        _arrive(turn, key, step.next, now, "join")
        return [key]
    parent = parents[0]
    token = turn.tokens.pop(key)
    trunk = turn.tokens[parent]
    left = tuple(one for one in trunk.branches if one != branch)
    inside = _subscriptions(plan, trunk.step, here)
    heard = (*trunk.heard, *(one for one in token.heard if one not in inside and one not in trunk.heard))
    if left and step.mode == "first":
        for one in left:
            give_up(turn.tokens, (enrollment, one))
        left = ()
    late = max(trunk.late, token.late)
    turn.tokens[parent] = trunk._replace(branches=left, heard=heard, late=late)
    if left:
        return []
    _arrive(turn, parent, step.next, now, "join")
    return [parent]


def _subscriptions(plan: Plan, begin: int, end: int) -> set[int]:
    """What the waits between a fork and its join listen to: of no interest once the branches have met."""
    waits = (step for step in plan.steps[begin:end] if isinstance(step, Wait))
    return {way.subscription for step in waits for way in step.until}


def _arrive(turn: Turn, key: Key, step: int, now: float, via: str, *, forget: bool = False) -> None:
    """Put a token on a step; `forget` what was heard when it leaves a wait."""
    turn.visits.append(arrive(turn.tokens, key, step, now, via, forget=forget))
    if key[1]:
        _note_wait(turn, key, None)


def _note_wait(turn: Turn, key: Key, ends: float | None) -> None:
    """Write down when the enrollment's present wait ends; where it has branches, the earliest end of theirs."""
    enrollment = key[0]
    trunk = turn.tokens[enrollment, 0]
    if trunk.phase == "forked":
        turn.stirred[enrollment] = None
        ends = next_end(turn.tokens, enrollment)
    turn.waits.append(Waiting(enrollment, trunk.visit, ends))
