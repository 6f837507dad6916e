"""`notify`: a message to the staff."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from core.documents import Path
from core.errors import Problem
from journeys.plan import Notify, Plan
from journeys.steps.grammar import TEMPLATED, StepNode, Words, as_tuple, refusal
from journeys.steps.kind import Kind, Told
from journeys.steps.known import Known
from journeys.steps.place import Draft, Label, Place

_TARGETS = {
    "email": re.compile(r"[^\s@<>\"(),:;\\[\]]{1,64}@[^\s@<>\"(),:;\\[\]]{1,253}"),
    "sms": re.compile(r"\+[1-9][0-9]{6,14}"),
    "webhook": re.compile(r"https?://[^\s/?#]+[^\s]*"),
}
_TARGET_MENDS = {
    "email": "write an address like sales@example.com",
    "sms": "write it with its country, like +79161234567",
    "webhook": "write an address like https://example.com/hook",
}


_Addresses = Annotated[
    Annotated[tuple[Words, ...], Field(min_length=1, max_length=10)],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else as_tuple(value),
        json_schema_input_type=Words | Annotated[list[Words], Field(min_length=1, max_length=10)],
    ),
]


class NotifyStep(StepNode):
    """Write to the staff, as an alert."""

    notify: Literal["email", "sms", "webhook"] = Field(description="How they are written to")
    to: _Addresses = Field(description="Addresses, phone numbers or https addresses; one or a list")
    subject: Annotated[str, StringConstraints(min_length=1, max_length=500), TEMPLATED] | None = Field(
        None, description="Of an email; may use {{ contact.… }} and {{ event.… }}"
    )
    text: Annotated[str, StringConstraints(min_length=1, max_length=20_000), TEMPLATED] = Field(
        description="May use {{ contact.… }} and {{ event.… }}"
    )

    @model_validator(mode="after")
    def _fits(self) -> "NotifyStep":
        if self.notify == "email" and self.subject is None:
            raise refusal("subject is missing", "add subject: …")
        for address in self.to:
            if not _TARGETS[self.notify].fullmatch(address):
                raise refusal(f"{address} cannot be written to by {self.notify}", _TARGET_MENDS[self.notify])
        return self


def _compile(step: NotifyStep, place: Place) -> Draft:
    """One step for each address, so that every letter has a visit of its own and thus its own id."""
    names = [place.name("notify", step.id), *(place.name("notify") for _ in step.to[1:])]

    def letter(number: int, after: Label) -> Draft:
        return lambda: Notify(
            id=names[number],
            channel=step.notify,
            to=step.to[number],
            subject=step.subject or "",
            text=step.text,
            next=place.number(after),
        )

    after = place.follower
    for number in range(len(step.to) - 1, 0, -1):
        after = place.behind(letter(number, after))
    return letter(0, after)


async def _check(step: NotifyStep, known: Known, path: Path) -> list[Problem]:
    """That somebody carries it: a letter that nobody takes would be missed by nobody."""
    return [] if step.notify in KIND.unbuilt else await known.carries((*path, "notify"), step.notify)


def _does(_plan: Plan, step: Notify) -> str:
    return f"{step.to} by {step.channel}"


KIND = Kind(
    key="notify",
    model=NotifyStep,
    compile=_compile,
    check=_check,
    unbuilt={
        "sms": ("the channel sms is not configured yet", "notify by email meanwhile"),
    },
    told={"notify": Told(_does, lambda _plan, step: f"{step.channel} to {step.to}")},
    element="sendTask",
    drawn="named by what it does",
    example="""\
- notify: email
  to: [sales@example.com, boss@example.com]
  subject: "{{ contact.email | default('Somebody') }} has paid"
  text: "Order {{ event.order_id }}."
""",
)
