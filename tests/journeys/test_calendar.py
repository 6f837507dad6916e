"""The next time a clock shows a time: weekdays, daylight saving, and properties that hold in every zone."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeys.calendar import is_zone, next_local
from journeys.plan import LocalTime

WEEKDAYS = (0, 1, 2, 3, 4)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("now", "clock", "days", "zone", "expected"),
    [
        ("2026-05-08T09:00+03:00", "10:00", WEEKDAYS, "Europe/Moscow", "2026-05-08T10:00+03:00"),
        (
            "2026-05-08T10:00+03:00",
            "10:00",
            WEEKDAYS,
            "Europe/Moscow",
            "2026-05-11T10:00+03:00",
        ),  # not now: strictly later
        ("2026-05-08T22:00+03:00", "10:00", WEEKDAYS, "Asia/Vladivostok", "2026-05-11T10:00+10:00"),  # Saturday there
        ("2026-12-31T23:59+00:00", "00:00", (0, 1, 2, 3, 4, 5, 6), "UTC", "2027-01-01T00:00+00:00"),
        # Berlin, 2026-03-29: from 02:00 the clock jumps to 03:00
        ("2026-03-29T00:00+01:00", "02:30", (6,), "Europe/Berlin", "2026-03-29T03:00+02:00"),
        ("2026-03-29T00:00+01:00", "03:00", (6,), "Europe/Berlin", "2026-03-29T03:00+02:00"),
        # Berlin, 2026-10-25: 02:00 to 03:00 comes twice; the first counts, and only that
        ("2026-10-25T00:00+02:00", "02:30", (6,), "Europe/Berlin", "2026-10-25T02:30+02:00"),
        ("2026-10-25T02:30+02:00", "02:30", (6,), "Europe/Berlin", "2026-11-01T02:30+01:00"),
        # Lord Howe Island moves by half an hour
        ("2026-10-04T00:00+10:30", "02:15", (6,), "Australia/Lord_Howe", "2026-10-04T02:30+11:00"),
        # Samoa left out Friday, 30 December 2011
        ("2011-12-29T12:00-10:00", "09:00", (4,), "Pacific/Apia", "2012-01-06T09:00+14:00"),
    ],
)
def test_the_next_time(now: str, clock: str, days: tuple[int, ...], zone: str, expected: str) -> None:
    local = LocalTime(time=clock, weekdays=days, zone=zone)
    assert next_local(at(now), local, None) == at(expected)


@pytest.mark.parametrize("zone", [None, "", "Mars/Base", "../../etc/passwd", "Europe", "\0"])
def test_a_contact_without_a_usable_zone_falls_back(zone: str | None) -> None:
    local = LocalTime(time="10:00", zone="contact")
    assert next_local(at("2026-05-08T00:00Z"), local, zone) == at("2026-05-08T10:00Z")
    assert next_local(at("2026-05-08T00:00Z"), local, zone, "Europe/Moscow") == at("2026-05-08T10:00+03:00")
    assert next_local(at("2026-05-08T00:00Z"), local, "Asia/Tokyo") == at("2026-05-08T10:00+09:00")


def test_names_of_zones() -> None:
    assert is_zone("Europe/Moscow")
    assert not is_zone("Europe/Moskow")
    assert not is_zone("Europe")


_ZONES = st.sampled_from(
    ["UTC", "Europe/Moscow", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe",
     "Africa/Casablanca", "Asia/Kathmandu", "Pacific/Chatham", "America/St_Johns", "Asia/Beirut", "Antarctica/Troll"]
)  # fmt: skip
_MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2035, 1, 1)).map(lambda one: one.replace(tzinfo=UTC))  # noqa: DTZ001
_DAYS = st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days)))


@settings(max_examples=400, deadline=None)
@given(now=_MOMENTS, hour=st.integers(0, 23), minute=st.integers(0, 59), days=_DAYS, name=_ZONES)
def test_what_is_found_is_right_and_the_first(
    now: datetime, hour: int, minute: int, days: tuple[int, ...], name: str
) -> None:
    zone, wanted = ZoneInfo(name), time(hour, minute)
    found = next_local(now, LocalTime(time=f"{hour:02}:{minute:02}", weekdays=days, zone=name), None)
    shown = found.astimezone(zone)
    assert found > now
    assert shown.weekday() in days
    if shown.time() != wanted:  # the clock jumped over it: just before, it showed an earlier time
        before = (found - timedelta(seconds=1)).astimezone(zone)
        assert before.time() < wanted < shown.time()
        assert before.utcoffset() != shown.utcoffset()
    # Nothing earlier would do: in between, the clock showed the time before `now` or on other days.
    day = now.astimezone(zone).date()
    while day < shown.date():
        moment = datetime.combine(day, wanted, zone)
        assert day.weekday() not in days or moment.astimezone(UTC) <= now or moment.astimezone(UTC) >= found
        day += timedelta(days=1)
