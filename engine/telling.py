"""The words of histories: how a contact came to a step, what happened there and why, what it waits for. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from channels.policy import Reason
from core.errors import InvalidInput
from core.schema.messages import MessageState
from journeys import picture
from journeys.plan import (
    Call,
    Choose,
    Delete,
    End,
    Enroll,
    EventFilter,
    Join,
    Notify,
    Parallel,
    Plan,
    Send,
    Show,
    Split,
    Step,
    Update,
    Wait,
)
from segments import eventfilter
from segments.criteria import parse

_WAYS = {
    "entry": "entered",
    "next": "went on",
    "moved": "was moved, by a new version or by hand",
    "missing": "there is no such date",
    "overdue": "the message was overdue and left out",
    "join": "the branches have met",
    "answered": "there was an answer",
    "failed": "the call failed",
}
_LEFT_BY = {
    "branch": Choose,
    "otherwise": Choose,
    "arm": Split,
    "event": Wait,
    "timeout": Wait,
    "criteria": Wait,
}
"""Way to the kind of step that it leads out of."""

_REASONS = {
    Reason.CONTACT_GONE: "the contact exists no more",
    Reason.NO_ADDRESS: "the contact has no address for {channel}",
    Reason.INVALID_ADDRESS: "the contact's address cannot be written to",
    Reason.NO_CONSENT: "the contact has not agreed to {purpose} by {channel}",
    Reason.SUPPRESSED: "the address must not be used",
    Reason.DUPLICATE: "the address got this step's message a moment before",
    Reason.FREQUENCY_CAP: "the contact had enough messages lately",
    Reason.MISSING_VALUE: "the message needs a value that is missing",
    Reason.CANNOT_RENDER: "the template failed on this contact's values",
    Reason.NEVER_OPEN: "the journey's send window does not open within a year",
}


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
            return f"was given arm {name} of {before.id}{how}"
    words = {"branch": "branch {} held", "arm": "was given arm {}", "parallel": "began the branch {}"}
    words["answer"] = "answer {} held"
    others = {"otherwise": "no branch held", "event": "the event came", "timeout": "the time had come"}
    others["criteria"] = "the criteria held"
    return words[kind].format(name) if kind in words else (_WAYS | others).get(kind, via)


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
    over = "the time had come" if step.seconds is None else f"{picture.span(step.seconds)} were over"
    missed = _ends(plan, step)
    return over + (f" without {missed}" if missed else "")


def doing(plan: Plan, step: Step, message: Any) -> str:  # noqa: PLR0911, PLR0912 - one line a kind
    """What happened at a step. `message` is the ledger's row of this visit, if there is one."""
    match step:
        case Send():
            return _message(f"{step.channel} {step.template}", message, step.channel, step.purpose)
        case Notify():
            return _message(f"{step.channel} to {step.to}", message, step.channel, "staff")
        case Wait():
            return waiting(plan, step)
        case Choose():
            asked = "; or else: ".join(criteria(plan, criterion) for criterion, _ in step.branches)
            return f"asked whether this holds: {asked}"
        case Split():
            return "was put into an arm of the split"
        case Parallel():
            return f"goes {len(step.branches)} ways at the same time"
        case Join():
            return "waits for the other branches" if step.mode == "all" else "the first branch to come goes on"
        case Update():
            return "was written on: " + picture.written(step)
        case Call():
            return f"asked {urlsplit(step.url).hostname}"
        case Enroll():
            return f"was let into {step.journey}"
        case Show():
            return f"is shown {step.template} in {step.slot}" if step.template else f"{step.slot} is hidden"
        case Delete():
            return "was erased"
        case End():
            return "reached the end"
    raise TypeError(f"no such step: {step!r}")


def _message(thing: str, message: Any, channel: str, purpose: str) -> str:
    if message is None:
        return f"{thing}: not prepared yet"
    word = MessageState(message.state).name.lower().replace("_", " ")
    parts = [f"{thing} {word}"]
    if message.reason:
        parts.append(f"because {reason(message.reason, channel, purpose)}")
    if message.opened_at:
        parts.append(f"opened at {_shown(message.opened_at)}")
    if message.clicked_at:
        parts.append(f"clicked at {_shown(message.clicked_at)}")
    return ", ".join(parts)


def reason(stored: str, channel: str, purpose: str) -> str:
    """Why a message was not sent, from what stands on its row; a provider's own words stay as they are."""
    word, _, detail = stored.partition(": ")
    if word not in list(Reason):
        return stored
    said = _REASONS[Reason(word)].format(channel=channel, purpose=purpose)
    return f"{said} ({detail})" if detail else said


def waiting(plan: Plan, step: Wait) -> str:
    """How long a wait lasts, and what ends it before."""
    ends = _ends(plan, step)
    if step.date is not None:
        until = f"until {picture.date_of(step.date)}"
    elif step.window is not None:
        until = f"until it is {picture.window(step.window)}"
    elif step.local is not None:
        until = f"until {picture.local_time(step.local)}"
    elif step.seconds is not None:
        until = f"for {picture.span(step.seconds)}"
    else:
        return f"waits for {ends}, as long as it takes" if ends else "waits for ever"
    return f"waits {until}" + (f", or until {ends}" if ends else "")


def held(plan: Plan, step: Send | Notify) -> str:
    """What a message that is not prepared yet may be waiting for."""
    rules, why = plan.rules, []
    if isinstance(step, Send) and step.priority != "alert":
        if rules.quiet is not None:
            why.append(f"quiet hours from {rules.quiet[0]} to {rules.quiet[1]}")
        if rules.window is not None:
            why.append(f"messages leave {picture.window(rules.window)}")
        if rules.per_minute is not None:
            why.append(f"at most {rules.per_minute:g} messages a minute")
    thing = step.template if isinstance(step, Send) else step.to
    return f"{step.channel} {thing} is held back" + (f": {'; '.join(why)}" if why else "")


def ended_early(plan: Plan) -> str:
    """The events that would end the journey at once; empty if there are none."""
    said = [f"{event(one.filter)} ({one.outcome})" for one in plan.subscriptions if one.role in {"goal", "exit"}]
    return " or ".join(said)


def criteria(plan: Plan, number: int) -> str:
    """Criteria of a plan in words. Those of a version that knew others stay as they are written."""
    try:
        return parse(plan.criteria[number]).words()
    except InvalidInput:
        return str(plan.criteria[number])


def event(given: EventFilter) -> str:
    """An event and what must be true of it."""
    name = given.event if given.event != "*" else "anything"
    return f"{name} where {eventfilter.phrase(given.where)}" if given.where else name


def _ends(plan: Plan, step: Wait) -> str:
    ends = [event(plan.subscriptions[way.subscription].filter) for way in step.until]
    ends += [criteria(plan, watch.criteria) for watch in step.watches]
    return " or ".join(ends)


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
