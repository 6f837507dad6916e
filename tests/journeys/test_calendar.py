"""The next time a clock shows a time: weekdays, daylight saving, and properties that hold in every zone."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.hours import opens
from journeys.calendar import date_due, is_zone, next_local, window_opens
from journeys.plan import DateOf, LocalTime, Window

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


@pytest.mark.parametrize(
    ("value", "wanted", "zone", "expected"),
    [
        ("2026-12-10", {}, "Europe/Moscow", "2026-12-10T10:00+03:00"),
        ("2026-12-10", {"time": "18:30", "zone": "Asia/Tokyo"}, "Europe/Moscow", "2026-12-10T18:30+09:00"),
        ("2026-12-10", {"offset_seconds": -259_200}, None, "2026-12-07T10:00+00:00"),
        ("2026-12-10T21:30:00Z", {}, "Europe/Moscow", "2026-12-11T00:30+03:00"),
        ("2026-12-10T21:30:00Z", {"time": "09:00"}, "Europe/Moscow", "2026-12-11T09:00+03:00"),
        ("1990-11-23", {"yearly": True}, "Europe/Moscow", "2026-11-23T10:00+03:00"),
        ("1990-11-22", {"yearly": True}, "Europe/Moscow", "2027-11-22T10:00+03:00"),
        ("1990-11-22", {"yearly": True, "offset_seconds": 86_400}, "Europe/Moscow", "2026-11-23T10:00+03:00"),
        ("1990-01-02", {"yearly": True, "offset_seconds": -7 * 86_400}, None, "2026-12-26T10:00+00:00"),
        ("1992-02-29", {"yearly": True}, None, "2027-02-28T10:00+00:00"),
        ("soon", {}, None, None),
        (None, {}, None, None),
        (5, {}, None, None),
        ("2026-13-40", {}, None, None),
    ],
)
def test_when_a_date_comes(value: object, wanted: dict[str, object], zone: str | None, expected: str | None) -> None:
    found = date_due(
        value, DateOf.model_validate({"attribute": "d", "missing": 0, **wanted}), zone, at("2026-11-22T12:00+00:00")
    )
    assert found == (at(expected) if expected else None)


@given(
    st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001 - naive is what the strategy takes
    st.integers(-400, 400),
)
def test_an_anniversary_is_the_next_one(day: object, now: datetime, offset: int) -> None:
    present = now.replace(tzinfo=UTC)
    birthday = DateOf(attribute="d", missing=0, yearly=True, offset_seconds=offset * 86_400)
    found = date_due(str(day), birthday, None, present)
    assert found is not None and present < found <= present + timedelta(days=366, hours=1)


@pytest.mark.parametrize(
    ("now", "window", "expected"),
    [
        ("2026-11-20T12:00+03:00", {"start": "10:00", "end": "20:00"}, "2026-11-20T12:00+03:00"),
        ("2026-11-20T20:00+03:00", {"start": "10:00", "end": "20:00"}, "2026-11-21T10:00+03:00"),
        ("2026-11-20T20:00+03:00", {"start": "10:00", "end": "20:00", "weekdays": WEEKDAYS}, "2026-11-23T10:00+03:00"),
        # Friday's night reaches into Saturday; Saturday has none of its own.
        ("2026-11-21T03:00+03:00", {"start": "22:00", "end": "06:00", "weekdays": (4,)}, "2026-11-21T03:00+03:00"),
        ("2026-11-21T07:00+03:00", {"start": "22:00", "end": "06:00", "weekdays": (4,)}, "2026-11-27T22:00+03:00"),
        ("2026-11-21T07:00+03:00", {"weekdays": (0,)}, "2026-11-23T00:00+03:00"),
        ("2026-11-03T23:00+03:00", {"start": "10:00", "end": "20:00", "holidays": "RU"}, "2026-11-05T10:00+03:00"),
    ],
)
def test_when_a_window_opens(now: str, window: dict[str, object], expected: str) -> None:
    assert window_opens(at(now), Window.model_validate(window), "Europe/Moscow") == at(expected)


def test_a_window_without_days_never_opens() -> None:
    assert opens(at("2026-11-20T12:00+03:00"), "10:00", "20:00", ()) is None
