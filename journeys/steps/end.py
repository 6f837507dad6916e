"""`end`: the journey is over for the contact."""

from pydantic import Field

from journeys.plan import End
from journeys.steps.grammar import DEFAULT_OUTCOME, Outcome, StepNode
from journeys.steps.kind import Kind, Told
from journeys.steps.place import Draft, Place


class EndStep(StepNode):
    """The journey is over for this contact; a bare `- end` will do."""

    end: Outcome | None = Field(None, description=f"How it ended; {DEFAULT_OUTCOME} if not given")


def _compile(step: EndStep, place: Place) -> Draft:
    name = place.name("end", step.id)
    return lambda: End(id=name, outcome=step.end or DEFAULT_OUTCOME)


KIND = Kind(
    key="end",
    model=EndStep,
    compile=_compile,
    goes_on=False,
    bare=True,
    told={"end": Told(lambda _plan, step: step.outcome, lambda _plan, _step: "reached the end")},
    element="endEvent",
    drawn="named by the outcome",
    example="""\
- if: {contact.tags: vip}
  then: [{end: vip}]
- end
""",
)
