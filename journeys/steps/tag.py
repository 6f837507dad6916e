"""`tag`: tags on the contact. The shortest step that acts; take it as the model for a new one."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncConnection

import contacts
from journeys.steps.grammar import Node, StepNode, WordList, refusal
from journeys.steps.kind import Data, Doing, Effect, Kind, act
from journeys.steps.place import Draft, Place
from segments.supposing import Supposed


class Tags(Node):
    """Tags to add and to remove; one or a list."""

    add: WordList = Field((), description="Tags to add")
    remove: WordList = Field((), description="Tags to take off")


def _added(value: Any) -> Any:
    """A lone tag, or a list of them, is to be added."""
    return {"add": value} if isinstance(value, str | list) else value


class TagStep(StepNode):
    """Add tags to the contact, or remove some."""

    tag: Annotated[Tags, BeforeValidator(_added, json_schema_input_type=Tags | str | list[str])] = Field(
        description="A tag or a list, to add; or what to add and what to remove"
    )

    @model_validator(mode="after")
    def _something(self) -> "TagStep":
        if not (self.tag.add or self.tag.remove):
            raise refusal("no tag is named", "write tag: vip, or tag: {remove: vip}")
        return self


class TagData(Data):
    """What is written in the plan."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def _compile(step: TagStep, place: Place) -> Draft:
    return act("tag", step.id, TagData(add=step.tag.add, remove=step.tag.remove), place)


async def _perform(connection: AsyncConnection, doing: Doing, data: TagData) -> None:
    await contacts.apply(connection, doing.contacts, {}, data.add, data.remove)


def _suppose(supposed: Supposed, data: TagData, _value: Callable[[str], Any]) -> None:
    supposed.tags.update(dict.fromkeys(data.add, True))
    supposed.tags.update(dict.fromkeys(data.remove, False))


def _does(data: TagData) -> str:
    return ", ".join([*data.add, *(f"not {tag}" for tag in data.remove)])


KIND = Kind(
    key="tag",
    model=TagStep,
    compile=_compile,
    effect=Effect(
        data=TagData,
        does=_does,
        done=lambda data: f"was tagged: {_does(data)}",
        perform=_perform,
        suppose=_suppose,
    ),
    element="serviceTask",
    drawn="named by what it does",
    example="""\
- tag: customer
- tag: {add: [customer, reader], remove: lead}
""",
)
