"""`delete`: the contact is erased, which ends the journey. `engine.acting` performs it, one contact at a time."""

from typing import Literal

from pydantic import Field

from journeys.plan import Act
from journeys.steps.grammar import Outcome, StepNode
from journeys.steps.kind import Data, Effect, Kind
from journeys.steps.place import Draft, Place


class DeleteStep(StepNode):
    """Erase the contact with everything that is known of it; the journey ends."""

    delete: Literal["contact"] = Field(description="What is erased")
    outcome: Outcome = Field("deleted", description="How the journey ended")


class DeleteData(Data):
    """Nothing is written in the plan."""


def _compile(step: DeleteStep, place: Place) -> Draft:
    name = place.name("delete", step.id)
    return lambda: Act(id=name, kind="delete", outcome=step.outcome, long=True)


KIND = Kind(
    key="delete",
    model=DeleteStep,
    compile=_compile,
    goes_on=False,
    effect=Effect(data=DeleteData, does=lambda _data: "the contact", done=lambda _data: "was erased"),
    element="serviceTask",
    drawn="an end event behind it",
    example="""\
- delete: contact
  outcome: forgotten
""",
)
