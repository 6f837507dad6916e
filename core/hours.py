"""Opening hours by a clock in a time zone, public holidays included. Pure but for the holidays' own tables."""

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DAYS_TO_LOOK = 400


def opens(
    at: datetime,
    start: str,
    end: str,
    weekdays: Collection[int],
    country: str | None = None,
    zone: str | None = None,
) -> datetime | None:
    """When it opens next; `at` itself if it is open.

    A window that spans midnight belongs to the day on which it begins. Where the clock jumps over the begin, it opens
    when the clock has jumped.

    Args:
        at: an aware time.
        start: HH:MM.
        end: HH:MM; the same as `start` is the whole day, and not later than `start` is on the next day.
        weekdays: 0 is Monday.
        country: whose public holidays are left out: ISO 3166, also with a part such as `DE-BY`.
        zone: an IANA name; UTC for None or nonsense.

    Returns:
        An aware time in UTC; None if it never opens within 400 days.
    """
    local = zone_of(zone)
    begin, finish = time.fromisoformat(start), time.fromisoformat(end)
    today = at.astimezone(local).date()
    for ahead in range(-1, _DAYS_TO_LOOK):
        day = today + timedelta(days=ahead)
        if day.weekday() not in weekdays or (country is not None and is_holiday(day, country)):
            continue
        last = day if finish > begin else day + timedelta(days=1)
        opened = datetime.combine(day, begin, local).astimezone(UTC)
        closed = datetime.combine(last, finish, local).astimezone(UTC)
        if at < closed:
            return max(opened, at.astimezone(UTC))
    return None


@lru_cache(maxsize=1024)
def zone_of(name: str | None) -> ZoneInfo:
    """A time zone; UTC for None and for names that nobody knows."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


@lru_cache(maxsize=256)
def is_country(name: str) -> bool:
    """Whether the public holidays of a country, or of a part of one (`DE-BY`), are known."""
    import holidays  # noqa: PLC0415 - a large table; most journeys need none of it

    country, _, part = name.partition("-")
    known = holidays.list_supported_countries(include_aliases=False)
    return country in known and (not part or part in known[country])


@lru_cache(maxsize=4096)
def is_holiday(day: date, country: str) -> bool:
    """Whether a day is a public holiday there."""
    import holidays  # noqa: PLC0415 - as above

    name, _, part = country.partition("-")
    return day in holidays.country_holidays(name, subdiv=part or None, years=day.year)
