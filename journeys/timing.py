"""Times as a journey writes them: `4h`, `until 10:00 on weekdays, in the contact's time zone`, `0 9 * * mon`."""

import re
from dataclasses import dataclass
from datetime import timedelta

from core.documents import did_you_mean
from core.hours import is_country
from journeys import recurrence
from journeys.calendar import is_zone
from journeys.plan import LocalTime
from segments import words

_UNTIL = re.compile(
    r"until (?P<time>\S+?)(?:,? on (?P<days>.+?))?(?:,? every (?P<every>\w+))?(?:,? in (?P<zone>.+))?", re.IGNORECASE
)
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_WORDS: dict[str, tuple[int, ...]] = {
    **{form: (day,) for day, name in enumerate(_NAMES) for form in (name, name + "s", name[:3])},
    "weekdays": (0, 1, 2, 3, 4),
    "weekday": (0, 1, 2, 3, 4),
    "working days": (0, 1, 2, 3, 4),
    "weekends": (5, 6),
    "weekend": (5, 6),
}
_CONTACT_ZONE = ("the contact's time zone", "contact's time zone", "their time zone", "the contact’s time zone")
_EXAMPLE = "write wait: 4h, or wait: until 10:00 on weekdays, in the contact's time zone"

_CRON_WORDS = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")
_CRON_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


class Unreadable(ValueError):
    """Words about time that mean nothing; with a mend."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.mend = mend


@dataclass(frozen=True)
class Length:
    """How long a wait lasts: a duration, until a clock shows a time, or (both None) until an event comes."""

    duration: timedelta | None = None
    local: LocalTime | None = None


def length(text: str) -> Length:
    """Read what stands behind `wait:`.

    Raises:
        Unreadable: it is not a length of time, or longer than ten years.
    """
    tidy = " ".join(text.split())
    if tidy == "forever":
        return Length()
    if tidy.lower().startswith("until "):
        return Length(local=_local(tidy))
    return Length(duration=duration(tidy))


def duration(text: str) -> timedelta:
    """Read a duration of more than nothing and at most ten years.

    Raises:
        Unreadable: it is not one.
    """
    found = words.duration(text)
    if found is None:
        unit = "M is not a unit here; minutes are m, days are d" if text.endswith("M") else _EXAMPLE
        raise Unreadable(f"{text!r} is not a length of time", unit)
    if found <= timedelta():
        raise Unreadable("a wait of no time", "leave the step out, or write 1m")
    if found > words.LONGEST:
        raise Unreadable(f"{text} is longer than ten years", "write at most 3650d")
    return found


def zone(text: str) -> str:
    """Read a time zone: an IANA name, or `the contact's time zone`, which gives `contact`.

    Raises:
        Unreadable: there is no such zone.
    """
    if text.lower() in _CONTACT_ZONE:
        return "contact"
    if not is_zone(text):
        raise Unreadable(f"there is no time zone {text}", _near_zone(text))
    return text


def clock(text: str) -> str:
    """Read a time of day; gives it as HH:MM.

    Raises:
        Unreadable: it is not one.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise Unreadable(f"{text!r} is not a time of day", "write it like 10:00")
    return f"{int(match[1]):02}:{match[2]}"


def span(text: str) -> tuple[str, str]:
    """Read hours such as `22:00-08:00`; gives their begin and end.

    Raises:
        Unreadable: they are not hours, or no time at all.
    """
    parts = [part.strip() for part in text.replace("–", "-").split("-")]
    if len(parts) != 2:
        raise Unreadable(f"{text!r} are not hours", "write them like 22:00-08:00")
    begin, end = clock(parts[0]), clock(parts[1]) if parts[1] != "24:00" else "00:00"
    if begin == end:
        raise Unreadable(f"{text} begins and ends at once", "leave it out for the whole day")
    return begin, end


def weekdays(text: str) -> tuple[int, ...]:
    """Read days of the week in words; gives their numbers, 0 is Monday.

    Raises:
        Unreadable: a word names no day.
    """
    return _weekdays(" ".join(text.split()))


def holidays(text: str) -> str:
    """Check the name of a country (`RU`), or of a part of one (`DE-BY`), whose holidays are known.

    Raises:
        Unreadable: they are not.
    """
    if not is_country(text):
        raise Unreadable(f"the holidays of {text} are not known", "write a country like RU, or a part like DE-BY")
    return text


@dataclass(frozen=True)
class Schedule:
    """When something happens again and again: exactly one of both."""

    cron: str | None = None
    rrule: str | None = None


def schedule(text: str) -> Schedule:
    """Read what stands behind `schedule:`.

    Raises:
        Unreadable: it is neither cron nor a recurrence rule.
    """
    if not recurrence.is_rule(text):
        return Schedule(cron=cron(text))
    try:
        return Schedule(rrule=recurrence.check(text))
    except recurrence.Unreadable as error:
        raise Unreadable(str(error), error.mend) from None


def cron(text: str) -> str:
    """Check a cron expression of five fields, or a word such as `@daily`; gives it back tidied.

    Raises:
        Unreadable: it is not one.
    """
    tidy = " ".join(text.lower().split())
    if tidy in _CRON_WORDS:
        return tidy
    fields = tidy.split(" ")
    if len(fields) != len(_CRON_FIELDS):
        mend = "write minute, hour, day, month and weekday, such as 0 9 * * mon"
        raise Unreadable(f"a schedule has five fields, not {len(fields)}", mend)
    for written, (name, low, high, names) in zip(fields, _CRON_FIELDS, strict=True):
        for one in written.split(","):
            if not _cron_part(one, low, high, names):
                raise Unreadable(f"{written!r} is not a {name}", f"it goes from {low} to {high}; * is every one")
    return tidy


def _cron_part(text: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    span, slash, step = text.partition("/")
    if slash and not (step.isascii() and step.isdecimal() and 0 < int(step[:4]) <= high):
        return False
    if span == "*":
        return True
    ends = [_cron_number(end, low, names) for end in span.split("-")]
    if len(ends) > 2 or any(end is None or not low <= end <= high for end in ends):
        return False
    return ends == sorted(end for end in ends if end is not None)


def _cron_number(text: str, low: int, names: tuple[str, ...]) -> int | None:
    if text in names:
        return names.index(text) + low
    return int(text[:4]) if text.isascii() and text.isdecimal() else None


def _local(tidy: str) -> LocalTime:
    match = _UNTIL.fullmatch(tidy)
    clock = _TIME.fullmatch(match["time"].rstrip(",")) if match else None
    if match is None or clock is None:
        raise Unreadable(f"{tidy!r} does not name a time of day such as 10:00", _EXAMPLE)
    if match["every"] and match["every"].lower() != "day":
        raise Unreadable(f"every {match['every']} is not understood", "write on Mondays, on weekdays, or every day")
    days = _weekdays(match["days"]) if match["days"] else (0, 1, 2, 3, 4, 5, 6)
    where = zone(match["zone"]) if match["zone"] else "contact"
    return LocalTime(time=f"{int(clock[1]):02}:{clock[2]}", weekdays=days, zone=where)


def _weekdays(text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for word in re.split(r",? and |, ?", text.lower()):
        if word not in _DAY_WORDS:
            if word in {"holiday", "holidays", "public holidays"}:
                raise Unreadable(
                    "holidays differ from place to place", "write wait: {hours: 10:00-20:00, holidays: RU}"
                )
            mend = did_you_mean(word, tuple(_DAY_WORDS)) or "write weekdays, weekends, or Monday and Friday"
            raise Unreadable(f"{word} is not a day of the week", mend)
        found.update(_DAY_WORDS[word])
    return tuple(sorted(found))


def _near_zone(text: str) -> str:
    from zoneinfo import available_timezones  # noqa: PLC0415 - reads the disk; only needed for a wrong name

    mend = did_you_mean(text, tuple(sorted(available_timezones())))
    return mend if mend.startswith("did") else "write an IANA name such as Europe/Moscow, or the contact's time zone"
