"""Criteria over what is supposed: what the database said, and what has changed since."""

from typing import Any

import pytest

from segments.criteria import parse
from segments.supposing import Question, Supposed, SupposedMessage

NOW = 1_800_000_000.0
DAY = 86_400.0
OF_CART = {"event.cart": {"same": "cart"}}


def supposed(**changes: Any) -> Supposed:
    values: dict[str, Any] = {"journey": "own", "entered_at": NOW - DAY} | changes
    return Supposed(**values)


def message(template: str, *states: str, ago: float = 0.0) -> SupposedMessage:
    return SupposedMessage(0, "email", template, NOW - ago, set(states))


# Criteria, what is supposed, whether the database said yes to every test, what comes out.
CASES: list[tuple[dict[str, Any], Supposed, bool, bool]] = [
    ({"contact.city": "Omsk"}, supposed(), True, True),
    ({"contact.city": "Omsk"}, supposed(attributes={"city": "Perm"}), True, False),
    ({"contact.city": {"exists": False}}, supposed(attributes={"city": None}), False, True),
    ({"contact.tags": "vip"}, supposed(tags={"vip": True}), False, True),
    ({"contact.tags": "vip"}, supposed(tags={"vip": False}), True, False),
    ({"contact.tags": {"not_in": ["vip", "new"]}}, supposed(tags={"new": True}), False, False),
    ({"contact.tags": {"ne": "vip"}}, supposed(), True, False),
    ({"contact.tags": {"exists": True}}, supposed(tags={"new": True}), False, True),
    ({"contact.consents": "email"}, supposed(consents={("email", "marketing"): False}), True, False),
    ({"contact.consents": "email"}, supposed(consents={("email", "news"): True}), False, False),
    ({"contact.suppressed": "email"}, supposed(), True, True),
    ({"contact.suppressed": "any"}, supposed(suppressions=[("sms", "manual", True)]), False, True),
    ({"contact.suppressed": "email"}, supposed(suppressions=[("sms", "manual", True)]), False, False),
    (
        {"contact.suppressed": {"channel": "sms", "reason": "manual"}},
        supposed(suppressions=[("sms", "manual", False)]),
        True,
        False,
    ),
    ({"contact.segments": "vip"}, supposed(lists={"vip": True}), False, True),
    ({"contact.segments": "vip"}, supposed(lists={"vip": False}), True, False),
    ({"contact.segments": "vip"}, supposed(lists={"other": False}), True, True),
    ({"message": {"template": "a", "state": "clicked"}}, supposed(messages=[message("a", "clicked")]), False, True),
    ({"message": {"template": "a", "state": "clicked"}}, supposed(messages=[message("b", "clicked")]), False, False),
    (
        {"message": {"template": "a", "within": "1d"}},
        supposed(messages=[message("a", "accepted", ago=2 * DAY)]),
        False,
        False,
    ),
    (
        {"message": {"template": "a", "count": {"gte": 2}}},
        supposed(messages=[message("a", "accepted")] * 2),
        False,
        True,
    ),
    ({"message": {"template": "a", "count": 0}}, supposed(messages=[message("a", "accepted")]), True, False),
    ({"event": "paid"}, supposed(events=[("paid", NOW)]), False, True),
    ({"event": {"name": "paid", "within": "1d"}}, supposed(events=[("paid", NOW - 2 * DAY)]), False, False),
    ({"event": {"name": "paid", "where": {"event.total": 5}}}, supposed(events=[("paid", NOW)]), False, False),
    ({"event": {"name": "paid", "where": OF_CART}}, supposed(events=[("paid", NOW)]), False, True),
    ({"event": {"name": "paid", "where": OF_CART}}, supposed(), True, True),
    (
        {"event": {"name": "paid", "where": OF_CART | {"event.total": 5}}},
        supposed(events=[("paid", NOW)]),
        False,
        False,
    ),
    ({"journey": {"name": "own", "count": {"gte": 2}}}, supposed(), True, False),
    ({"journey": {"name": "own", "count": 1}}, supposed(), False, True),
    ({"not": {"event": "paid"}}, supposed(events=[("paid", NOW)]), False, False),
    ({"journey": {"name": "own", "state": "running"}}, supposed(), False, True),
    ({"journey": {"name": "own", "state": "finished"}}, supposed(), False, False),
    ({"journey": {"name": "other"}}, supposed(), True, True),
    ({"any": [{"contact.tags": "vip"}, {"event": "paid"}]}, supposed(events=[("paid", NOW)]), False, True),
    ({"contact.tags": "vip", "event": "paid"}, supposed(events=[("paid", NOW)]), False, False),
]


@pytest.mark.parametrize(("data", "since", "known", "holds"), CASES)
def test_supposed_changes_decide_where_they_bear_on_a_test(
    data: dict[str, Any], since: Supposed, known: bool, holds: bool
) -> None:
    question = Question(parse(data, in_journey=True))
    for test in question.tests:
        test.passed.update({1} if known else ())
    assert question.holds(1, since, NOW) is holds
