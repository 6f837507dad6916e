"""`consent`: what the contact agreed to, or refused."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import consents
from journeys.steps.grammar import Slug, StepNode
from journeys.steps.kind import Data, Doing, Effect, Kind, act
from journeys.steps.place import Draft, Place
from segments.supposing import Supposed

Consents = dict[Slug, bool | dict[Slug, bool]]
"""Channel to granted or not, for marketing; or to purposes."""
Granted = tuple[tuple[str, str, bool], ...]
"""(channel, purpose, granted)"""


class ConsentStep(StepNode):
    """Write down that the contact agreed, or refused."""

    consent: Annotated[Consents, Field(min_length=1)] = Field(
        description="Channel to true or false (for marketing), or to purposes"
    )


class ConsentData(Data):
    """What is written in the plan."""

    consents: Granted


def granted(written: Mapping[str, bool | Mapping[str, bool]]) -> Granted:
    """Consents as they are written, one by one."""
    return tuple(
        (channel, purpose, one)
        for channel, said in written.items()
        for purpose, one in (said.items() if isinstance(said, Mapping) else [(consents.MARKETING, said)])
    )


def _compile(step: ConsentStep, place: Place) -> Draft:
    return act("consent", step.id, ConsentData(consents=granted(step.consent)), place)


async def record(connection: AsyncConnection, doing: Doing, given: Granted) -> None:
    """Write consents down for the contacts of a batch, with the step as evidence."""
    evidence = {"journey": doing.journey, "step": doing.step}
    for channel, purpose, one in given:
        await consents.record(connection, doing.contacts, channel, purpose, one, "journey", evidence, doing.at)


async def _perform(connection: AsyncConnection, doing: Doing, data: ConsentData) -> None:
    await record(connection, doing, data.consents)


def suppose(supposed: Supposed, given: Granted) -> None:
    """Suppose them of a contact."""
    supposed.consents.update({(channel, purpose): one for channel, purpose, one in given})


def _suppose(supposed: Supposed, data: ConsentData, _value: Callable[[str], Any]) -> None:
    suppose(supposed, data.consents)


def words(given: Granted) -> str:
    """Consents in a line."""
    return ", ".join(f"{'' if one else 'no '}{purpose} by {channel}" for channel, purpose, one in given)


KIND = Kind(
    key="consent",
    model=ConsentStep,
    compile=_compile,
    effect=Effect(
        data=ConsentData,
        does=lambda data: words(data.consents),
        done=lambda data: f"consents were written down: {words(data.consents)}",
        perform=_perform,
        suppose=_suppose,
    ),
    element="serviceTask",
    drawn="named by what it does",
    example="""\
- consent: {email: true, sms: {news: false}}
""",
)
