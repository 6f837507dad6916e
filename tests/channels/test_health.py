"""When a provider gives way to others, and when it has its place back."""

from datetime import date

import pytest

from channels.fates import tally
from channels.health import Tally, is_healthy
from channels.options import Options
from channels.provider import Outcome, Receipt


@pytest.mark.parametrize(
    ("minutes", "well"),
    [
        ([], True),
        ([Tally(failed=49)], True),  # too few to say anything
        ([Tally(failed=50)], False),
        ([Tally(accepted=25, failed=25)], True),
        ([Tally(accepted=24, failed=26)], False),
        ([Tally(accepted=60), Tally(failed=5000)], True),  # the newest minutes that hold enough count
        ([Tally(accepted=20), Tally(failed=5000)], False),
        ([Tally(accepted=100, undelivered=60)], False),
        ([Tally(accepted=100, delivered=50, undelivered=20)], True),
        ([Tally(delivered=20, undelivered=40)], False),
        ([Tally(undelivered=400)], True),  # bounces of yesterday's broadcast, of one who reports no deliveries
        ([Tally(undelivered=30), Tally(accepted=10_000)], True),
    ],
)
def test_health(minutes: list[Tally], well: bool) -> None:
    assert is_healthy(minutes) is well


def test_what_counts_against_a_provider() -> None:
    said = [
        Receipt(Outcome.ACCEPTED),
        Receipt(Outcome.REJECTED, reason="no such user"),
        Receipt(Outcome.REJECTED, reason="no credit", elsewhere=True),
        Receipt(Outcome.DEFERRED, reason="busy"),
        Receipt(Outcome.DEFERRED, reason="our limit", held=True),
        Receipt(Outcome.UNKNOWN, reason="hung up"),
    ]
    assert tally(said) == Tally(accepted=1, failed=3)


@pytest.mark.parametrize(
    ("day", "quota"),
    [
        (date(2026, 11, 21), 0),  # it has not begun
        (date(2026, 11, 22), 50),
        (date(2026, 11, 23), 100),
        (date(2026, 11, 26), 800),
        (date(2026, 11, 27), None),  # it is over
    ],
)
def test_a_warm_up_grows_day_by_day(day: date, quota: int | None) -> None:
    given = {"warm_up": "50", "warm_up_from": "2026-11-22", "warm_up_growth": "2", "warm_up_days": "5"}
    assert Options.of(given).quota(day) == quota
