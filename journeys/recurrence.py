"""Recurrence rules (RFC 5545, section 3.3.10) as schedules: `FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9`.

Times are those of a clock on the wall in a zone: a time that the clock jumps over comes when it has jumped, and one
that comes twice counts the first time. Without `DTSTART:…` the rule is counted from a Monday long ago, so it has to say
at which hours it falls due, and cannot count (`COUNT`, `INTERVAL`).
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr

_ANCHOR = datetime(2024, 1, 1)  # noqa: DTZ001 -- a clock on the wall; a Monday
_START = re.compile(r"DTSTART:(\d{8}T\d{6})\s+", re.IGNORECASE)
_RARE = ("HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
LENGTH_LIMIT = 500


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
    tidy = (f"DTSTART:{start:%Y%m%dT%H%M%S} " if start else "") + rule
    try:
        if _rule(tidy).after(_ANCHOR - timedelta(days=1)) is None:
            raise Unreadable("the rule never falls due", "look at UNTIL and COUNT")
    except (ValueError, TypeError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"this is no recurrence rule: {error}", "write FREQ=WEEKLY;BYDAY=MO;BYHOUR=9") from error
    return tidy


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
    made = rrulestr(rule, dtstart=start or _ANCHOR)
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
