"""The twelve reference segments of `benchmarks.segments`, from simple to hard, each beside the same in DuckDB's SQL.

Numbers 1, 5 and 6 are the segments that the design was measured with, the sum of 6 over a property inside JSON; what
else was measured there are reports.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A segment: its name, its criteria, and DuckDB's condition on `contact c`; `$at` is the present moment."""

    name: str
    criteria: dict[str, Any]
    condition: str


def _event(name: str, days: int = 0, more: str = "") -> str:
    since = f" and occurred_at > $at - interval {days} day" if days else ""
    return f"select contact_id from event where name_id = (select id from name where name = '{name}'){since}{more}"


def _having(name: str, days: int, test: str) -> str:
    return f"c.id in ({_event(name, days)} group by contact_id having {test})"


ASKED = (
    Asked(
        "city-and-age",
        {"contact.city": "Moscow", "contact.age": {"between": [30, 50]}},
        "c.city = 'Moscow' and c.age between 30 and 50",
    ),
    Asked("vip-by-email", {"contact.tags": "vip", "contact.consents": "email"}, "'vip' = any(c.tags) and c.agreed"),
    Asked(
        "mail-domain",
        {"contact.email": {"ends": "@example7.com"}, "contact.language": "ru"},
        "c.email like '%@example7.com' and c.language = 'ru'",
    ),
    Asked(
        "bought-lately",
        {"event": {"name": "order.paid", "within": "7d"}},
        f"c.id in ({_event('order.paid', 7)})",
    ),
    Asked(
        "looking-not-buying",
        {
            "contact.city": "Kazan",
            "event": {"name": "page.viewed", "count": {"gte": 3}, "within": "30d"},
            "not": {"event": {"name": "order.paid", "within": "7d"}},
        },
        f"c.city = 'Kazan' and {_having('page.viewed', 30, 'count(*) >= 3')} "
        f"and c.id not in ({_event('order.paid', 7)})",
    ),
    Asked(
        "spent-much",
        {"event": {"name": "order.paid", "sum": {"event.amount": {"gt": 1500}}, "within": "90d"}},
        _having("order.paid", 90, "sum(amount) > 1500"),
    ),
    Asked(
        "lapsed",
        {"event": "order.paid", "not": {"event": {"name": "order.paid", "within": "180d"}}},
        f"c.id in ({_event('order.paid')}) and c.id not in ({_event('order.paid', 180)})",
    ),
    Asked(
        "abandoned-cart",
        {
            "contact.consents": "email",
            "event": {"name": "cart.changed", "within": "14d"},
            "not": {"event": {"name": "order.paid", "within": "14d"}},
        },
        f"c.agreed and c.id in ({_event('cart.changed', 14)}) and c.id not in ({_event('order.paid', 14)})",
    ),
    Asked(
        "reads-much",
        {"event": {"name": "page.viewed", "count": {"gte": 12}}},
        _having("page.viewed", 0, "count(*) >= 12"),
    ),
    Asked(
        "silent",
        {"not": {"event": {"name": "page.viewed", "within": "90d"}}},
        f"c.id not in ({_event('page.viewed', 90)})",
    ),
    Asked(
        "any-of-three",
        {
            "any": [
                {"contact.tags": "vip"},
                {"event": {"name": "order.paid", "count": {"gte": 3}, "within": "365d"}},
                {"contact.age": {"gte": 60}, "event": {"name": "application.submitted", "within": "30d"}},
            ]
        },
        f"'vip' = any(c.tags) or {_having('order.paid', 365, 'count(*) >= 3')} "
        f"or (c.age >= 60 and c.id in ({_event('application.submitted', 30)}))",
    ),
    Asked(
        "one-shelf",
        {
            "event": {
                "name": "product.viewed",
                "where": {"event.path": {"starts": "/catalog/7"}},
                "count": {"gte": 2},
                "within": "60d",
            },
            "not": {"contact.tags": {"in": ["vip", "reader"]}},
        },
        "c.id in ("
        + _event("product.viewed", 60, " and path like '/catalog/7%'")
        + " group by contact_id having count(*) >= 2) and not list_has_any(c.tags, ['vip', 'reader'])",
    ),
)
