"""`show` and `hide`: content in places of the site."""

from pydantic import Field

from journeys.steps.grammar import Slug, StepNode, Words
from journeys.steps.kind import Data, Effect, Kind, act
from journeys.steps.place import Draft, Place

_NO_SITE = {"*": ("the channel site is not configured yet", "send an email meanwhile")}


class ShowStep(StepNode):
    """Put content into a place of the site for this contact."""

    show: Slug = Field(description="The place")
    template: Words = Field(description="The name of the template")


class HideStep(StepNode):
    """Take away what is shown in a place of the site."""

    hide: Slug = Field(description="The place")


class ShowData(Data):
    """What is written in the plan of a step that shows."""

    slot: str
    template: str


class HideData(Data):
    """What is written in the plan of a step that hides."""

    slot: str


def _compile_show(step: ShowStep, place: Place) -> Draft:
    return act("show", step.id, ShowData(slot=step.show, template=step.template), place)


def _compile_hide(step: HideStep, place: Place) -> Draft:
    return act("hide", step.id, HideData(slot=step.hide), place)


SHOW = Kind(
    key="show",
    model=ShowStep,
    compile=_compile_show,
    unbuilt=_NO_SITE,
    effect=Effect(
        data=ShowData,
        does=lambda data: f"{data.template} in {data.slot}",
        done=lambda data: f"is shown {data.template} in {data.slot}",
    ),
    element="serviceTask",
    drawn="named by what it does",
    example="""\
- show: front-page
  template: spring-sale
""",
)
HIDE = Kind(
    key="hide",
    model=HideStep,
    compile=_compile_hide,
    unbuilt=_NO_SITE,
    effect=Effect(data=HideData, does=lambda data: data.slot, done=lambda data: f"{data.slot} is hidden"),
    element="serviceTask",
    drawn="named by what it does",
    example="""\
- hide: front-page
""",
)
