"""`score`: numbers on the contact, counted up and down."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import scores
from core.documents import Path
from core.errors import Problem
from journeys.effects import first_time
from journeys.steps.grammar import StepNode, Words
from journeys.steps.kind import Data, Doing, Effect, Kind, act
from journeys.steps.known import Known
from journeys.steps.place import Draft, Place
from segments.supposing import Supposed


class ScoreStep(StepNode):
    """Add to a number on the contact, or take from it: once for each visit."""

    score: Annotated[
        dict[Words, Annotated[float, Field(ge=-1e12, le=1e12, strict=False)]], Field(min_length=1, max_length=20)
    ] = Field(description="Attribute to what is added; a missing attribute counts as 0")


class ScoreData(Data):
    """What is written in the plan."""

    amounts: dict[str, float]


def _compile(step: ScoreStep, place: Place) -> Draft:
    return act("score", step.id, ScoreData(amounts=step.score), place)


async def _check(step: ScoreStep, known: Known, path: Path) -> list[Problem]:
    return [one for name in step.score for one in known.wants((*path, "score", name), name, ("number",))]


async def _perform(connection: AsyncConnection, doing: Doing, data: ScoreData) -> None:
    fresh = await first_time(connection, doing.members)
    scored = [doing.contact_of[one] for one in fresh if one in doing.contact_of]
    await scores.add(connection, scored, data.amounts)


def _suppose(supposed: Supposed, data: ScoreData, value: Callable[[str], Any]) -> None:
    for name, amount in data.amounts.items():
        before = value(name)
        counted = isinstance(before, int | float) and not isinstance(before, bool)
        supposed.attributes[name] = (before if counted else 0) + amount


def _does(data: ScoreData) -> str:
    return ", ".join(f"{name} {amount:+g}" for name, amount in data.amounts.items())


KIND = Kind(
    key="score",
    model=ScoreStep,
    compile=_compile,
    check=_check,
    effect=Effect(
        data=ScoreData,
        does=_does,
        done=lambda data: f"was counted: {_does(data)}",
        perform=_perform,
        suppose=_suppose,
        reads=lambda data: data.amounts,
    ),
    element="serviceTask",
    drawn="named by what it does",
    example="""\
- score: {points: 10, patience: -1}
""",
)
