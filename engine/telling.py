"""The words of histories: how a contact came to a step, what happened there and why, what it waits for. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from channels import reasons
from core.schema.messages import MessageState
from journeys import wording
from journeys.plan import Act, Choose, Notify, Plan, Send, Split, Step, Wait
from journeys.steps import wait
from journeys.steps.registry import effect_of, told_of
from journeys.wording import criteria, event

_LEFT_BY = {
    "branch": Choose,
    "otherwise": Choose,
    "arm": Split,
    "won": Split,
    "event": Wait,
    "timeout": Wait,
    "criteria": Wait,
}
"""Way to the kind of step that it leads out of."""


def came(plan: Plan, visits: Sequence[tuple[int, str]], place: int) -> str:
    """How a contact came to a step, and why it came this way.

    Args:
        plan: of the version it was on.
        visits: (step, via) of its visits in this version, in order.
        place: which of them is meant.
    """
    number, via = visits[place]
    kind, _, name = via.partition(":")
    before = _left(plan, visits, place, kind)
    match before:
        case Choose():
            return _chosen(plan, before, kind, name)
        case Wait():
            return _waited(plan, before, number, kind)
        case Split():
            total = sum(arm.weight for arm in before.arms)
            share = next((arm.weight / total for arm in before.arms if arm.name == name), None)
            how = "" if share is None else f" ({share:.0%} of contacts, by chance)"
            if kind == "won":
                how = ", which had won"
            return f"was given arm {name} of {before.id}{how}"
    return wording.way(via)


def _left(plan: Plan, visits: Sequence[tuple[int, str]], place: int, kind: str) -> Step | None:
    """The step that it came from; of several branches that are under way the one that leads here in this way."""
    wanted = _LEFT_BY.get(kind)
    if wanted is None:
        return None
    for number, _ in reversed(visits[:place]):
        step = plan.steps[number]
        if isinstance(step, wanted) and visits[place][0] in _targets(step):
            return step
    return None


def _targets(step: Step) -> set[int]:
    match step:
        case Choose():
            return {to for _, to in step.branches} | {step.otherwise}
        case Split():
            return {arm.next for arm in step.arms}
        case Wait():
            return {step.next, *(way.next for way in step.until), *(watch.next for watch in step.watches)}
    return set()


def _chosen(plan: Plan, step: Choose, kind: str, name: str) -> str:
    if kind == "branch" and name.isdigit() and 0 < int(name) <= len(step.branches):
        criterion = step.branches[int(name) - 1][0]
        which = "it held" if len(step.branches) == 1 else f"branch {name} of {step.id} held"
        return f"{which}: {criteria(plan, criterion)}"
    return "none held: " + "; ".join(criteria(plan, criterion) for criterion, _ in step.branches)


def _waited(plan: Plan, step: Wait, to: int, kind: str) -> str:
    if kind == "event":
        ways = [way for way in step.until if way.next == to]
        return " or ".join(event(plan.subscriptions[way.subscription].filter) for way in ways) + " came"
    if kind == "criteria":
        return " or ".join(criteria(plan, one.criteria) for one in step.watches if one.next == to) + ": it held"
    over = "the time had come" if step.seconds is None else f"{wording.span(step.seconds)} were over"
    missed = wait.ends(plan, step)
    return over + (f" without {missed}" if missed else "")


def doing(plan: Plan, step: Step, message: Any) -> str:
    """What happened at a step. `message` is the ledger's row of this visit, if there is one."""
    match step:
        case Act():
            effect = effect_of(step)
            return effect.done(effect.read(step))
        case Send() | Notify():
            purpose = step.purpose if isinstance(step, Send) else "staff"
            return _message(told_of(step).done(plan, step), message, step.channel, purpose)
    return told_of(step).done(plan, step)


def _message(thing: str, message: Any, channel: str, purpose: str) -> str:
    if message is None:
        return f"{thing}: not prepared yet"
    word = MessageState(message.state).name.lower().replace("_", " ")
    parts = [f"{thing} {word}"]
    if message.reason:
        parts.append(f"because {reasons.clause(message.reason, channel, purpose) or message.reason}")
    if message.opened_at:
        parts.append(f"opened at {_shown(message.opened_at)}")
    if message.clicked_at:
        parts.append(f"clicked at {_shown(message.clicked_at)}")
    return ", ".join(parts)


def held(plan: Plan, step: Send | Notify | Act) -> str:
    """What a step may be waiting for that could not be done yet: a message that is not prepared, or a call."""
    if isinstance(step, Act):
        return f"{step.kind} failed and will be tried again"
    rules, why = plan.rules, []
    if isinstance(step, Send) and step.priority != "alert":
        if rules.quiet is not None:
            why.append(f"quiet hours from {rules.quiet[0]} to {rules.quiet[1]}")
        if rules.window is not None:
            why.append(f"messages leave {wording.window(rules.window)}")
        if rules.per_minute is not None:
            why.append(f"at most {rules.per_minute:g} messages a minute")
    return f"{_thing(step)} is held back" + (f": {'; '.join(why)}" if why else "")


def queued(step: Send | Notify, message: Any, *, paused: bool) -> str:
    """What a message that is prepared is waiting for. `message` is its row of the ledger, with its provider's name."""
    why = "the journey is paused" if paused else f"waits for its turn with {message.provider}"
    more = f" ({message.reason})" if message.reason and not paused else ""
    return f"{_thing(step)} is ready to leave: {why}{more}"


def ended_early(plan: Plan) -> str:
    """The events and criteria that would end the journey at once; empty if there are none."""
    said = [f"{event(one.filter)} ({one.outcome})" for one in plan.subscriptions if one.role in {"goal", "exit"}]
    said += [f"{criteria(plan, one.criteria)} ({one.outcome})" for one in (plan.endings.rules if plan.endings else ())]
    return " or ".join(said)


def _thing(step: Send | Notify) -> str:
    return f"{step.channel} {step.template if isinstance(step, Send) else step.to}"


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
