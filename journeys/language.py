"""The grammar of a journey's YAML as a whole. `journeys.loader` reads files into these models.

A step is a mapping with one key that says its kind (`send`, `wait`, …), an optional `id`, and the kind's own keys. It
goes to the next one unless it says otherwise. The kinds are the files of `journeys.steps`.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from core.documents import Document
from journeys import timing
from journeys.steps.grammar import (
    DEFINED,
    Called,
    ClockSpan,
    ClockTime,
    CriteriaData,
    DateAttribute,
    Duration,
    EntryWhere,
    EventName,
    Matching,
    Node,
    Outcome,
    Priority,
    Slug,
    Steps,
    Where,
    Words,
    Zone,
    readable,
    refusal,
    several,
    split_where,
)
from journeys.steps.wait import WindowNode
from segments import criteria

STEPS_LIMIT = 500

_PROPERTY = r"^event\..+"
_Key = Annotated[
    str,
    Matching(_PROPERTY, "key names a property of the entry event", "write key: event.application_id"),
    Called("property, such as event.total"),
]
_Property = Annotated[
    str,
    Matching(_PROPERTY, "value names a property of the event", "write value: event.total"),
    Called("property, such as event.total"),
]


class Enter(Node):
    """Who comes in, and when. Entering by hand and by the API is possible whatever stands here."""

    event: EventName | None = Field(None, description="Enter when this event comes")
    where: EntryWhere | None = Field(None, description="Tests on the event (event.…) and on the contact (contact.…)")
    key: _Key | None = Field(
        None, description="The property that tells apart two runs of one contact, such as event.cart_id"
    )
    segment: Words | None = Field(None, description="Enter the members of this segment; `all` is everybody")
    on: Literal["entered", "left", "in"] | None = Field(
        None, description="With a segment: who comes into it, who leaves it, or who is in it now or later"
    )
    date: DateAttribute | None = Field(
        None, description="Enter when this day of the contact comes, such as contact.birthday"
    )
    minus: Duration | None = Field(None, description="So long before the date")
    plus: Duration | None = Field(None, description="So long after the date")
    at: ClockTime | None = Field(None, description="At this time of the day; 10:00 if the attribute is a day")
    yearly: bool = Field(False, description="Every anniversary of the date")
    schedule: Annotated[str, readable(timing.schedule), Called("schedule")] | None = Field(
        None, description="When: cron, @daily, or a recurrence rule such as FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9"
    )
    zone: Zone | None = Field(None, alias="in", description="Zone of the schedule or the date")
    reenter: Literal["never", "after_exit", "always"] | None = Field(
        None,
        description="Whether a contact may come again; never by default, after_exit with a schedule or a yearly date",
    )
    cooldown: Duration | None = Field(None, description="How long after entering a contact may not enter again")

    @model_validator(mode="after")
    def _one_way(self) -> "Enter":
        if bool(self.event) + bool(self.segment) + bool(self.date) > 1:
            raise refusal("a journey is entered by an event, a segment or a date, not by several", "make two journeys")
        if self.on and (not self.segment or self.segment == "all" or self.schedule):
            raise refusal("on tells how contacts come to a segment", "write segment: NAME, without a schedule")
        if (self.minus or self.plus or self.at or self.yearly) and not self.date:
            raise refusal("minus, plus, at and yearly belong to a date", "add date: contact.birthday")
        if self.minus and self.plus:
            raise refusal("minus and plus at once", "write one of them, such as minus: 3d")
        if self.schedule and not self.segment:
            raise refusal("a schedule needs to know who enters", "add segment: all, or the name of a segment")
        if self.zone and not self.schedule and not self.date:
            raise refusal("in belongs to a schedule or a date", "add schedule: 0 9 * * mon, or take it out")
        if self.zone and self.schedule and timing.zone(self.zone) == "contact":
            raise refusal("a schedule runs at one moment for everybody", "write in: Europe/Moscow")
        if self.key and not self.event:
            raise refusal("key names a property of the entry event; there is none", "add event: …, or take it out")
        if self.where and not self.event and split_where(self.where)[0]:
            raise refusal("where tests an event, but no event is named", "add event: …")
        return self


class Rule(Node):
    """What ends the journey: an event, or criteria that hold for the contact."""

    event: EventName | None = Field(None, description="The event; or write when")
    where: Where | None = Field(None, description="Tests on the event")
    when: CriteriaData | None = Field(
        None,
        description="Criteria; looked at on entering, before every step that does something, on events and every "
        "quarter of an hour",
    )
    outcome: Outcome | None = Field(None, description="How the journey ended; goal or exit if not given")

    @model_validator(mode="after")
    def _one_way(self) -> "Rule":
        if (self.event is None) == (self.when is None):
            raise refusal("a goal or an exit names an event, or criteria under when", "write {event: order.paid}")
        if self.where is not None and self.event is None:
            raise refusal("where tests an event; there is none", "add event: …, or put the criteria under when")
        return self


Rules = Annotated[
    tuple[Rule, ...],
    BeforeValidator(several, json_schema_input_type=Rule | list[Rule]),
    Field(max_length=20),
]


class LimitsNode(Node):
    """How much is too much."""

    messages: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Messages of a channel that a contact gets within the time, from all journeys together"
    )
    within: Duration | None = Field(None, description="That time; a day if not given")
    per_minute: Annotated[float, Field(gt=0, le=1_000_000, strict=False)] | None = Field(
        None, description="Messages that this journey sends in a minute"
    )
    budget: Annotated[float, Field(gt=0, le=1_000_000_000, strict=False)] | None = Field(
        None,
        description="What all its messages but alerts may cost together, in the currency of the prices; "
        "when that is spent it pauses itself",
    )

    @model_validator(mode="after")
    def _something(self) -> "LimitsNode":
        if self.messages is None and self.per_minute is None and self.budget is None:
            raise refusal("nothing is limited", "add messages: 3 with within: 7d, or per_minute: 600")
        if self.within is not None and self.messages is None:
            raise refusal("within what is counted?", "add messages: 3")
        return self


class ConversionNode(Node):
    """The event that the journey is meant to bring about."""

    event: EventName = Field(description="The event")
    where: Where | None = Field(None, description="Tests on the event")
    within: Duration = Field("30d", description="How long after entering it counts")
    value: _Property | None = Field(None, description="The property that says what it was worth, such as event.total")


class Journey(Node):
    """One journey, as written."""

    journey: Slug = Field(description="Its name; stays the same from version to version")
    name: Words | None = Field(None, description="What people call it")
    enter: Enter = Field(Enter(), description="Who comes in, and when; by hand and by the API if not given")
    goal: Rules = Field((), description="Events and criteria that end it well; one or a list")
    exit: Rules = Field((), description="Events and criteria that end it otherwise; one or a list")
    priority: Priority | None = Field(None, description="Of its messages, where a step says nothing else")
    quiet_hours: ClockSpan | None = Field(None, description="22:00-08:00 by the contact's clock: marketing waits")
    send_window: WindowNode | None = Field(None, description="When messages may leave; others wait for it")
    limits: LimitsNode | None = Field(None, description="How many messages are too many")
    conversion: ConversionNode | None = Field(None, description="The event that the journey is meant to bring about")
    steps: Steps = Field(description="What happens, from top to bottom")

    _document: Document = PrivateAttr(default=Document(None))

    @property
    def document(self) -> Document:
        """The file it was read from, for line and column."""
        return self._document


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a journey, for editors: completion and checking while one writes."""
    schema = Journey.model_json_schema(by_alias=True, mode="validation", ref_template="#/$defs/{model}")
    schema = dict(_pointed(schema))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Kaskad journey"
    schema["$defs"] = {**schema.get("$defs", {}), **criteria.json_schema(in_journey=True)}
    return schema


def _pointed(schema: Any) -> Any:
    """The schema with references where definitions of other packages are meant."""
    if isinstance(schema, list):
        return [_pointed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _pointed(value) for key, value in schema.items() if key != DEFINED}
    references = [{"$ref": f"#/$defs/{name}"} for name in schema.get(DEFINED, ())]
    if len(references) > 1:
        return plain | {"anyOf": references}
    return plain | references[0] if references else plain
