"""`parallel`: branches that are gone at the same time, and meet."""

from typing import Annotated, Literal

from pydantic import Field

from journeys.plan import Branch, Join, Parallel, Plan
from journeys.steps.grammar import Slug, StepNode, Steps
from journeys.steps.kind import Kind, Told
from journeys.steps.place import Draft, Place


class ParallelStep(StepNode):
    """Go several ways at the same time, and on when they have met."""

    parallel: Annotated[dict[Slug, Steps], Field(min_length=2, max_length=10)] = Field(
        description="The branches by name"
    )
    join: Literal["all", "first"] = Field("all", description="Go on when all have come, or give up the others")


def _compile(step: ParallelStep, place: Place) -> Draft:
    name = place.name("parallel", step.id)
    meeting = f"{'/'.join(map(str, place.path))}/join"
    ways = [
        (branch, place.block(steps, "parallel", branch, follower=meeting)) for branch, steps in step.parallel.items()
    ]
    joined = place.name("join")
    place.behind(lambda: Join(id=joined, mode=step.join, next=place.number(place.follower)), meeting)
    return lambda: Parallel(id=name, branches=tuple(Branch(name=branch, next=place.number(to)) for branch, to in ways))


def _waits(_plan: Plan, step: Join) -> str:
    return "waits for the other branches" if step.mode == "all" else "the first branch to come goes on"


KIND = Kind(
    key="parallel",
    model=ParallelStep,
    compile=_compile,
    told={
        "parallel": Told(
            lambda _plan, _step: "at the same time",
            lambda _plan, step: f"goes {len(step.branches)} ways at the same time",
            lambda _plan, step: [(branch.name, branch.next) for branch in step.branches],
        ),
        "join": Told(
            lambda _plan, step: "when all have come" if step.mode == "all" else "when the first has come", _waits
        ),
    },
    element="parallelGateway",
    drawn="another where the branches meet; a complex one if the first to come goes on",
    example="""\
- parallel:
    letter:
      - {send: email, template: guide}
    watch:
      - {wait: 7d, until: {event: guide.read}}
  join: all
""",
)
