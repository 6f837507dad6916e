"""Recurrence rules (RFC 5545, section 3.3.10) as schedules: `FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9`.

Times are those of a clock on the wall in a zone: a time that the clock jumps over comes when it has jumped, and one
that comes twice counts the first time. Without `DTSTART:…` the rule is counted from a Monday long ago, so it has to say
at which hours it falls due, and cannot count (`COUNT`, `INTERVAL`).
"""

import re
from calendar import isleap
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr

_ANCHOR = datetime(2024, 1, 1)  # noqa: DTZ001 -- a clock on the wall; a Monday
_START = re.compile(r"DTSTART:(\d{8}T\d{6})\s+", re.IGNORECASE)
_RARE = ("HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
LENGTH_LIMIT = 500
_FIRST_YEAR = 2000
"""Every occasion since the beginning is gone through whenever the next one is looked for."""
_LAST_YEARS = range(9904, 9932)
"""Every calendar that a year may have, and no century whose leap day is left out until the end of time."""


class Unreadable(ValueError):
    """It is no recurrence rule that can be kept; with a mend."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.mend = mend


def is_rule(text: str) -> bool:
    """Whether a schedule is written as a recurrence rule and not as cron."""
    return "FREQ=" in text.upper()


def check(text: str) -> str:
    """Check a rule, with or without `RRULE:` and `DTSTART:20260105T090000`; gives it back tidied.

    Raises:
        Unreadable: it is not one, or one that never or too often falls due.
    """
    start, rule = _parts(text)
    named = dict(part.partition("=")[::2] for part in rule.split(";"))
    if named.get("FREQ") not in _RARE:
        raise Unreadable("a schedule falls due once an hour at most", f"write FREQ={' or '.join(_RARE[1:4])}")
    if any(key in named for key in ("BYSECOND", "BYEASTER")):
        raise Unreadable("seconds and Easter cannot be kept", "write BYHOUR and BYMINUTE")
    if start is None and any(key in named for key in ("INTERVAL", "COUNT")):
        raise Unreadable("INTERVAL and COUNT need a beginning", "write DTSTART:20260105T090000 in front")
    if start is None and "BYHOUR" not in named and named["FREQ"] != "HOURLY":
        raise Unreadable("the rule does not say at what time", "add ;BYHOUR=9")
    if start is not None and start.year < _FIRST_YEAR:
        raise Unreadable("DTSTART lies too long ago", f"begin in {_FIRST_YEAR} or later")
    tidy = (f"DTSTART:{start:%Y%m%dT%H%M%S} " if start else "") + rule
    try:
        if not _possible(start or _ANCHOR, named) or _rule(tidy).after(_ANCHOR - timedelta(days=1)) is None:
            raise Unreadable("the rule never falls due", "look at UNTIL and COUNT")
    except (ValueError, TypeError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"this is no recurrence rule: {error}", "write FREQ=WEEKLY;BYDAY=MO;BYHOUR=9") from error
    return tidy


def _possible(start: datetime, named: Mapping[str, str]) -> bool:
    """Whether a rule falls due within two generations of its start, leaving out how it ends.

    A rule that never does would be looked for until the year 9999, which takes ten seconds. So it is looked for in
    those last years only: days and weekdays come round every 28 years.
    """
    endless = ";".join(f"{key}={value}" for key, value in named.items() if key not in {"UNTIL", "COUNT"})
    late = next(start.replace(year=year) for year in _LAST_YEARS if _calendar(year) == _calendar(start.year))
    return _rule_from(endless, late).after(late, inc=True) is not None


def _calendar(year: int) -> tuple[bool, int]:
    """The same for years whose days fall on the same weekdays."""
    return isleap(year), date(year, 1, 1).weekday()


def following(text: str, zone: str, after: datetime) -> datetime | None:
    """When a rule falls due next after a moment, in UTC; None if never again."""
    place = ZoneInfo(zone)
    shown = after.astimezone(place).replace(tzinfo=None)
    # Back by two hours: what the clock jumped over may come later than it says.
    candidate: datetime | None = _rule(text).after(shown - timedelta(hours=2), inc=True)
    while candidate is not None:
        moment = candidate.replace(tzinfo=place).astimezone(UTC)
        if moment > after:
            return moment
        candidate = _rule(text).after(candidate)
    return None


@lru_cache(maxsize=256)
def _rule(text: str) -> rrule:
    start, rule = _parts(text)
    return _rule_from(rule, start or _ANCHOR)


def _rule_from(rule: str, start: datetime) -> rrule:
    made = rrulestr(rule, dtstart=start)
    if not isinstance(made, rrule):
        raise Unreadable("one rule is expected here", "make two journeys")
    return made


def _parts(text: str) -> tuple[datetime | None, str]:
    if len(text) > LENGTH_LIMIT:
        raise Unreadable("the rule is too long", "make it shorter")
    tidy = " ".join(text.split()).upper()
    match = _START.match(tidy + " ")
    try:
        start = datetime.strptime(match[1], "%Y%m%dT%H%M%S") if match else None  # noqa: DTZ007 -- a wall clock's
    except ValueError:
        raise Unreadable(f"{match[1] if match else ''} is no time", "write DTSTART:20260105T090000") from None
    rule = tidy[match.end() :] if match else tidy
    rule = rule.removeprefix("RRULE:").strip()
    if " " in rule or not rule:
        raise Unreadable("a recurrence rule has no blanks", "write FREQ=WEEKLY;BYDAY=MO;BYHOUR=9")
    return start, rule
