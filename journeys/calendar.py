"""The next time that a clock on a wall shows a time of day. Pure; daylight saving is respected."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from core import hours
from journeys.plan import AttributeDate, LocalTime, Window

_MORNING = time(10)
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


def date_due(value: object, wanted: AttributeDate, contact_zone: str | None, at: datetime) -> datetime | None:
    """When the date comes that a wait waits for.

    Args:
        value: what the attribute holds: a day or a moment in ISO 8601.
        wanted: the offset, the time of the day, the zone and whether its anniversaries count.
        contact_zone: the contact's zone, used where `wanted.zone` is `contact`.
        at: the present; with `yearly` the next anniversary after it counts. The 29th of February is kept on the 28th
            in other years.

    Returns:
        An aware time in UTC, which may have passed; None if the value is no date.
    """
    zone = _zone(wanted.zone, contact_zone, "UTC")
    found = _day_and_time(value, zone)
    if found is None:
        return None
    day, clock = found
    shown = time.fromisoformat(wanted.time) if wanted.time else clock or _MORNING
    offset = timedelta(seconds=wanted.offset_seconds)
    days = [day] if not wanted.yearly else [_in_year(day, at.year + ahead) for ahead in range(-11, 12)]
    moments = [datetime.combine(one, shown, zone).astimezone(UTC) + offset for one in days]
    return next((moment for moment in moments if moment > at), moments[-1]) if wanted.yearly else moments[0]


def window_opens(at: datetime, window: Window, contact_zone: str | None) -> datetime | None:
    """When hours of the week begin next; `at` if they are now, None if they never come. See core.hours.opens."""
    zone = contact_zone if window.zone == "contact" else window.zone
    return hours.opens(at, window.start, window.end, window.weekdays, window.holidays, zone)


def _day_and_time(value: object, zone: ZoneInfo) -> tuple[date, time | None] | None:
    if not isinstance(value, str):
        return None
    try:
        if len(value) == 10:
            return date.fromisoformat(value), None
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    local = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(zone)
    return local.date(), local.time()


def _in_year(day: date, year: int) -> date:
    try:
        return day.replace(year=year)
    except ValueError:
        return date(year, 2, 28)


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
