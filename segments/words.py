"""Durations and moments as people write them: `4h`, `2 days`, `2026-05-09`, `now-30d`."""

import re
from datetime import UTC, datetime, timedelta

LONGEST = timedelta(days=3650)
_FARTHEST = timedelta(days=73_000)  # a date of birth may lie that far back

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNIT_WORDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
}
_PART = re.compile(r"([0-9]{1,9}) ?([a-z]+)(?: |$|(?=[0-9]))")
_RELATIVE = re.compile(r"now(?: ?([+-]) ?([0-9a-z ]+))?")

DAY = (
    r"(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29)"
)
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?"
MOMENT = rf"{DAY}(?:[T ]{_CLOCK}(?:Z|[+-](?:0[0-9]|1[0-4]):?[0-5][0-9])?)?"
"""ISO 8601 days and moments that exist in the calendar. Python and PostgreSQL read this expression alike, so a text
that matches can be cast in either without an error."""
_MOMENT = re.compile(MOMENT)
_DAY = re.compile(DAY)


def duration(words: str) -> timedelta | None:
    """Read `90s`, `30m`, `4h`, `2d`, `1w`, `1d 12h`, `2 days`; None if it is not a duration.

    Zero, and more than ten years (`LONGEST`), are durations; callers that refuse them say so.
    """
    position, seconds = 0, 0
    while position < len(words):
        part = _PART.match(words, position)
        if part is None or part[2] not in _UNIT_WORDS:
            return None
        seconds += int(part[1]) * _UNITS[_UNIT_WORDS[part[2]]]
        position = part.end()
    if not words or words[-1] == " ":
        return None
    return timedelta(seconds=min(seconds, 100 * LONGEST.total_seconds()))


def moment(words: str) -> datetime | None:
    """Read an ISO 8601 day (its midnight) or moment, in UTC unless it names an offset; None if it is neither."""
    if not _MOMENT.fullmatch(words):
        return None
    at = datetime.fromisoformat(words)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def is_day(words: str) -> bool:
    """Whether this is a day without a time."""
    return _DAY.fullmatch(words) is not None


def relative(words: str) -> timedelta | None:
    """Read `now`, `now-30d`, `now+2h` as a distance from now; None if it is something else."""
    match = _RELATIVE.fullmatch(words)
    if match is None:
        return None
    if match[1] is None:
        return timedelta()
    distance = duration(match[2].strip())
    if distance is None or distance > _FARTHEST:
        return None
    return -distance if match[1] == "-" else distance


_SAID = (("week", 604_800), ("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def said(seconds: float) -> str:
    """A length of time in words: `1 day 4 hours`, `0.5 seconds`."""
    left, parts = seconds, []
    for name, unit in _SAID:
        if name == "week" and left % unit:  # `30 days` says more than `4 weeks 2 days`
            continue
        number, left = divmod(left, unit)
        if number:
            parts.append(f"{number:.0f} {name}{'' if number == 1 else 's'}")
    return " ".join(parts) or f"{left:.3g} seconds"
