"""What a journey names that has to exist when it is published: templates, segments, attributes, other journeys."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from core import documents
from core.documents import Path
from core.errors import Problem
from journeys import branches, compiler, enrolling
from journeys.language import Journey
from journeys.steps.grammar import StepNode, split_where
from journeys.steps.known import NO_ABILITIES, Abilities, Known
from journeys.steps.registry import BY_KEY, kind_of
from journeys.steps.send import SendStep
from segments import criteria, resolving, store
from segments.criteria.check import attribute_types


async def problems_of(
    connection: AsyncConnection, journey: Journey, abilities: Abilities = NO_ABILITIES
) -> list[Problem]:
    """Everything a journey names that does not exist or does not fit, in the order of lines."""
    await store.hold_still(connection)
    types = await attribute_types(connection)
    by_event = journey.enter.event is not None
    known = Known(
        connection,
        journey.journey,
        journey.document,
        types,
        by_event=by_event,
        abilities=abilities,
        asking={step.id: step.template for step in _letters(journey) if step.id is not None},
    )
    found = [*_unbuilt_problems(journey), *await _entry_problems(journey, known)]
    for path, step in steps_of(journey):
        found += await kind_of(step).check(step, known, path)
    found += await enrolling.endless(compiler.assemble(journey), known)
    for path, data in criteria_of(journey):
        here = documents.pointer(path)
        wrong = await resolving.problems_of(connection, criteria.parse(data, here, in_journey=True), here)
        found += [journey.document.problem(documents.parts(one.path), one.message, one.mend) for one in wrong]
    return sorted(set(found), key=lambda one: (one.line, one.column, one.message))


async def _entry_problems(journey: Journey, known: Known) -> list[Problem]:
    found: list[Problem] = []
    segment, date = journey.enter.segment, journey.enter.date
    if segment and not await store.is_there(known.connection, segment):
        mend = "publish it first, or write all"
        found.append(known.problem(("enter", "segment"), f"there is no segment {segment}", mend))
    if date:
        found += known.wants(("enter", "date"), date.removeprefix("contact."), ("date", "datetime"))
    return found


def steps_of(journey: Journey) -> Iterator[tuple[Path, StepNode]]:
    """Every step with its path, branches right behind the step they belong to."""
    return _walk(journey.steps, ("steps",))


def _walk(steps: tuple[StepNode, ...], path: Path) -> Iterator[tuple[Path, StepNode]]:
    for index, step in enumerate(steps):
        here = (*path, index)
        yield here, step
        for place, branch in branches.read(step):
            yield from _walk(branch, (*here, *place))


def _letters(journey: Journey) -> Iterator[SendStep]:
    for _, step in steps_of(journey):
        if isinstance(step, SendStep) and step.send == "email":
            yield step


def criteria_of(journey: Journey) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every criteria mapping on contacts with its path."""
    about_contact = split_where(journey.enter.where or {})[1]
    if about_contact:
        yield ("enter", "where"), about_contact
    for role, rules in (("goal", journey.goal), ("exit", journey.exit)):
        for index, rule in enumerate(rules):
            if rule.when is not None:
                yield (role, index, "when"), rule.when
    for path, step in steps_of(journey):
        for place, data in step.criteria():
            yield (*path, *place), data


def unbuilt(step: StepNode) -> tuple[str, str, str] | None:
    """Key, message and mend, if the step is part of the language and cannot be performed by this installation."""
    kind = kind_of(step)
    said = kind.unbuilt.get("*") or kind.unbuilt.get(str(getattr(step, kind.key, None)))
    return (kind.key, *said) if said else None


def unbuilt_words(kind: str) -> dict[str, str]:
    """What cannot be published yet: values of the key of this step kind, or `*`; each with the reason."""
    return {word: message for word, (message, _) in BY_KEY[kind].unbuilt.items()}


def _unbuilt_problems(journey: Journey) -> Iterator[Problem]:
    for path, step in steps_of(journey):
        said = unbuilt(step)
        if said is not None:
            key, *words = said
            yield journey.document.problem((*path, key), *words)
