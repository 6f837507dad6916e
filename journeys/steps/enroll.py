"""`enroll`: another journey for the contact. `engine.runs` performs it."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.documents import Path
from core.errors import Problem
from core.schema.journeys import journey
from journeys import timing
from journeys.plan import FINISHED, OWN_ENROLLMENT, Act, EventFilter, Until, Wait
from journeys.steps.grammar import Branch, Called, Outcome, Slug, StepNode, readable, refusal
from journeys.steps.kind import Data, Effect, Kind, act
from journeys.steps.known import Known
from journeys.steps.place import Draft, Place


class EnrollStep(StepNode):
    """Let the contact into another journey, and wait for its end or not."""

    enroll: Slug = Field(description="The other journey")
    key: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None, description="The key of the run in the other journey"
    )
    awaited: bool | Annotated[str, readable(timing.duration), Called("duration, such as 30d")] = Field(
        False, alias="await", description="Wait until the other journey has ended for the contact; or so long at most"
    )
    outcomes: dict[Outcome, Branch] = Field(
        default_factory=dict, description="Where to go by the other journey's outcome; not_entered if it let nobody in"
    )
    late: Branch | None = Field(None, description="Where to go when the time is over")

    @model_validator(mode="after")
    def _waits(self) -> "EnrollStep":
        if (self.outcomes or self.late is not None) and not self.awaited:
            raise refusal("outcomes are known once the other journey has ended", "add await: true")
        if self.late is not None and not isinstance(self.awaited, str):
            raise refusal("late needs a time", "write await: 30d")
        return self


class EnrollData(Data):
    """What is written in the plan."""

    journey: str
    key: str = ""
    awaited: bool
    """Whether a wait for its end follows."""


def _compile(step: EnrollStep, place: Place) -> Draft:
    data = EnrollData(journey=step.enroll, key=step.key or "", awaited=bool(step.awaited))
    name = place.name("enroll", step.id)
    if not step.awaited:
        return act("enroll", name, data, place)
    own: dict[str, Any] = {"journey": step.enroll, "parent": {"same": OWN_ENROLLMENT}}
    ways = [
        (
            place.subscribe(EventFilter(event=FINISHED, where={**own, "outcome": outcome})),
            place.branch(branch, "outcomes", outcome),
        )
        for outcome, branch in step.outcomes.items()
    ]
    ways.append((place.subscribe(EventFilter(event=FINISHED, where=own)), place.follower))
    late = place.branch(step.late, "late")
    waiting = place.name("wait")
    label = place.behind(
        lambda: Wait(
            id=waiting,
            seconds=place.seconds(step.awaited) if isinstance(step.awaited, str) else None,
            until=tuple(Until(subscription=number, next=place.number(to)) for number, to in ways),
            next=place.number(late),
        )
    )
    return lambda: Act(
        id=name, kind="enroll", data=data.model_dump(mode="json", exclude_defaults=True), next=place.number(label)
    )


async def _check(step: EnrollStep, known: Known, path: Path) -> list[Problem]:
    """That the other journey exists. One may let contacts into itself; see `journeys.enrolling`."""
    journeys = await known.once(_journeys)
    if step.enroll in journeys or step.enroll == known.journey:
        return []
    return [known.missing((*path, "enroll"), "journey", step.enroll, journeys, "publish it first")]


async def _journeys(connection: AsyncConnection) -> tuple[str, ...]:
    return tuple((await connection.execute(select(journey.c.name))).scalars())


KIND = Kind(
    key="enroll",
    model=EnrollStep,
    compile=_compile,
    check=_check,
    effect=Effect(
        data=EnrollData, does=lambda data: f"into {data.journey}", done=lambda data: f"was let into {data.journey}"
    ),
    element="callActivity",
    drawn="of the other journey's process; a gateway behind it for `outcomes`, a timer on its border for `await`",
    example="""\
- enroll: onboarding
  await: 30d
  outcomes: {completed: [{tag: onboarded}], not_entered: [end]}
  late: [{tag: slow}]
""",
)
