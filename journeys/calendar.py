"""The next time that a clock on a wall shows a time of day. Pure; daylight saving is respected."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from journeys.plan import LocalTime

_DAYS_TO_LOOK = 400  # every weekday comes long before; a calendar may leave out a day, not a year


def next_local(at: datetime, local: LocalTime, contact_zone: str | None, fallback: str = "UTC") -> datetime:
    """The first moment after `at` at which the clock shows `local.time` on one of its weekdays.

    At most once a day: of an hour that the clock shows twice, the first counts. A time that the clock jumps over comes
    when it has jumped. It is always later than `at`, so a loop through it cannot stand still.

    Args:
        at: an aware time.
        local: what the clock has to show.
        contact_zone: the contact's zone, used where `local.zone` is `contact`; may be missing or nonsense.
        fallback: the zone of contacts whose own is not known.

    Returns:
        An aware time in UTC.
    """
    zone = _zone(local.zone, contact_zone, fallback)
    wanted = time.fromisoformat(local.time)
    first = at.astimezone(zone).date()
    for ahead in range(_DAYS_TO_LOOK):
        day = first + timedelta(days=ahead)
        if day.weekday() not in local.weekdays:
            continue
        moment = _shown(day, wanted, zone)
        if moment is not None and moment > at:
            return moment
    raise ValueError(f"no day of {local.weekdays} within {_DAYS_TO_LOOK} days of {at}")


@lru_cache(maxsize=2048)
def is_zone(name: str) -> bool:
    """Whether a name is a time zone of the IANA database."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there; not a name; a folder of the database
        return False
    return True


def _zone(name: str, contact_zone: str | None, fallback: str) -> ZoneInfo:
    if name != "contact":
        return ZoneInfo(name)
    return ZoneInfo(contact_zone if contact_zone and is_zone(contact_zone) else fallback)


@lru_cache(maxsize=8192)
def _shown(day: date, wanted: time, zone: ZoneInfo) -> datetime | None:
    """The moment at which the clock shows a time on a day; None if the zone leaves the day out."""
    before = _in_utc(day, wanted, zone, fold=0)
    if _reads(before, zone) == (day, wanted):
        return before
    # The clock jumps over it: with the offset from after the jump the moment lies before the jump, and the other way
    # round. The jump is where the offset changes in between.
    low, high = _in_utc(day, wanted, zone, fold=1), before
    offset = high.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        low, high = (low, middle) if middle.astimezone(zone).utcoffset() == offset else (middle, high)
    return high if high.astimezone(zone).date() == day else None


def _in_utc(day: date, wanted: time, zone: ZoneInfo, fold: int) -> datetime:
    return datetime.combine(day, wanted, zone).replace(fold=fold).astimezone(UTC)


def _reads(moment: datetime, zone: ZoneInfo) -> tuple[date, time]:
    shown = moment.astimezone(zone)
    return shown.date(), shown.time()
