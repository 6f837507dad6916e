"""What a report is asked for, from words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.errors import InvalidInput
from core.settings import Settings
from reports.asking import read
from reports.query import Wanted

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def _read(settings: Settings, **other: Any) -> Wanted:
    return read(settings, NOW, **({"measures": ["sent"]} | other))


def test_the_period_is_a_time_ago_a_day_of_the_zone_or_a_moment(settings: Settings) -> None:
    plain = _read(settings)
    assert (plain.since, plain.until) == (NOW - timedelta(days=30), NOW)
    moscow = _read(settings, since="2026-06-01", until="2026-06-02T00:00:00Z", zone="Europe/Moscow")
    assert moscow.since == datetime(2026, 5, 31, 21, tzinfo=UTC)
    assert moscow.until == datetime(2026, 6, 2, tzinfo=UTC)


def test_what_is_named_twice_is_one_column(settings: Settings) -> None:
    wanted = _read(settings, measures=["sent", "open-rate", "sent"], by=["day", "day"])
    assert [one.slug for one in (*wanted.measures, *wanted.dimensions)] == ["sent", "open-rate", "day"]


@pytest.mark.parametrize(
    ("asked", "path", "words"),
    [
        ({"measures": []}, "measure", "no measure is named"),
        ({"measures": ["opn-rate"]}, "measure", "did you mean open-rate?"),
        ({"by": ["dya"]}, "by", "did you mean day?"),
        ({"since": "yesterday"}, "since", "write 30d or 2026-05-31"),
        ({"since": "2026-02-30"}, "since", "neither"),
        ({"until": "2026-01-01"}, "since", "ends before it begins"),
        ({"since": "1101d"}, "since", "longer than 1100 days"),
        ({"zone": "Europe/Moskva"}, "time_zone", "there is no time zone"),
        ({"zone": "../etc/passwd"}, "time_zone", "there is no time zone"),
        ({"limit": 10_001}, "limit", "from 1 to 10000"),
        ({"limit": 0}, "limit", "from 1 to 10000"),
        ({"journeys": [str(number) for number in range(101)]}, "journey", "more than 100"),
        ({"measures": ["sent", "entries"], "by": ["channel"]}, "by", "entries: enrollments have no channel"),
        ({"measures": ["conversions"], "by": ["step"]}, "by", "conversions: conversions have no step"),
        ({"measures": ["sent", "entries"], "channels": ["email"]}, "channel", "enrollments have no channel"),
    ],
)
def test_what_cannot_be_is_refused(settings: Settings, asked: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words.replace("?", r"\?")) as refused:
        _read(settings, **asked)
    assert [problem.path for problem in refused.value.problems] == [path]


def test_all_problems_are_said_at_once(settings: Settings) -> None:
    with pytest.raises(InvalidInput) as refused:
        _read(settings, measures=["x"], by=["y"], since="z", zone="w", limit=0)
    assert {problem.path for problem in refused.value.problems} == {"measure", "by", "since", "time_zone", "limit"}
