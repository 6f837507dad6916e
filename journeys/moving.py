"""Moving contacts who are under way from one version of a journey to another. Pure, like the machine.

A token hops to the step of the same id; where that step is gone, or does something else now, the publisher says where
to (the placement). Nobody is lost: a step on which nobody stood when the version was published, and on which somebody
stands when the move arrives, passes its contacts to the next step that is still there. Nothing is sent twice: a
message that is under way keeps its visit, from which its id is derived, and when it is done the contact goes on in the
new version.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import chain, count
from typing import Literal, NamedTuple

from journeys import canonical
from journeys.graph import successors
from journeys.machine import due_time, first_look
from journeys.plan import Choose, Join, Parallel, Plan, Split, Step, Wait
from journeys.tokens import Finish, Held, Input, Key, Token, Tokens, Visit, Went, arrive, branches_of, finish, give_up

END = "end"
"""In a placement: who stands there leaves the journey. A step of this id goes before."""
OUTCOME = "taken out"
"""How an enrollment ends that a placement takes out."""

Edit = Literal["same", "rerouted", "changed", "retimed", "gone"]
_VIA = "moved"
_TIMES = ("seconds", "local", "window", "date", "precise")


@dataclass(frozen=True)
class StepEdit:
    """What became of a step of an earlier version."""

    step: str
    kind: str
    edit: Edit
    """same; rerouted: it leads elsewhere; retimed: another length of waiting; changed; gone."""
    to: str | None
    """The step of the new version that its contacts go to; None when that has to be said."""


class Landing(NamedTuple):
    """How the work that was under way for a token when it was moved is to be understood when it is done."""

    exits: tuple[int, ...]
    """Where the step led, in the version that the work belongs to."""
    stays: bool
    """The token stands on its new step already and begins it, whatever the work came to."""


Landings = dict[tuple[int, int], Landing]
"""(enrollment, visit) to how its work lands."""


@dataclass
class Moved:
    """Tokens on their new places, and what to write down."""

    tokens: Tokens
    landings: Landings = field(default_factory=dict)
    visits: list[Visit] = field(default_factory=list)
    finished: list[Finish] = field(default_factory=list)


# --- which step is which


def heirs(old: Plan, new: Plan) -> dict[int, int]:
    """Which step of the new version stands for which of the old one.

    A step that was given an id is found by it. The others are numbered by their kind, and a step put between them
    shifts the numbers; so they are found by what they do, in their order, and only what is left by their number. A step
    that does another kind of thing under the same id is not the same step.
    """
    by_id = {step.id: number for number, step in enumerate(new.steps)}
    found: dict[int, int] = {}
    rest: list[int] = []
    for number, step in enumerate(old.steps):
        if _is_numbered(old, number):
            rest.append(number)
        elif step.id in by_id and new.steps[by_id[step.id]].kind == step.kind:
            found[number] = by_id[step.id]
    free = [number for number in range(len(new.steps)) if number not in found.values()]
    found |= _aligned(old, rest, new, free)
    taken = set(found.values())
    for number in rest:
        twin = by_id.get(old.steps[number].id)
        if number in found or twin is None or twin in taken or not _is_numbered(new, twin):
            continue
        if new.steps[twin].kind == old.steps[number].kind:
            found[number] = twin
    return dict(sorted(found.items()))


def _is_numbered(plan: Plan, number: int) -> bool:
    """Whether the step's id is one that the compiler made."""
    step = plan.steps[number]
    return bool(re.fullmatch(rf"(?:{step.kind}|if)-\d+", step.id))


def _aligned(old: Plan, olds: Sequence[int], new: Plan, news: Sequence[int]) -> dict[int, int]:
    left = [json.dumps(canonical.content(old, number), sort_keys=True) for number in olds]
    right = [json.dumps(canonical.content(new, number), sort_keys=True) for number in news]
    blocks = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return {olds[block.a + i]: news[block.b + i] for block in blocks for i in range(block.size)}


def keep_arms(old: Plan, new: Plan) -> Plan:
    """The new version with the splits that it has from the old one dealing as they did there.

    Which arm a contact takes, and which split a winner was found for, follows from a split's salt. That is made of the
    id, and ids that nobody wrote shift when a split is put above; so the heir takes the salt over, and a split that is
    new takes none that is in use.
    """
    kept = {heir: getattr(old.steps[number], "salt", None) for number, heir in heirs(old, new).items()}
    used = {salt for salt in kept.values() if salt is not None}
    steps: list[Step] = []
    for number, step in enumerate(new.steps):
        if isinstance(step, Split):
            salt = kept.get(number) or _unused(step.salt, used)
            used.add(salt)
            steps.append(step.model_copy(update={"salt": salt}))
        else:
            steps.append(step)
    return new.model_copy(update={"steps": tuple(steps)})


def _unused(salt: str, used: Collection[str]) -> str:
    names = chain([salt], (f"{salt}+{more}" for more in count(1)))
    return next(one for one in names if one not in used)


def edits(old: Plan, new: Plan, placement: Mapping[str, str]) -> list[StepEdit]:
    """What becomes of each step of the old version, in its order, with where the publisher places its contacts.

    Raises:
        KeyError: the placement names a step that the new version does not have.
    """
    same = heirs(old, new)
    ids = {step.id for step in new.steps}
    found = []
    for number, step in enumerate(old.steps):
        heir = same.get(number)
        edit = "gone" if heir is None else _edit(old, number, new, same)
        to = None if heir is None else new.steps[heir].id
        if step.id in placement:
            to = placement[step.id]
            if to != END and to not in ids:
                raise KeyError(to)
        found.append(StepEdit(step.id, step.kind, edit, to))
    return found


def _edit(old: Plan, number: int, new: Plan, same: Mapping[int, int]) -> Edit:
    heir = same[number]
    before, after = canonical.content(old, number), canonical.content(new, heir)
    if before != after:
        differing = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        return "retimed" if before["kind"] == "wait" and differing <= set(_TIMES) else "changed"
    led = [same.get(to) for to in successors(old.steps[number])]
    return "same" if led == list(successors(new.steps[heir])) else "rerouted"


class Way(NamedTuple):
    """Where contacts of a step go."""

    to: str
    """The id of a step of the new version, or `end`."""
    anew: bool
    """They begin there; otherwise it is the step that they are on already."""


def ways(old: Plan, new: Plan, placement: Mapping[str, str]) -> dict[str, Way]:
    """Where contacts go from each step of the old version, by ids.

    What is gone and not placed leads to the next of its followers that is still there, or out of the journey. A step
    that is placed on a new one of its kind has only another name: who is being sent the one is not sent the other.
    """
    same = heirs(old, new)
    known = {edit.step: edit.to for edit in edits(old, new, placement)}
    inherited = {new.steps[number].id for number in same.values()}
    kinds = {step.id: step.kind for step in new.steps}
    found: dict[str, Way] = {}
    for number, step in enumerate(old.steps):
        to = _way(old, number, known)
        heir = number in same and new.steps[same[number]].id == to
        renamed = step.id in placement and to not in inherited and kinds.get(to) == step.kind
        found[step.id] = Way(to, not (heir or renamed))
    return found


def _way(old: Plan, number: int, known: Mapping[str, str | None]) -> str:
    front, seen = [number], {number}
    while front:
        here = front.pop(0)
        to = known[old.steps[here].id]
        if to is not None:
            return to
        after = [one for one in reversed(successors(old.steps[here])) if one not in seen]  # the way without an event
        seen.update(after)
        front = [*after, *front]
    return END


# --- carrying tokens over


def move(
    old: Plan,
    new: Plan,
    steps: Mapping[str, Way],
    tokens: Mapping[Key, Token],
    landings: Mapping[tuple[int, int], Landing],
    now: float,
) -> Moved:
    """Put tokens of one version onto another.

    Args:
        old: the version they stand on.
        new: the version they come to.
        steps: where to, by step ids, as `ways` gives it.
        tokens: where they stand; not changed.
        landings: of work that was under way when they were moved before.
        now: the time, in seconds since 1970.
    """
    moved = Moved(dict(tokens))
    listened = heard_in(old, new)
    for key in list(tokens):
        token = moved.tokens.get(key)
        if token is None:  # its enrollment has ended, or it was a branch that was given up
            continue
        heard = sorted({one for subscription in token.heard for one in listened[subscription]})
        look = None if key[1] else first_look(new, now)
        moved.tokens[key] = token._replace(heard=tuple(heard), look=look)
        to, anew = _target(old, new, steps, token)
        if to is None:
            moved.finished.append(finish(moved.tokens, key[0], now, OUTCOME))
        elif anew:
            _begin(old, moved, key, to, landings.get((key[0], token.visit)), now)
        else:
            _stay(old, new, moved, key, to, landings.get((key[0], token.visit)))
    return moved


def _target(old: Plan, new: Plan, steps: Mapping[str, Way], token: Token) -> tuple[int | None, bool]:
    """The step that a token goes to, None for out, and whether it begins there."""
    by_id = {step.id: number for number, step in enumerate(new.steps)}
    way = steps[old.steps[token.step].id]
    if token.phase == "forked" and way.anew and way.to != END:
        # Where its branches began is gone. What they did must not be done again, so it goes on behind them.
        behind = _behind(old, token.step)
        way = Way(END if behind is None else steps[old.steps[behind].id].to, anew=True)
    return by_id.get(way.to), way.anew


def _behind(plan: Plan, number: int) -> int | None:
    """The step that follows where the branches of a parallel step meet; None if they never do."""
    front = [(to, 0) for to in successors(plan.steps[number])]
    seen = set(front)
    while front:
        here, depth = front.pop(0)
        step = plan.steps[here]
        if isinstance(step, Join) and depth == 0:
            return step.next
        deeper = depth + isinstance(step, Parallel) - isinstance(step, Join)
        after = [(to, deeper) for to in successors(step) if (to, deeper) not in seen]
        seen.update(after)
        front += after
    return None


def _begin(plan: Plan, moved: Moved, key: Key, to: int, before: Landing | None, now: float) -> None:
    """Let a token begin at another step, once what is under way for it has come to its end."""
    _give_up_branches(moved, key)
    step = plan.steps[moved.tokens[key].step]
    if _flies(moved.tokens[key], step):
        _keep_flying(moved, key, to, successors(step) if before is None else before.exits, stays=True)
    else:
        moved.visits.append(arrive(moved.tokens, key, to, now, _VIA))


def _flies(token: Token, step: Step) -> bool:
    """Whether something is under way that changes the world; waits and choices only ask, and can be asked anew."""
    return token.phase == "acting" and not isinstance(step, Choose | Wait)


def _stay(old: Plan, new: Plan, moved: Moved, key: Key, to: int, before: Landing | None) -> None:
    """Leave a token on its step, which is step `to` of the new version."""
    token = moved.tokens[key]
    was = old.steps[token.step]
    if _flies(token, was):
        before = before or Landing(successors(was), stays=False)
        _keep_flying(moved, key, to, before.exits, before.stays)
    elif token.phase == "acting":
        moved.visits.append(arrive(moved.tokens, key, to, token.since, _VIA))
    elif token.phase == "asking":  # the criteria of this version are to be asked, not those of the one before
        moved.tokens[key] = token._replace(step=to, phase="ready")
    elif token.phase == "waiting":
        _wait_on(old, new, moved, key, to)
    else:
        moved.tokens[key] = token._replace(step=to)


def _keep_flying(moved: Moved, key: Key, to: int, exits: tuple[int, ...], stays: bool) -> None:
    """Let the work that is under way for a token come to its end under the visit it was begun for."""
    token = moved.tokens[key]
    moved.landings[key[0], token.visit] = Landing(exits, stays)
    moved.tokens[key] = token._replace(step=to)


def _wait_on(old: Plan, new: Plan, moved: Moved, key: Key, to: int) -> None:
    """Keep a contact waiting: until its arrival plus the new length, where that has changed."""
    token = moved.tokens[key]
    was, here, step = canonical.content(old, token.step), canonical.content(new, to), new.steps[to]
    if was == here or not isinstance(step, Wait):
        moved.tokens[key] = token._replace(step=to)
    elif step.asks:  # only an activity knows the contact's zone, date and facts
        moved.visits.append(arrive(moved.tokens, key, to, token.since, _VIA))
    elif any(was.get(name) != here.get(name) for name in _TIMES):
        due = due_time(step, token.since)
        moved.tokens[key] = token._replace(step=to, due=due, ends=due)
    else:
        moved.tokens[key] = token._replace(step=to)


def _give_up_branches(moved: Moved, key: Key) -> None:
    for branch in moved.tokens[key].branches:
        give_up(moved.tokens, (key[0], branch))
    moved.tokens[key] = moved.tokens[key]._replace(branches=())


def heard_in(old: Plan, new: Plan) -> list[list[int]]:
    """By number of the old version's subscriptions: those of the new version that listen to just the same."""
    return [
        [number for number, twin in enumerate(new.subscriptions) if (twin.role, twin.filter) == (one.role, one.filter)]
        for one in old.subscriptions
    ]


def land(plan: Plan, tokens: Mapping[Key, Token], landings: Landings, items: Iterable[Input]) -> list[Input]:
    """Turn results of work that was begun in an earlier version into this version's.

    Args:
        plan: the version that the tokens stand on.
        tokens: where they stand.
        landings: of the work under way; what has landed is taken out.
        items: what happened, in order.
    """
    return [_landed(plan, tokens, landings, item) for item in items]


def _landed(plan: Plan, tokens: Mapping[Key, Token], landings: Landings, item: Input) -> Input:
    if not isinstance(item, Went | Held):
        return item
    landing = landings.pop((item.enrollment, item.visit), None)
    if landing is None:
        return item
    for key in branches_of(tokens, item.enrollment):
        token = tokens[key]
        if token.phase == "acting" and token.visit == item.visit:
            if landing.stays:
                return Went(item.enrollment, item.visit, token.step, "moved")
            if isinstance(item, Went):
                return item._replace(to=_exit(plan, token.step, landing, item.to))
    return item


def _exit(plan: Plan, number: int, landing: Landing, to: int) -> int:
    """The way out of a step that is the same as another version's: the same one by order, or the last, which is the
    one without conditions, when their number has changed."""
    exits = successors(plan.steps[number])
    place = landing.exits.index(to) if to in landing.exits else -1
    return exits[place] if len(exits) == len(landing.exits) else exits[-1]


# --- by hand


def place(
    plan: Plan,
    tokens: Mapping[Key, Token],
    enrollment: int,
    to: int | None,
    outcome: str,
    landings: Mapping[tuple[int, int], Landing],
    now: float,
) -> Moved:
    """Put one contact onto another step of its version, as a person asked, or out of the journey (`to` is None).

    What is being sent to it goes out once; then it begins at that step. Branches that are under way are given up.
    """
    moved = Moved(dict(tokens))
    key = (enrollment, 0)
    if to is None:
        moved.finished.append(finish(moved.tokens, enrollment, now, outcome))
        return moved
    token = moved.tokens[key] = moved.tokens[key]._replace(heard=())
    _begin(plan, moved, key, to, landings.get((enrollment, token.visit)), now)
    return moved
