"""`update`: attributes, tags and consents of the contact, at once."""

from collections.abc import Callable
from typing import Any

from pydantic import Field, model_validator
from sqlalchemy.ext.asyncio import AsyncConnection

import contacts
from contacts import attributes
from core.documents import Path
from core.errors import InvalidInput, Problem
from journeys.steps import consent
from journeys.steps.grammar import Node, StepNode, Words, refusal
from journeys.steps.kind import Data, Doing, Effect, Kind, act
from journeys.steps.known import Known
from journeys.steps.place import Draft, Place
from journeys.steps.tag import Tags
from segments.supposing import Supposed


class Changes(Node):
    """What to write on the contact."""

    attributes: dict[Words, str | int | float | bool | list[str] | None] = Field(
        default_factory=dict, description="Name to value; null removes it"
    )
    tags: Tags = Field(Tags(), description="Tags to add and to remove")
    consents: consent.Consents = Field(
        default_factory=dict, description="Channel to true or false (for marketing), or to purposes"
    )

    @model_validator(mode="after")
    def _something(self) -> "Changes":
        if not (self.attributes or self.tags.add or self.tags.remove or self.consents):
            raise refusal("nothing to update", "add attributes, tags or consents")
        return self


class UpdateStep(StepNode):
    """Write attributes, tags and consents on the contact."""

    update: Changes = Field(description="What to write")


class UpdateData(Data):
    """What is written in the plan."""

    attributes: dict[str, Any] = Field(default_factory=dict)
    """Attribute name to value; null removes it."""
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    consents: consent.Granted = ()


def _compile(step: UpdateStep, place: Place) -> Draft:
    changes = step.update
    data = UpdateData(
        attributes=changes.attributes,
        add_tags=changes.tags.add,
        remove_tags=changes.tags.remove,
        consents=consent.granted(changes.consents),
    )
    return act("update", step.id, data, place)


async def _check(step: UpdateStep, known: Known, path: Path) -> list[Problem]:
    found: list[Problem] = []
    for name, value in step.update.attributes.items():
        place = (*path, "update", "attributes", name)
        missing = known.wants(place, name)
        found += missing
        if not missing and value is not None and not _fits(known.types[name], value):
            kind = known.types[name]
            found.append(known.problem(place, f"the attribute {name} is a {kind}; {value!r} is not", f"write a {kind}"))
    return found


def _fits(kind: str, value: Any) -> bool:
    try:
        attributes.fit(kind, value)
    except InvalidInput:
        return False
    return True


async def _perform(connection: AsyncConnection, doing: Doing, data: UpdateData) -> None:
    if data.attributes or data.add_tags or data.remove_tags:
        await contacts.apply(connection, doing.contacts, data.attributes, data.add_tags, data.remove_tags)
    await consent.record(connection, doing, data.consents)


def _suppose(supposed: Supposed, data: UpdateData, _value: Callable[[str], Any]) -> None:
    supposed.attributes.update(data.attributes)
    supposed.tags.update(dict.fromkeys(data.add_tags, True))
    supposed.tags.update(dict.fromkeys(data.remove_tags, False))
    consent.suppose(supposed, data.consents)


def _does(data: UpdateData) -> str:
    said = [f"{name} = {value}" if value is not None else f"remove {name}" for name, value in data.attributes.items()]
    said += [f"tag {tag}" for tag in data.add_tags] + [f"untag {tag}" for tag in data.remove_tags]
    said += [f"consent: {consent.words(data.consents)}"] if data.consents else []
    return ", ".join(said)


KIND = Kind(
    key="update",
    model=UpdateStep,
    compile=_compile,
    check=_check,
    effect=Effect(
        data=UpdateData,
        does=_does,
        done=lambda data: f"was written on: {_does(data)}",
        perform=_perform,
        suppose=_suppose,
    ),
    element="serviceTask",
    drawn="named by what it does",
    example="""\
- update:
    attributes: {plan: pro, trial_ends: null}
    tags: {add: customer, remove: [lead, trial]}
    consents: {email: true, sms: {news: false}}
""",
)
