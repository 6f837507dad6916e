"""`wait`: for a time, a date, hours of the week, an event, or until criteria hold."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from core.documents import Path
from core.errors import Problem
from journeys import timing, wording
from journeys.plan import ANY_EVENT, DateOf, EventFilter, Plan, Until, Wait, Watch, Window
from journeys.steps.grammar import (
    Branch,
    Called,
    ClockSpan,
    ClockTime,
    CriteriaData,
    DateAttribute,
    Duration,
    EventName,
    Node,
    StepNode,
    Where,
    Zone,
    readable,
    refusal,
    several,
)
from journeys.steps.kind import Kind, Told
from journeys.steps.known import Known
from journeys.steps.place import Draft, Label, Place, event_filter

LOOK_SECONDS = 900
"""How often criteria that end a wait or the journey are looked at, besides on every event of the contact."""
LOOK_AT_DATES_SECONDS = 86_400
"""How often a date that a wait waits for is read again: it may have been changed."""
HASTENED_LOCAL_SECONDS = 12 * 3600
"""A wait for a time of day lasts half a day on average; that is what is shortened in demonstrations."""


class UntilRule(Node):
    """What ends a wait: an event, or criteria that hold for the contact."""

    event: EventName | None = Field(None, description="The event; or write when")
    where: Where | None = Field(None, description="Tests on the event")
    when: CriteriaData | None = Field(None, description="Criteria; looked at on events and every quarter of an hour")
    then: Branch | None = Field(None, description="Where to go when it came")

    @model_validator(mode="after")
    def _one_way(self) -> "UntilRule":
        if (self.event is None) == (self.when is None):
            raise refusal("until names an event, or criteria under when", "write until: {event: order.paid}")
        if self.where is not None and self.event is None:
            raise refusal("where tests an event; there is none", "add event: …, or put the criteria under when")
        return self


class DateNode(Node):
    """A day that an attribute of the contact names."""

    date: DateAttribute = Field(description="The attribute, such as contact.contract_ends")
    minus: Duration | None = Field(None, description="So long before")
    plus: Duration | None = Field(None, description="So long after")
    at: ClockTime | None = Field(None, description="At this time of the day; 10:00 if the attribute is a day")
    zone: Zone | None = Field(None, alias="in", description="Whose clock; the contact's if not given")
    yearly: bool = Field(False, description="The next anniversary, as for birthdays")

    @model_validator(mode="after")
    def _one_offset(self) -> "DateNode":
        if self.minus and self.plus:
            raise refusal("minus and plus at once", "write one of them, such as minus: 3d")
        return self


class WindowNode(Node):
    """Hours of the week."""

    hours: ClockSpan | None = Field(None, description="10:00-20:00; may span midnight; the whole day if not given")
    days: Annotated[str, readable(timing.weekdays), Called("days of the week")] | None = Field(
        None, description="weekdays, Monday and Friday …"
    )
    holidays: Annotated[str, readable(timing.holidays), Called("country")] | None = Field(
        None, description="A country, or a part of one such as DE-BY, whose public holidays are left out"
    )
    zone: Zone | None = Field(None, alias="in", description="Whose clock; the contact's if not given")

    @model_validator(mode="after")
    def _something(self) -> "WindowNode":
        if not (self.hours or self.days or self.holidays):
            raise refusal("this window is always open", "add hours: 10:00-20:00, days: weekdays, or holidays: RU")
        return self

    def window(self) -> Window:
        """The hours of the week that are written."""
        start, end = timing.span(self.hours) if self.hours else ("00:00", "00:00")
        days: dict[str, Any] = {"weekdays": timing.weekdays(self.days)} if self.days else {}
        zone = timing.zone(self.zone) if self.zone else "contact"
        return Window(start=start, end=end, **days, holidays=self.holidays, zone=zone)


def _shape(value: Any) -> str:
    if isinstance(value, DateNode) or (isinstance(value, dict) and "date" in value):
        return "wait:date"
    return "wait:window" if isinstance(value, dict | WindowNode) else "wait:text"


class WaitStep(StepNode):
    """Wait for a time, or for an event with that time at most."""

    wait: Annotated[
        Annotated[str, readable(timing.length), Called("time, as text"), Tag("wait:text")]
        | Annotated[DateNode, Tag("wait:date")]
        | Annotated[WindowNode, Tag("wait:window")],
        Discriminator(_shape),
    ] = Field(
        description="4h, until 10:00 on weekdays, in Europe/Moscow; forever, with until; {date: contact.birthday}; "
        "{hours: 10:00-20:00, days: weekdays}"
    )
    until: Annotated[
        tuple[UntilRule, ...],
        BeforeValidator(several, json_schema_input_type=UntilRule | list[UntilRule]),
        Field(max_length=20),
    ] = Field((), description="What ends the wait early; one or a list")
    then: Branch | None = Field(None, description="Where to go when the event came; else the next step")
    missing: Branch | None = Field(None, description="Where to go when the contact has no such date; else on, at once")
    precise: bool = Field(False, description="Do not round the end of the wait")

    @model_validator(mode="after")
    def _ends(self) -> "WaitStep":
        if isinstance(self.wait, str) and self.wait.strip() == "forever" and not self.until:
            raise refusal("nothing ever ends this wait", "add until: {event: …}, or a length of time")
        if self.missing is not None and not isinstance(self.wait, DateNode):
            raise refusal(
                "missing belongs to a wait for a date", "write wait: {date: contact.birthday}, or take it out"
            )
        timed = isinstance(self.wait, WindowNode) or (isinstance(self.wait, str) and self.wait.startswith("until"))
        if timed and any(rule.when for rule in self.until):
            raise refusal("criteria end a wait of a length, not one for a time of day", "write wait: 1d, or forever")
        if self.then is not None and not self.until:
            raise refusal("then says where to go when an event came; there is no until", "add until, or use goto")
        return self

    def criteria(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Those that end the wait."""
        for index, rule in enumerate(self.until):
            if rule.when is not None:
                yield ("until", index, "when"), rule.when


# --- into the plan


def _compile(step: WaitStep, place: Place) -> Draft:
    name = place.name("wait", step.id)
    ways: list[tuple[int, Label]] = []
    watches: list[tuple[int, Label]] = []
    then = place.branch(step.then, "then")
    for index, rule in enumerate(step.until):
        own = place.branch(rule.then, "until", index, "then", otherwise=then)
        if rule.when is not None:
            watches.append((place.criterion(rule.when), own))
        else:
            ways.append((place.subscribe(event_filter(str(rule.event), rule.where)), own))
    watching = place.subscribe(EventFilter(event=ANY_EVENT), "watch") if watches else None
    missing = place.branch(step.missing, "missing")
    length = _length(step.wait, place.hasten)
    return lambda: Wait(
        id=name,
        **length,
        date=_date(step.wait, place.number(missing)),
        precise=step.precise,
        until=tuple(Until(subscription=number, next=place.number(to)) for number, to in ways),
        watches=tuple(Watch(criteria=number, next=place.number(to)) for number, to in watches),
        watch_subscription=watching,
        look_seconds=max(1.0, (LOOK_SECONDS if watches else LOOK_AT_DATES_SECONDS) / place.hasten),
        next=place.number(place.follower),
    )


def _length(wait: str | DateNode | WindowNode, hasten: float) -> dict[str, Any]:
    """The part of a wait that says how long it lasts; in demonstrations half a day for whatever needs a clock."""
    if isinstance(wait, str):
        length = timing.length(wait)
        if length.duration is not None:
            return {"seconds": length.duration.total_seconds() / hasten}
        if length.local is None:
            return {}
        clock: dict[str, Any] = {"local": length.local}
    else:
        clock = {"window": wait.window()} if isinstance(wait, WindowNode) else {}
    return {"seconds": HASTENED_LOCAL_SECONDS / hasten} if hasten != 1 else clock


def _date(wait: Any, missing: int) -> DateOf | None:
    if not isinstance(wait, DateNode):
        return None
    before = timing.duration(wait.minus).total_seconds() if wait.minus else 0
    after = timing.duration(wait.plus).total_seconds() if wait.plus else 0
    return DateOf(
        attribute=wait.date.removeprefix("contact."),
        offset_seconds=after - before,
        time=timing.clock(wait.at) if wait.at else None,
        zone=timing.zone(wait.zone) if wait.zone else "contact",
        yearly=wait.yearly,
        missing=missing,
    )


async def _check(step: WaitStep, known: Known, path: Path) -> list[Problem]:
    if not isinstance(step.wait, DateNode):
        return []
    name = step.wait.date.removeprefix("contact.")
    return known.wants((*path, "wait", "date"), name, ("date", "datetime"))


# --- in words


def _does(plan: Plan, step: Wait) -> str:
    if step.seconds is not None:
        hastened = f" (hastened to {wording.span(step.seconds)})" if plan.hasten != 1 else ""
        return wording.span(round(step.seconds * plan.hasten, 3)) + hastened
    return _until(step) or "for an event"


def _until(step: Wait) -> str:
    if step.date is not None:
        return f"until {wording.date_of(step.date)}"
    if step.window is not None:
        return f"until it is {wording.window(step.window)}"
    return f"until {wording.local_time(step.local)}" if step.local is not None else ""


def _done(plan: Plan, step: Wait) -> str:
    """How long it lasts, and what ends it before."""
    early = ends(plan, step)
    until = _until(step) or (f"for {wording.span(step.seconds)}" if step.seconds is not None else "")
    if not until:
        return f"waits for {early}, as long as it takes" if early else "waits for ever"
    return f"waits {until}" + (f", or until {early}" if early else "")


def ends(plan: Plan, step: Wait) -> str:
    """The events and criteria that end a wait, in words."""
    said = [wording.event(plan.subscriptions[way.subscription].filter) for way in step.until]
    said += [wording.criteria(plan, watch.criteria) for watch in step.watches]
    return " or ".join(said)


def _ways(plan: Plan, step: Wait) -> list[tuple[str, int]]:
    ways = [(f"on {_short(plan.subscriptions[way.subscription].filter)}", way.next) for way in step.until]
    ways += [(f"when {wording.as_written(plan.criteria[way.criteria])}", way.next) for way in step.watches]
    if step.date is not None and step.date.missing != step.next:
        ways.append(("without such a date", step.date.missing))
    endless = step.seconds is None and not _until(step)
    return ways if endless else [*ways, ("in time", step.next)]


def _short(event: EventFilter) -> str:
    return event.event + (f" {wording.as_written(event.where)}" if event.where else "")


KIND = Kind(
    key="wait",
    model=WaitStep,
    compile=_compile,
    check=_check,
    told={"wait": Told(_does, _done, _ways)},
    element="intermediateCatchEvent",
    drawn="a timer event; with `until`, an event-based gateway before a message event (or, for criteria, a conditional "
    "event) for each and the timer event",
    example="""\
- wait: 2d
  until: {event: review.written, then: [end]}
- wait: until 10:00 on weekdays, in the contact's time zone
- wait: {date: contact.birthday, minus: 3d, yearly: true}
  missing: [end]
""",
)
