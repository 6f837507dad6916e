"""`suppress`: the contact's addresses for a channel are not used any more, or may be used again."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identities, suppressions
from core.schema.contacts import identity
from journeys.steps.grammar import StepNode, as_tuple
from journeys.steps.kind import Data, Doing, Effect, Kind, act
from journeys.steps.place import Draft, Place
from segments.supposing import Supposed

_Channel = Literal["email", "sms", "voice", "webpush"]
_Channels = Annotated[
    Annotated[tuple[_Channel, ...], Field(min_length=1, max_length=4)],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else as_tuple(value),
        json_schema_input_type=_Channel | Annotated[list[_Channel], Field(min_length=1)],
    ),
]


class SuppressStep(StepNode):
    """Never write to the contact by a channel again, whatever it agreed to; or lift that."""

    suppress: _Channels = Field(description="The channel, or a list of them")
    reason: Literal["unsubscribed", "manual", "complained", "bounced"] = Field(
        "manual", description="Why; a stronger reason that holds already stays: they are named from the weakest on"
    )
    lift: bool = Field(False, description="Allow it again, if this is the reason why it was forbidden")


class SuppressData(Data):
    """What is written in the plan."""

    channels: tuple[str, ...]
    reason: str = "manual"
    lift: bool = False


def _compile(step: SuppressStep, place: Place) -> Draft:
    data = SuppressData(channels=step.suppress, reason=step.reason, lift=step.lift)
    return act("suppress", step.id, data, place)


async def _perform(connection: AsyncConnection, doing: Doing, data: SuppressData) -> None:
    await identities.hold_off_erasure(connection)
    for channel in sorted(data.channels):
        addresses = await _addresses(connection, doing, channel)
        if data.lift:
            await suppressions.lift(connection, channel, addresses, data.reason)
        else:
            note = f"journey {doing.journey}, step {doing.step}"
            await suppressions.suppress(connection, channel, addresses, data.reason, note)


async def _addresses(connection: AsyncConnection, doing: Doing, channel: str) -> list[str]:
    rows = await connection.execute(
        select(identity.c.value).where(
            identity.c.contact_id.in_(doing.contacts), identity.c.kind == suppressions.ADDRESS_KINDS[channel]
        )
    )
    return list(rows.scalars())


def _suppose(supposed: Supposed, data: SuppressData, _value: Callable[[str], Any]) -> None:
    supposed.suppressions += [(channel, data.reason, not data.lift) for channel in data.channels]


def _does(data: SuppressData) -> str:
    return f"{'not ' if data.lift else ''}{', '.join(data.channels)} ({data.reason})"


def _done(data: SuppressData) -> str:
    channels = ", ".join(data.channels)
    if data.lift:
        return f"may be written to by {channels} again, if the reason was: {data.reason}"
    return f"must not be written to by {channels} any more ({data.reason})"


KIND = Kind(
    key="suppress",
    model=SuppressStep,
    compile=_compile,
    effect=Effect(data=SuppressData, does=_does, done=_done, perform=_perform, suppose=_suppose),
    element="serviceTask",
    drawn="named by what it does",
    example="""\
- suppress: [email, sms]
  reason: complained
- suppress: voice
  lift: true
""",
)
