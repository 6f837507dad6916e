"""Times, events and criteria of a plan in words, for pictures, pages and histories."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from core.errors import InvalidInput
from journeys.plan import AttributeDate, EventFilter, LocalTime, Plan, Window
from segments import eventfilter
from segments.criteria import parse

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY_WORDS = {(0, 1, 2, 3, 4, 5, 6): "", (0, 1, 2, 3, 4): " on weekdays", (5, 6): " on weekends"}
_WAYS = {
    "entry": "entered",
    "next": "went on",
    "moved": "was moved, by a new version or by hand",
    "missing": "there is no such date",
    "overdue": "the message was overdue and left out",
    "join": "the branches have met",
    "answered": "there was an answer",
    "failed": "the call failed",
    "otherwise": "no branch held",
    "event": "the event came",
    "timeout": "the time had come",
    "criteria": "the criteria held",
}
_NAMED_WAYS = {
    "branch": "branch {} held",
    "arm": "was given arm {}",
    "parallel": "began the branch {}",
    "answer": "answer {} held",
}
_UNITS = (("week", 604_800), ("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def span(seconds: float) -> str:
    """A length of time in words: `1 day 4 hours`."""
    left, said = timedelta(seconds=seconds).total_seconds(), []
    for name, unit in _UNITS:
        number, left = divmod(left, unit)
        if number:
            said.append(f"{number:.0f} {name}{'' if number == 1 else 's'}")
    if left and not said:
        return f"{left:.3g} seconds"
    return " ".join(said)


def date_of(date: AttributeDate) -> str:
    """A date of the contact's in words: `3 days before the contract_ends`."""
    name = f"the contact's {date.attribute}" + (" comes round" if date.yearly else "")
    if not date.offset_seconds:
        return name
    return f"{span(abs(date.offset_seconds))} {'after' if date.offset_seconds > 0 else 'before'} {name}"


def window(hours: Window) -> str:
    """Hours of the week in words."""
    clock = "" if hours.start == hours.end else f"between {hours.start} and {hours.end}"
    days = _DAY_WORDS.get(hours.weekdays, " on " + ", ".join(_DAYS[day] for day in hours.weekdays))
    holidays = f" but not on holidays of {hours.holidays}" if hours.holidays else ""
    zone = "the contact's time zone" if hours.zone == "contact" else hours.zone
    return f"{clock}{days}{holidays}, in {zone}".strip()


def local_time(local: LocalTime) -> str:
    """A time of day in words."""
    named = _DAY_WORDS.get(local.weekdays, " on " + ", ".join(_DAYS[day] for day in local.weekdays))
    zone = "the contact's time zone" if local.zone == "contact" else local.zone
    return f"{local.time}{named}, in {zone}"


def way(via: str) -> str:
    """How a contact came to a step, by what the machine says of it. What nobody knows stays as it is."""
    kind, _, name = via.partition(":")
    return _NAMED_WAYS[kind].format(name) if kind in _NAMED_WAYS else _WAYS.get(kind, via)


def event(given: EventFilter) -> str:
    """An event and what must be true of it."""
    name = given.event if given.event != "*" else "anything"
    return f"{name} where {eventfilter.phrase(given.where)}" if given.where else name


def criteria(plan: Plan, number: int) -> str:
    """Criteria of a plan in words. Those of a version that knew others stay as they are written."""
    try:
        return parse(plan.criteria[number], in_journey=True).words()
    except InvalidInput:
        return str(plan.criteria[number])


def as_written(data: Any) -> str:
    """Data of a journey in a line, near to how it was written: `contact.age: gte: 18`."""
    if isinstance(data, Mapping):
        return ", ".join(f"{key}: {as_written(value)}" for key, value in data.items())
    if isinstance(data, list | tuple):
        return "[" + "; ".join(as_written(one) for one in data) + "]"
    return str(data).lower() if isinstance(data, bool) else str(data)
