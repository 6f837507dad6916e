"""`segment`: the contact is put on lists, or taken off them."""

from collections.abc import Callable
from typing import Any

from pydantic import Field, model_validator
from sqlalchemy.ext.asyncio import AsyncConnection

from core.documents import Path
from core.errors import Problem
from journeys.steps.grammar import Node, StepNode, WordList, refusal
from journeys.steps.kind import Data, Doing, Effect, Kind, act
from journeys.steps.known import Known
from journeys.steps.place import Draft, Place
from segments import store
from segments.supposing import Supposed


class Lists(Node):
    """Segments to put the contact on, and to take it off; one or a list."""

    add: WordList = Field((), description="Segments to put it on")
    remove: WordList = Field((), description="Segments to take it off")

    @model_validator(mode="after")
    def _sensible(self) -> "Lists":
        if not (self.add or self.remove):
            raise refusal("no segment is named", "write segment: {add: vip}, or {remove: vip}")
        both = sorted({*self.add} & {*self.remove})
        if both:
            raise refusal(f"{both[0]} is added and removed at once", "take it out of one of them")
        return self


class SegmentStep(StepNode):
    """Put the contact on segments that are lists, or take it off them."""

    segment: Lists = Field(description="Which; segments with criteria have no list")


class SegmentData(Data):
    """What is written in the plan."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def _compile(step: SegmentStep, place: Place) -> Draft:
    return act("segment", step.id, SegmentData(add=step.segment.add, remove=step.segment.remove), place)


async def _check(step: SegmentStep, known: Known, path: Path) -> list[Problem]:
    """That the segments exist and are lists."""
    is_list = await known.once(store.lists)
    found: list[Problem] = []
    for key, names in (("add", step.segment.add), ("remove", step.segment.remove)):
        for number, name in enumerate(names):
            place = (*path, "segment", key, number)
            if name not in is_list:
                found.append(known.missing(place, "segment", name, tuple(is_list), "publish it first"))
            elif not is_list[name]:
                message = f"the members of {name} follow from its criteria"
                found.append(known.problem(place, message, "name a segment that is a list"))
    return found


async def _perform(connection: AsyncConnection, doing: Doing, data: SegmentData) -> None:
    for name in sorted(data.add):
        await store.add_members(connection, name, doing.contacts)
    for name in sorted(data.remove):
        await store.remove_members(connection, name, doing.contacts)


def _suppose(supposed: Supposed, data: SegmentData, _value: Callable[[str], Any]) -> None:
    supposed.lists.update(dict.fromkeys(data.add, True))
    supposed.lists.update(dict.fromkeys(data.remove, False))


def _does(data: SegmentData) -> str:
    return ", ".join([*data.add, *(f"not {name}" for name in data.remove)])


KIND = Kind(
    key="segment",
    model=SegmentStep,
    compile=_compile,
    check=_check,
    effect=Effect(
        data=SegmentData,
        does=_does,
        done=lambda data: f"was listed: {_does(data)}",
        perform=_perform,
        suppose=_suppose,
    ),
    element="serviceTask",
    drawn="named by what it does",
    example="""\
- segment: {add: vip, remove: [trial, newcomers]}
""",
)
