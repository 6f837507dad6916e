"""`split`: arms by weight, with a holdout and a winner if wished."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from journeys.plan import Arm, End, Plan, Split, Winner
from journeys.steps.grammar import Branch, Duration, Node, Slug, StepNode, refusal
from journeys.steps.kind import Kind, Told
from journeys.steps.place import Draft, Place

HOLDOUT = "holdout"


class ArmNode(Node):
    """One variant of a split."""

    weight: Annotated[float, Field(gt=0, le=1_000_000, strict=False)] = Field(
        1, description="Its share of the contacts, against the other arms"
    )
    then: Branch | None = Field(None, description="Where to go; the next step if not given")


def _weighed(value: Any) -> Any:
    """A bare number is an arm's weight."""
    return {"weight": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class WinnerNode(Node):
    """When the best arm takes everybody from then on."""

    metric: Literal["opened", "clicked", "goal"] = Field(description="What is counted for each arm")
    sample: Annotated[int, Field(ge=10, le=10_000_000)] = Field(100, description="Contacts that each arm has to have")
    confidence: Annotated[float, Field(ge=50, lt=100, strict=False)] = Field(95, description="Percent")
    deadline: Duration | None = Field(None, description="After that, the arm that is ahead wins")


class SplitStep(StepNode):
    """Send contacts down different arms, by weight; the same contact always takes the same arm."""

    split: Annotated[
        dict[Slug, Annotated[ArmNode, BeforeValidator(_weighed, json_schema_input_type=ArmNode | float)]],
        Field(min_length=2, max_length=26),
    ] = Field(description="The arms by name: a weight, or more")
    holdout: Annotated[float, Field(gt=0, lt=100, strict=False)] | None = Field(
        None, description="Percent of contacts for whom the journey ends here, to compare with"
    )
    winner: WinnerNode | None = Field(None, description="Let the best arm take everybody who comes later")

    @model_validator(mode="after")
    def _one_holdout(self) -> "SplitStep":
        if self.holdout is not None and HOLDOUT in self.split:
            raise refusal("an arm is called holdout, and there is a holdout", "rename the arm, or take the key out")
        return self

    @model_validator(mode="after")
    def _remembered(self) -> "SplitStep":
        # A made-up id shifts when a split is put above, which would hand that one the winner found for this.
        if self.winner is not None and self.id is None:
            raise refusal(
                "a split with a winner needs an id, by which its winner is remembered", "add id: subject-line"
            )
        return self


def _compile(step: SplitStep, place: Place) -> Draft:
    name = place.name("split", step.id)
    arms = [(arm, node.weight, place.branch(node.then, "split", arm, "then")) for arm, node in step.split.items()]
    if step.holdout is not None:
        total = sum(weight for _, weight, _ in arms)
        ending = place.name("end")
        label = place.behind(lambda: End(id=ending, outcome=HOLDOUT))
        arms.append((HOLDOUT, total * step.holdout / (100 - step.holdout), label))
    return lambda: Split(
        id=name,
        salt=f"{place.journey}:{name}",
        arms=tuple(Arm(name=arm, weight=weight, next=place.number(to)) for arm, weight, to in arms),
        winner=_winner(step.winner, place),
        holdout=HOLDOUT if step.holdout is not None else None,
    )


def _winner(wanted: WinnerNode | None, place: Place) -> Winner | None:
    if wanted is None:
        return None
    return Winner(
        metric=wanted.metric,
        sample=wanted.sample,
        confidence=wanted.confidence / 100,
        deadline_seconds=place.seconds(wanted.deadline) if wanted.deadline else None,
    )


def _does(_plan: Plan, step: Split) -> str:
    return f"until {step.winner.metric} tells the better arm" if step.winner else ""


def _ways(_plan: Plan, step: Split) -> list[tuple[str, int]]:
    total = sum(arm.weight for arm in step.arms)
    return [(f"{arm.name} ({arm.weight / total:.0%})", arm.next) for arm in step.arms]


KIND = Kind(
    key="split",
    model=SplitStep,
    compile=_compile,
    goes_on=False,
    told={"split": Told(_does, lambda _plan, _step: "was put into an arm of the split", _ways)},
    element="exclusiveGateway",
    drawn="a flow for each arm, named with its share",
    example="""\
- id: length
  split:
    short: {weight: 1, then: [{send: email, template: short}]}
    long: {weight: 1, then: [{send: email, template: long}]}
  holdout: 10
  winner: {metric: clicked, sample: 500, deadline: 2d}
""",
)
