"""Criteria as people would say them."""

from typing import Any

import pytest

from segments import eventfilter
from segments.criteria import parse

SAID: list[tuple[dict[str, Any], str]] = [
    ({"contact.city": "Moscow"}, "city is Moscow"),
    ({"contact.age": {"gte": 18, "lt": 30}}, "age is at least 18 and is less than 30"),
    ({"contact.age": {"between": [18, 30]}}, "age is between 18 and 30"),
    ({"contact.subscriber": True}, "subscriber is true"),
    ({"contact.city": {"not_in": ["Omsk", "Perm"]}}, "city is none of Omsk, Perm"),
    ({"contact.phone": {"exists": False}}, "phone is not known"),
    ({"contact.created_at": {"after": "now-7d"}}, "created at is after now-7d"),
    ({"contact.tags": "vip"}, "has the tag vip"),
    ({"contact.tags": {"not_in": ["vip", "staff"]}}, "has none of the tags vip, staff"),
    ({"contact.consents": "sms"}, "agreed to marketing by sms"),
    ({"contact.segments": "loyal"}, "in the segment loyal"),
    ({"message": {"template": "welcome", "state": "clicked", "within": "7d"}}, "clicked welcome within 1 week"),
    ({"message": {"template": "welcome"}}, "was sent welcome"),
    (
        {"journey": {"name": "welcome", "state": "finished", "outcome": "bought"}},
        "finished the journey welcome as bought",
    ),
    ({"event": "order.paid"}, "order.paid happened"),
    (
        {"event": {"name": "order.paid", "count": {"gte": 3}, "within": "30d", "where": {"event.total": {"gt": 100}}}},
        "order.paid at least 3 times within 30 days, where total is more than 100",
    ),
    (
        {"contact.city": "Omsk", "any": [{"contact.tags": "vip"}, {"not": {"contact.consents": "email"}}]},
        "city is Omsk and (has the tag vip or not agreed to marketing by email)",
    ),
]


@pytest.mark.parametrize(("data", "said"), SAID)
def test_criteria_in_words(data: dict[str, Any], said: str) -> None:
    assert parse(data).words() == said


def test_event_filters_in_words() -> None:
    where = {"status": "draft", "application_id": {"same": "application_id"}}
    assert eventfilter.phrase(where) == "status is draft and application_id is the application_id of the entry"
