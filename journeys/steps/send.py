"""`send`: a message by a channel."""

from typing import Any, Literal

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.documents import Path
from core.errors import Problem
from core.schema.messages import template, template_version
from journeys.plan import Plan, Send
from journeys.steps.grammar import Priority, Slug, StepNode, Words
from journeys.steps.kind import Kind, Told
from journeys.steps.known import Known
from journeys.steps.place import Draft, Place

CHANNELS = ("email", "sms", "voice", "webpush", "webhook")
CONFIGURED_CHANNELS = ("email", "webhook")
"""Those that messages can leave by; a journey that uses another is valid, and cannot be published yet."""
CONTACT_FIELDS = frozenset({"id", "email", "phone", "external_id", "language", "time_zone", "tags", "company"})
"""What templates find on each contact besides custom attributes."""


class SendStep(StepNode):
    """Send a message."""

    send: Literal[CHANNELS] = Field(description="The channel")  # type: ignore[valid-type]
    template: Words = Field(description="The name of the template")
    purpose: Slug | None = Field(
        None, description="What the contact has to have agreed to: marketing; of a webhook transactional, so nothing"
    )
    priority: Priority | None = Field(None, description="Which rules hold for it; the journey's if not given")
    if_overdue: Literal["send", "skip"] = Field(
        "send", description="What becomes of it when a pause held it up for more than an hour"
    )
    repeat_in_doubt: bool | None = Field(
        None, description="Send again if a crash left it unknown whether it went out; alerts are"
    )


def _compile(step: SendStep, place: Place) -> Draft:
    name = place.name("send", step.id)
    priority: Any = step.priority or place.priority
    in_doubt = priority == "alert" if step.repeat_in_doubt is None else step.repeat_in_doubt
    return lambda: Send(
        id=name,
        channel=step.send,
        template=step.template,
        purpose=step.purpose or ("transactional" if step.send == "webhook" else "marketing"),
        priority=priority,
        repeat_in_doubt=in_doubt,
        if_overdue=step.if_overdue,
        next=place.number(place.follower),
    )


async def _check(step: SendStep, known: Known, path: Path) -> list[Problem]:
    """That a provider carries the channel; that the template exists, is for it, and uses values that are to be had."""
    if step.send not in CONFIGURED_CHANNELS:
        return []
    uncarried = await known.carries((*path, "send"), step.send)
    if uncarried:
        return uncarried
    templates = await known.once(_templates)
    place = (*path, "template")
    if step.template not in templates:
        return [known.missing(place, "template", step.template, tuple(templates), "publish it first")]
    channel, variables = templates[step.template]
    if channel != step.send:
        message = f"the template {step.template} is for {channel}, not for {step.send}"
        return [known.problem(place, message, "name another template")]
    return [
        known.problem(place, f"the template {step.template} uses {name}, which is not to be had here", _obtain(name))
        for name in variables
        if not _obtainable(name, known)
    ]


async def _templates(connection: AsyncConnection) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Published templates: their channel, and the dotted names of the values they use."""
    rows = await connection.execute(
        select(template.c.name, template.c.channel, template_version.c.compiled["variables"].label("variables")).join(
            template_version, template_version.c.id == template.c.version_id
        )
    )
    return {row.name: (row.channel, tuple(row.variables or ())) for row in rows}


def _obtainable(variable: str, known: Known) -> bool:
    """Whether a journey can give a value: not an unknown attribute, nor an event's without an event."""
    root, *rest = variable.split(".")
    if root == "contact" and rest:
        return rest[0] in known.types or rest[0] in CONTACT_FIELDS
    return root != "event" or known.by_event


def _obtain(name: str) -> str:
    if name.startswith("event"):
        return "only journeys that are entered by an event have its properties"
    return "import contacts that have the attribute, or create it"


def _does(_plan: Plan, step: Send) -> str:
    return f"{step.channel} {step.template}" + ("" if step.purpose == "marketing" else f" ({step.purpose})")


def _done(_plan: Plan, step: Send) -> str:
    return f"{step.channel} {step.template}"


KIND = Kind(
    key="send",
    model=SendStep,
    compile=_compile,
    check=_check,
    unbuilt={
        channel: (f"the channel {channel} is not configured yet", f"use {' or '.join(CONFIGURED_CHANNELS)} meanwhile")
        for channel in CHANNELS
        if channel not in CONFIGURED_CHANNELS
    },
    told={"send": Told(_does, _done)},
    element="sendTask",
    drawn="named by channel and template",
    example="""\
- send: email
  template: order-paid
  purpose: service
  priority: triggered
""",
)
