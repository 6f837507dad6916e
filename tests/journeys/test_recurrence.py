"""Recurrence rules: which are kept, and when they fall due."""

import time
from datetime import UTC, datetime

import pytest

from journeys import recurrence
from journeys.compiler import compile as compiled
from journeys.loader import load


def at(text: str) -> datetime:
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "zone", "after", "due"),
    [
        ("FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9", "UTC", "2026-11-01T00:00", "2026-11-27T09:00"),
        ("RRULE:FREQ=DAILY;BYHOUR=9;BYMINUTE=30", "Europe/Moscow", "2026-11-01T06:30", "2026-11-02T06:30"),
        ("freq=daily;byhour=9;byminute=30", "Europe/Moscow", "2026-11-01T06:29", "2026-11-01T06:30"),
        ("DTSTART:20260105T090000 FREQ=WEEKLY;INTERVAL=2", "UTC", "2026-01-05T09:00", "2026-01-19T09:00"),
        # The clock jumps from 2:00 to 3:00, and back from 3:00 to 2:00.
        ("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T01:30"),
        ("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", "Europe/Berlin", "2026-03-29T01:30", "2026-03-30T00:30"),
        ("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T00:30"),
        ("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", "Europe/Berlin", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("FREQ=HOURLY", "UTC", "2026-11-01T10:00", "2026-11-01T11:00"),
    ],
)
def test_when_a_rule_falls_due(rule: str, zone: str, after: str, due: str) -> None:
    assert recurrence.following(recurrence.check(rule), zone, at(after)) == at(due)


def test_a_rule_that_is_over() -> None:
    rule = recurrence.check("DTSTART:20260105T090000 FREQ=DAILY;COUNT=3")
    assert recurrence.following(rule, "UTC", at("2026-01-06T10:00")) == at("2026-01-07T09:00")
    assert recurrence.following(rule, "UTC", at("2026-01-07T09:00")) is None


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("FREQ=MINUTELY;BYHOUR=9", "once an hour at most"),
        ("FREQ=DAILY", "does not say at what time"),
        ("FREQ=DAILY;INTERVAL=2;BYHOUR=9", "need a beginning"),
        ("FREQ=DAILY;BYHOUR=25", "no recurrence rule"),
        ("FREQ=DAILY;BYHOUR=9;BYEASTER=1", "cannot be kept"),
        ("FREQ=DAILY;BYHOUR=9;UNTIL=20200101T000000", "never falls due"),
        ("DTSTART:20190105T090000 FREQ=DAILY;COUNT=3", "never falls due"),
        ("DTSTART:20261305T090000 FREQ=DAILY", "is no time"),
        ("DTSTART:00010101T000000 FREQ=HOURLY", "too long ago"),
        ("FREQ=DAILY;BYHOUR=9 FREQ=DAILY", "no blanks"),
        ("FREQ=DAILY;NONSENSE=1;BYHOUR=9", "no recurrence rule"),
        ("FREQ=DAILY;BYHOUR=" + "9," * 400, "too long"),
    ],
)
def test_rules_that_are_refused(rule: str, said: str) -> None:
    with pytest.raises(recurrence.Unreadable, match=said):
        recurrence.check(rule)


NEVER = (
    "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=31",
    "FREQ=HOURLY;BYYEARDAY=-400",
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;BYHOUR=9",
    "FREQ=DAILY;BYHOUR=9;BYSETPOS=2",
    "FREQ=WEEKLY;BYDAY=MO;BYHOUR=9;BYSETPOS=50",
    "DTSTART:20260105T090000 FREQ=HOURLY;INTERVAL=168;BYDAY=TU",
)


@pytest.mark.parametrize("rule", NEVER)
def test_a_rule_that_never_falls_due_is_found_out_quickly(rule: str) -> None:
    """Not by looking through eight thousand years."""
    started = time.process_time()
    with pytest.raises(recurrence.Unreadable, match=r"never falls due|no recurrence rule"):
        recurrence.check(rule)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("day", ["BYMONTHDAY=29;BYMONTH=2", "BYMONTHDAY=29;BYMONTH=2;BYDAY=MO", "BYWEEKNO=53;BYDAY=SU"])
@pytest.mark.parametrize("year", [2000, 2024, 2026, 2096])
def test_a_rare_day_is_kept(day: str, year: int) -> None:
    rule = f"DTSTART:{year}0301T090000 FREQ=YEARLY;{day}"
    assert recurrence.check(rule) == rule


def test_in_a_journey() -> None:
    enter = "{schedule: FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9, in: Europe/Moscow, segment: all}"
    entry = compiled(load(f"journey: x\nenter: {enter}\nsteps: [end]\n")).entry
    assert (entry.rrule, entry.cron, entry.zone) == ("FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9", None, "Europe/Moscow")
