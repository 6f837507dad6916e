"""`if` and `choose`: ways by criteria on the contact."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from core.documents import Path
from journeys import wording
from journeys.plan import Choose, Plan
from journeys.steps.grammar import Branch, CriteriaData, Node, StepNode, as_tuple
from journeys.steps.kind import Kind, Told
from journeys.steps.place import Draft, Place


class IfStep(StepNode):
    """Go one way if criteria hold for the contact, another way if not."""

    holds: CriteriaData = Field(alias="if", description="Criteria on the contact")
    then: Branch = Field(description="Where to go if they hold")
    otherwise: Branch | None = Field(None, alias="else", description="Where to go if not; else the next step")

    def criteria(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The one that it asks."""
        yield ("if",), self.holds


class Case(Node):
    """One branch of choose."""

    when: CriteriaData = Field(description="Criteria on the contact")
    then: Branch = Field(description="Where to go if they hold")


class ChooseStep(StepNode):
    """Take the first branch whose criteria hold."""

    choose: Annotated[
        tuple[Case, ...],
        BeforeValidator(as_tuple, json_schema_input_type=Annotated[list[Case], Field(min_length=1, max_length=50)]),
        Field(min_length=1, max_length=50),
    ] = Field(description="The branches, in the order they are tried")
    otherwise: Branch | None = Field(None, alias="else", description="Where to go if not; else the next step")

    def criteria(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Those of the cases."""
        for index, case in enumerate(self.choose):
            yield ("choose", index, "when"), case.when


def _compile_if(step: IfStep, place: Place) -> Draft:
    name = place.name("if", step.id)
    number = place.criterion(step.holds)
    then = place.branch(step.then, "then")
    otherwise = place.branch(step.otherwise, "else")
    return lambda: Choose(id=name, branches=((number, place.number(then)),), otherwise=place.number(otherwise))


def _compile_choose(step: ChooseStep, place: Place) -> Draft:
    name = place.name("choose", step.id)
    branches = [
        (place.criterion(case.when), place.branch(case.then, "choose", index, "then"))
        for index, case in enumerate(step.choose)
    ]
    otherwise = place.branch(step.otherwise, "else")
    return lambda: Choose(
        id=name,
        branches=tuple((number, place.number(to)) for number, to in branches),
        otherwise=place.number(otherwise),
    )


def _done(plan: Plan, step: Choose) -> str:
    asked = "; or else: ".join(wording.criteria(plan, criterion) for criterion, _ in step.branches)
    return f"asked whether this holds: {asked}"


def _ways(plan: Plan, step: Choose) -> list[tuple[str, int]]:
    ways = [(f"if {wording.as_written(plan.criteria[number])}", to) for number, to in step.branches]
    return [*ways, ("else", step.otherwise)]


IF = Kind(
    key="if",
    model=IfStep,
    compile=_compile_if,
    goes_on=False,
    element="exclusiveGateway",
    drawn="the criteria are the condition of the flow `yes`; `no` is the default flow",
    example="""\
- if: {contact.city: Kazan}
  then: [{send: email, template: kazan}]
  else: [{send: email, template: elsewhere}]
""",
)
CHOOSE = Kind(
    key="choose",
    model=ChooseStep,
    compile=_compile_choose,
    goes_on=False,
    told={"choose": Told(lambda _plan, _step: "", _done, _ways)},
    element="exclusiveGateway",
    drawn="a conditional flow for each case; `else` is the default flow",
    example="""\
- choose:
    - when: {contact.language: ru}
      then: [{send: email, template: thanks-ru}]
    - when: {contact.tags: {in: [vip, partner]}}
      then: [{send: email, template: thanks-vip}]
  else: [{send: email, template: thanks}]
""",
)
