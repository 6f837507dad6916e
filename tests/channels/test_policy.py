"""The policy, as a table; and what holds for all facts."""

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from channels.policy import (
    DelayUntil,
    Facts,
    Hours,
    Reason,
    Rules,
    Send,
    Skip,
    decide,
    quiet_until,
    valid_address,
)

GOOD = Facts("email", "marketing", True, "ann@example.com", True)
NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
NIGHT = Rules(quiet_from="22:00", quiet_to="08:00")
CAP = Rules(cap=2)


@pytest.mark.parametrize(
    ("facts", "rules", "want"),
    [
        (GOOD, Rules(), Send()),
        (replace(GOOD, known=False), Rules(), Skip(Reason.CONTACT_GONE)),
        (replace(GOOD, address=None), Rules(), Skip(Reason.NO_ADDRESS)),
        (replace(GOOD, address="a\r\nb@c.example"), Rules(), Skip(Reason.INVALID_ADDRESS)),
        (replace(GOOD, consent=None), Rules(), Skip(Reason.NO_CONSENT)),
        (replace(GOOD, consent=False), Rules(), Skip(Reason.NO_CONSENT)),
        (replace(GOOD, purpose="newsletter", consent=None), Rules(), Skip(Reason.NO_CONSENT)),
        (replace(GOOD, purpose="transactional", consent=None), Rules(), Send()),
        (replace(GOOD, purpose="transactional", consent=False), Rules(), Skip(Reason.NO_CONSENT)),
        (replace(GOOD, suppressed="bounced"), Rules(), Skip(Reason.SUPPRESSED, "bounced")),
        (replace(GOOD, suppressed="unsubscribed"), Rules(), Skip(Reason.SUPPRESSED, "unsubscribed")),
        (replace(GOOD, suppressed="unsubscribed", purpose="transactional"), Rules(), Send()),
        (
            replace(GOOD, suppressed="manual", purpose="transactional"),
            Rules(),
            Skip(Reason.SUPPRESSED, "manual"),
        ),
        (replace(GOOD, duplicate=True), Rules(), Skip(Reason.DUPLICATE)),
        (replace(GOOD, sent_lately=1), CAP, Send()),
        (replace(GOOD, sent_lately=2), CAP, Skip(Reason.FREQUENCY_CAP, "2 in 1 day, 0:00:00")),
        (replace(GOOD, sent_lately=9, purpose="transactional"), CAP, Send()),
        (GOOD, NIGHT, Send()),
        (replace(GOOD, time_zone="Asia/Vladivostok"), NIGHT, DelayUntil(datetime(2026, 11, 10, 22, tzinfo=UTC))),
        (replace(GOOD, time_zone="Asia/Vladivostok", purpose="transactional"), NIGHT, Send()),
        (replace(GOOD, time_zone="Asia/Vladivostok", consent=None), NIGHT, Skip(Reason.NO_CONSENT)),
        (replace(GOOD, time_zone="Mars/Olympus"), NIGHT, Send()),
    ],
)
def test_the_table(facts: Facts, rules: Rules, want: object) -> None:
    assert decide(facts, NOON, rules) == want


@pytest.mark.parametrize(
    ("address", "want"),
    [
        ("a@b.example", True),
        ("a+b@localhost", True),
        ("пётр@почта.рф", True),
        ("", False),
        ("a", False),
        ("a@", False),
        ("@b.example", False),
        ("a b@c.example", False),
        ("a@b@c.example", False),
        ("<a@b.example>", False),
        ("a@b.example\n", False),
        ("a" * 65 + "@b.example", False),
        ("a@" + "b" * 253, False),
    ],
)
def test_addresses_of_email(address: str, want: bool) -> None:
    assert valid_address("email", address) is want


@pytest.mark.parametrize(("number", "want"), [("+79161234567", True), ("89161234567", False), ("+7", False)])
def test_addresses_of_sms(number: str, want: bool) -> None:
    assert valid_address("sms", number) is want


ANY_FACTS = st.builds(
    Facts,
    channel=st.just("email"),
    purpose=st.sampled_from(["marketing", "transactional", "news"]),
    known=st.booleans(),
    address=st.sampled_from([None, "", "a@b.example", "bad"]),
    consent=st.sampled_from([None, True, False]),
    suppressed=st.sampled_from([None, "bounced", "unsubscribed", "manual", "complained"]),
    time_zone=st.sampled_from([None, "Europe/Moscow", "America/New_York", "nowhere"]),
    duplicate=st.booleans(),
    sent_lately=st.integers(0, 4),
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(ANY_FACTS, MOMENTS, st.sampled_from([Rules(), NIGHT, CAP]))
def test_nobody_gets_what_is_forbidden(facts: Facts, at: datetime, rules: Rules) -> None:
    decision = decide(facts, at, rules)
    if isinstance(decision, Send | DelayUntil):
        assert facts.known
        assert facts.address == "a@b.example"
        assert facts.consent is not False
        assert facts.consent or facts.purpose == "transactional"
        assert not facts.duplicate
        assert facts.suppressed is None or (facts.suppressed, facts.purpose) == ("unsubscribed", "transactional")
    if isinstance(decision, DelayUntil):
        assert timedelta(0) < decision.at - at < timedelta(hours=26)


@given(
    MOMENTS,
    st.times().map(lambda t: t.strftime("%H:%M")),
    st.times().map(lambda t: t.strftime("%H:%M")),
    st.sampled_from(["Europe/Moscow", "America/New_York", "Europe/Berlin", "Asia/Kathmandu", None]),
)
def test_quiet_hours_hold_inside_and_only_inside(at: datetime, begin: str, end: str, zone: str | None) -> None:
    until = quiet_until(at, begin, end, zone)
    clock = at.astimezone(ZoneInfo(zone or "UTC")).time()
    first, last = time.fromisoformat(begin), time.fromisoformat(end)
    inside = first <= clock < last if first <= last else (clock >= first or clock < last)
    assert (until is not None) is inside
    if until is not None:
        assert until > at
        # Walking from one end to the next comes out of the quiet hours, also over a change of clocks.
        for _ in range(3):
            again = quiet_until(until, begin, end, zone)
            if again is None:
                return
            until = max(again, until + timedelta(minutes=30))
        raise AssertionError("the quiet hours have no end")


OFFICE = Rules(window=Hours("09:00", "18:00", (0, 1, 2, 3, 4), "RU"))


@pytest.mark.parametrize(
    ("at", "zone", "want"),
    [
        (NOON, "Europe/Moscow", Send()),
        (datetime(2026, 11, 10, 15, tzinfo=UTC), "Europe/Moscow", DelayUntil(datetime(2026, 11, 11, 6, tzinfo=UTC))),
        (datetime(2026, 11, 13, 18, tzinfo=UTC), None, DelayUntil(datetime(2026, 11, 16, 9, tzinfo=UTC))),
        # A Wednesday that is a public holiday.
        (datetime(2026, 11, 4, 12, tzinfo=UTC), "Europe/Moscow", DelayUntil(datetime(2026, 11, 5, 6, tzinfo=UTC))),
    ],
)
def test_messages_wait_for_the_send_window(at: datetime, zone: str | None, want: object) -> None:
    for purpose in ("marketing", "transactional"):
        assert decide(replace(GOOD, purpose=purpose, time_zone=zone), at, OFFICE) == want


def test_never_goes_before_later_with_a_window() -> None:
    night = datetime(2026, 11, 10, 23, tzinfo=UTC)
    assert decide(replace(GOOD, consent=False), night, OFFICE) == Skip(Reason.NO_CONSENT)
    assert decide(GOOD, night, Rules(window=Hours("09:00", "18:00", ()))) == Skip(Reason.NEVER_OPEN)


def test_every_reason_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text()
    assert [reason for reason in Reason if f"`{reason}" not in page] == []
