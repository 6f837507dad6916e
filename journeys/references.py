"""What a journey names that has to exist when it is published: templates, segments, attributes, other journeys."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import attributes
from core import documents
from core.documents import Path, did_you_mean
from core.errors import InvalidInput, Problem
from core.schema.journeys import journey as journeys
from core.schema.messages import template, template_version
from journeys.language import (
    CHANNELS,
    CONFIGURED_CHANNELS,
    AskStep,
    CallStep,
    ChooseStep,
    DateNode,
    EnrollStep,
    HideStep,
    IfStep,
    Journey,
    NotifyStep,
    ParallelStep,
    ScoreStep,
    SendStep,
    ShowStep,
    SplitStep,
    StepNode,
    UpdateStep,
    WaitStep,
    split_where,
)
from segments import criteria, store
from segments.criteria.check import attribute_types

CONTACT_FIELDS = frozenset({"id", "email", "phone", "external_id", "language", "time_zone", "tags"})
"""What templates find on each contact besides custom attributes."""


@dataclass(frozen=True)
class KnownTemplate:
    """A published template: its channel, and the dotted names of the values it uses."""

    channel: str
    variables: tuple[str, ...]


async def problems_of(connection: AsyncConnection, journey: Journey) -> list[Problem]:
    """Everything a journey names that does not exist or does not fit, in the order of lines."""
    types = await attribute_types(connection)
    templates = await _templates(connection)
    found = [*_send_problems(journey, templates, types), *_update_problems(journey, types)]
    found += [*_attribute_problems(journey, types), *_unbuilt_problems(journey)]
    found += await _enroll_problems(connection, journey)
    for path, data in criteria_of(journey):
        references = criteria.parse(data, documents.pointer(path)).references()
        wrong = await criteria.check(connection, references)
        found += [journey.document.problem(documents.parts(one.path), one.message, one.mend) for one in wrong]
    segment = journey.enter.segment
    if segment and not await store.is_there(connection, segment):
        path = ("enter", "segment")
        found.append(journey.document.problem(path, f"there is no segment {segment}", "publish it first, or write all"))
    return sorted(set(found), key=lambda one: (one.line, one.column, one.message))


def steps_of(journey: Journey) -> Iterator[tuple[Path, StepNode]]:
    """Every step with its path, branches right behind the step they belong to."""
    return _walk(journey.steps, ("steps",))


def _walk(steps: Any, path: Path) -> Iterator[tuple[Path, StepNode]]:
    if isinstance(steps, tuple):
        for index, step in enumerate(steps):
            here = (*path, index)
            yield here, step
            for place, branch in _branches(step):
                yield from _walk(branch, (*here, *place))


def _branches(step: StepNode) -> Iterator[tuple[Path, Any]]:  # noqa: PLR0912 - one case a kind
    match step:
        case IfStep():
            yield ("then",), step.then
            yield ("else",), step.otherwise
        case ChooseStep():
            for index, case in enumerate(step.choose):
                yield ("choose", index, "then"), case.then
            yield ("else",), step.otherwise
        case SplitStep():
            for name, arm in step.split.items():
                yield ("split", name, "then"), arm.then
        case ParallelStep():
            for name, steps in step.parallel.items():
                yield ("parallel", name), steps
        case WaitStep():
            for index, rule in enumerate(step.until):
                yield ("until", index, "then"), rule.then
            yield ("then",), step.then
            yield ("missing",), step.missing
        case CallStep():
            for index, answer in enumerate(step.answers):
                yield ("answers", index, "then"), answer.then
            yield ("failed",), step.failed
        case EnrollStep():
            for name, branch in step.outcomes.items():
                yield ("outcomes", name), branch
            yield ("late",), step.late
        case AskStep():
            for key, branch in step.answers.items():
                yield ("answers", key), branch
            yield ("else",), step.otherwise


def criteria_of(journey: Journey) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every criteria mapping on contacts with its path."""
    about_contact = split_where(journey.enter.where or {})[1]
    if about_contact:
        yield ("enter", "where"), about_contact
    for path, step in steps_of(journey):
        if isinstance(step, IfStep):
            yield (*path, "if"), step.criteria
        elif isinstance(step, ChooseStep):
            for index, case in enumerate(step.choose):
                yield (*path, "choose", index, "when"), case.when
        elif isinstance(step, WaitStep):
            for index, rule in enumerate(step.until):
                if rule.when is not None:
                    yield (*path, "until", index, "when"), rule.when


async def _templates(connection: AsyncConnection) -> dict[str, KnownTemplate]:
    rows = await connection.execute(
        select(template.c.name, template.c.channel, template_version.c.compiled["variables"].label("variables")).join(
            template_version, template_version.c.id == template.c.version_id
        )
    )
    return {row.name: KnownTemplate(row.channel, tuple(row.variables or ())) for row in rows}


def _send_problems(
    journey: Journey, templates: Mapping[str, KnownTemplate], types: Mapping[str, str]
) -> Iterator[Problem]:
    problem = journey.document.problem
    for path, step in steps_of(journey):
        if not isinstance(step, SendStep) or unbuilt(step) is not None:
            continue
        known = templates.get(step.template)
        if known is None:
            mend = did_you_mean(step.template, tuple(templates))
            mend = mend if mend.startswith("did") else "publish it first"
            yield problem((*path, "template"), f"there is no template {step.template}", mend)
        elif known.channel != step.send:
            message = f"the template {step.template} is for {known.channel}, not for {step.send}"
            yield problem((*path, "template"), message, "name another template")
        else:
            for name in unobtainable(known.variables, types, by_event=journey.enter.event is not None):
                message = f"the template {step.template} uses {name}, which is not to be had here"
                yield problem((*path, "template"), message, _obtain(name))


_NO_SITE = ("the channel site is not configured yet", "send an email meanwhile")
_UNBUILT = {
    "ask": {
        "form": ("forms on the site cannot ask yet", "ask by a link meanwhile"),
        "reply": ("replies are not read yet", "ask by a link meanwhile"),
        "keypad": ("the channel voice is not configured yet", "ask by a link meanwhile"),
    },
    "notify": {
        "sms": ("the channel sms is not configured yet", "notify by email meanwhile"),
        "webhook": ("staff cannot be notified by webhook yet", "use call, or notify by email"),
    },
    "send": {
        channel: (f"the channel {channel} is not configured yet", f"use {' or '.join(CONFIGURED_CHANNELS)} meanwhile")
        for channel in CHANNELS
        if channel not in CONFIGURED_CHANNELS
    },
    "show": {"show": _NO_SITE},
    "hide": {"hide": _NO_SITE},
}


def unbuilt(step: StepNode) -> tuple[str, str, str] | None:
    """Key, message and mend, if the step is part of the language and cannot be performed by this installation."""
    match step:
        case AskStep(ask=word):
            key = "ask"
        case NotifyStep(notify=word):
            key = "notify"
        case SendStep(send=word):
            key = "send"
        case ShowStep():
            key = word = "show"
        case HideStep():
            key = word = "hide"
        case _:
            return None
    said = _UNBUILT[key].get(word)
    return (key, *said) if said else None


def unbuilt_words(kind: str) -> dict[str, str]:
    """What cannot be published yet: values of the key of this step kind, or the kind itself; each with the reason."""
    return {word: message for word, (message, _) in _UNBUILT.get(kind, {}).items()}


def _unbuilt_problems(journey: Journey) -> Iterator[Problem]:
    for path, step in steps_of(journey):
        said = unbuilt(step)
        if said is not None:
            key, *words = said
            yield journey.document.problem((*path, key), *words)


def _attribute_problems(journey: Journey, types: Mapping[str, str]) -> Iterator[Problem]:
    """Attributes that entering and steps count on, read dates from, or save answers into."""
    if journey.enter.date:
        name = journey.enter.date.removeprefix("contact.")
        yield from _wants(journey, ("enter", "date"), name, types, ("date", "datetime"))
    for path, step in steps_of(journey):
        match step:
            case ScoreStep():
                for name in step.score:
                    yield from _wants(journey, (*path, "score", name), name, types, ("number",))
            case CallStep():
                for name in step.save:
                    yield from _wants(journey, (*path, "save", name), name, types, ())
            case WaitStep(wait=DateNode() as wait):
                name = wait.date.removeprefix("contact.")
                yield from _wants(journey, (*path, "wait", "date"), name, types, ("date", "datetime"))


def _wants(
    journey: Journey, path: Path, name: str, types: Mapping[str, str], kinds: tuple[str, ...]
) -> Iterator[Problem]:
    kind = types.get(name)
    if kind is None:
        mend = did_you_mean(name, tuple(types))
        mend = mend if mend.startswith("did") else "import contacts that have it, or create the attribute"
        yield journey.document.problem(path, f"contacts have no attribute {name}", mend)
    elif kinds and kind not in kinds:
        yield journey.document.problem(path, f"the attribute {name} is a {kind}", f"name a {' or a '.join(kinds)}")


async def _enroll_problems(connection: AsyncConnection, journey: Journey) -> list[Problem]:
    """Other journeys that do not exist; a journey may let contacts into itself."""
    steps = [(path, step) for path, step in steps_of(journey) if isinstance(step, EnrollStep)]
    if not steps:
        return []
    known = tuple((await connection.execute(select(journeys.c.name))).scalars())
    found = []
    for path, step in steps:
        if step.enroll in known or step.enroll == journey.journey:
            continue
        mend = did_you_mean(step.enroll, known)
        mend = mend if mend.startswith("did") else "publish it first"
        found.append(journey.document.problem((*path, "enroll"), f"there is no journey {step.enroll}", mend))
    return found


def unobtainable(variables: tuple[str, ...], types: Mapping[str, str], *, by_event: bool) -> list[str]:
    """The values a template uses that a journey cannot give: unknown attributes, and an event's without an event."""
    known = {f"contact.{name}" for name in (*types, *CONTACT_FIELDS)} | {"contact"}
    missing = []
    for variable in variables:
        root = variable.split(".")[0]
        attribute = ".".join(variable.split(".")[:2])
        if (root == "contact" and attribute not in known) or (root == "event" and not by_event):
            missing.append(variable)
    return missing


def _obtain(name: str) -> str:
    if name.startswith("event"):
        return "only journeys that are entered by an event have its properties"
    return "import contacts that have the attribute, or create it"


def _update_problems(journey: Journey, types: Mapping[str, str]) -> Iterator[Problem]:
    for path, step in steps_of(journey):
        if not isinstance(step, UpdateStep):
            continue
        for name, value in step.update.attributes.items():
            place = (*path, "update", "attributes", name)
            kind = types.get(name)
            if kind is None:
                mend = did_you_mean(name, tuple(types))
                mend = mend if mend.startswith("did") else "import contacts that have it, or create the attribute"
                yield journey.document.problem(place, f"contacts have no attribute {name}", mend)
            elif value is not None and not _fits(kind, value):
                message = f"the attribute {name} is a {kind}; {value!r} is not"
                yield journey.document.problem(place, message, f"write a {kind}")


def _fits(kind: str, value: Any) -> bool:
    try:
        attributes.fit(kind, value)
    except InvalidInput:
        return False
    return True
