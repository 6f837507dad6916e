"""`goto`: on to a step by its id. It leaves no step in the plan."""

from pydantic import Field

from journeys.steps.grammar import Slug, StepNode
from journeys.steps.kind import Kind


class GotoStep(StepNode):
    """Go to the step with this id."""

    goto: Slug = Field(description="The id of the step")

    def stands_for(self) -> str:
        """The step that it leads to."""
        return self.goto


KIND = Kind(
    key="goto",
    model=GotoStep,
    compile=None,
    element="sequenceFlow",
    drawn="a flow to the step",
    example="""\
- {id: letter, send: email, template: monthly}
- wait: 30d
- goto: letter
""",
)
