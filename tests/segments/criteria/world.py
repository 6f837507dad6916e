"""Anna, for whom every example of the reference holds; Boris, for whom none does; and ten others to compare with."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from core import eventlog
from core.schema import companies, contacts, journeys, messages, partitions, sessions
from core.schema import segments as tables
from core.schema.messages import MessageState

NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)  # a Wednesday
ANNA, BORIS = 2, 1

_ANNA = {
    "city": "Moscow", "plan": "pro", "age": 34, "vip_club": True, "visits_a_week": 4.5, "promo": "SPRING-50%",
    "interests": ["wheat", "oil"], "favourites": ["tea"], "note": "", "owner": "olga", "stage": "trial", "points": 25,
    "born": "1990-05-13", "called_on": "2026-05-13", "paid_on": "2026-05-12", "meets_on": "2026-05-14",
    "signed_on": "2026-05-06", "trial_ends": "2026-05-20", "renewed_at": "2026-04-20T10:00:00Z",
    "ships_on": "2026-06-15", "joined_on": "2026-02-10", "first_paid_on": "2025-03-01", "passport_ends": "2027-08-01",
}  # fmt: skip
_LONG_AGO = dict.fromkeys(
    [name for name in _ANNA if name.endswith(("_on", "_at", "_ends"))],
    "2020-01-01",
)
_BORIS = _LONG_AGO | {
    "city": "Kazan", "plan": "free", "age": 17, "vip_club": False, "visits_a_week": 7, "promo": "WINTER",
    "interests": ["salt"], "favourites": [], "note": "call back", "lost_reason": "price", "owner": "pavel",
    "stage": "lost", "points": 0, "born": "2001-11-30",
}  # fmt: skip


def _at(days: float) -> datetime:
    return NOW - timedelta(days=days)


async def build(connection: AsyncConnection) -> None:
    """Write them all."""
    for table in ("event", "message", "step_visit"):
        await partitions.ensure(connection, table, datetime(2025, 10, 1, tzinfo=UTC), NOW)
    await _people(connection)
    await _segments(connection)
    await _deeds(connection)
    await _sessions(connection)
    await _journeys(connection)
    await _messages(connection)


async def _people(connection: AsyncConnection) -> None:
    company = {"id": 1, "key": "acme.com", "name": "Acme Ltd", "attributes": {"employees": 250}}
    times = {"created_at": _at(5), "changed_at": _at(1)}
    await connection.execute(insert(companies.company).values(company | times))
    base: dict[str, Any] = {"language": None, "time_zone": None, "tags": [], "attributes": {}, "company_id": None}
    old = {"created_at": _at(400), "updated_at": _at(400)}
    anna = {"id": ANNA, "language": "ru", "time_zone": "Europe/Moscow", "tags": ["vip", "new"], "attributes": _ANNA}
    boris = {"id": BORIS, "language": "en", "time_zone": "America/New_York", "tags": ["lost"], "attributes": _BORIS}
    await connection.execute(insert(contacts.contact), [
        base | {"created_at": _at(5), "updated_at": NOW} | anna | {"company_id": 1},
        base | old | boris,
        *(base | old | {"id": number} for number in range(3, 13)),
    ])  # fmt: skip
    kinds = {
        "email": "anna.k@example.com",
        "phone": "+79161234567",
        "external_id": "crm-17",
        "anonymous_id": "cookie-1",
        "push_endpoint": "https://push.example/1",
    }
    await connection.execute(
        insert(contacts.identity),
        [{"kind": k, "value": v, "contact_id": ANNA, "created_at": _at(5)} for k, v in kinds.items()],
    )
    await connection.execute(
        insert(contacts.suppression).values(channel="sms", address="+79161234567", reason="bounced")
    )
    said = [("sms", "marketing", True), ("email", "news", True), ("voice", "marketing", False)]
    await connection.execute(insert(contacts.consent), [
        *({"contact_id": ANNA, "channel": c, "purpose": p, "granted": g, "changed_at": _at(5)} for c, p, g in said),
        {"contact_id": BORIS, "channel": "webpush", "purpose": "marketing", "granted": True, "changed_at": _at(5)},
    ])  # fmt: skip


async def _segments(connection: AsyncConnection) -> None:
    row: dict[str, Any] = {"title": "", "source": ""}
    lists = {"loyal": ANNA, "advisers": 3, "staff": BORIS, "testers": 4}
    for number, (name, member) in enumerate(lists.items(), 1):
        await connection.execute(insert(tables.segment).values(id=number, name=name, **row))
        await connection.execute(insert(tables.segment_member).values(segment_id=number, contact_id=member))
    criteria = {"contact.city": "Moscow"}
    await connection.execute(insert(tables.segment).values(id=9, name="in-moscow", criteria=criteria, **row))


async def _deeds(connection: AsyncConnection) -> None:
    page = {"url": "https://example.com/pricing?plan=pro", "path": "/pricing", "title": "Prices and plans"}
    page["referrer"] = "https://news.example/today"
    deeds: list[tuple[int, str, float, dict[str, Any]]] = [
        (ANNA, "cart.updated", 23.1, {}),
        (ANNA, "order.paid", 33, {"total": 150, "product": "a"}),
        (ANNA, "order.paid", 23, {"total": 1100, "product": "b"}),
        (ANNA, "order.paid", 1.1, {"total": 400, "product": "a"}),
        (ANNA, "order.shipped", 22, {}),
        (ANNA, "review.written", 18, {}),
        (ANNA, "cart.updated", 0.75, {}),
        (ANNA, "demo.booked", 12, {}),
        (ANNA, "subscription.changed", 70, {"plan": "free"}),
        (ANNA, "subscription.changed", 12, {"plan": "pro"}),
        (ANNA, "page.viewed", 1, page),
        (ANNA, "page.viewed", 0.2, page),
        (ANNA, "form.submitted", 1, {"form": "subscribe"}),
        (ANNA, "form.submitted", 1, {"form": "contact-us", "topic": "prices"}),
        (ANNA, "link.clicked", 1, {"url": "https://example.com/files/price-list.pdf"}),
        (ANNA, "message.clicked", 2.9, {"message": str(_message(1)), "url": "https://example.com/pricing"}),
        (ANNA, "message.replied", 2, {"message": str(_message(2)), "text": "yes please"}),
        (BORIS, "order.refunded", 40, {"total": 10}),
        (BORIS, "demo.booked", 12, {}),
        (BORIS, "demo.held", 11, {}),
        (BORIS, "subscription.changed", 70, {"plan": "pro"}),
        (BORIS, "subscription.changed", 12, {"plan": "free"}),
        (BORIS, "page.viewed", 12, {"url": "https://example.com/about", "path": "/about", "title": "About us"}),
        (BORIS, "form.submitted", 12, {"form": "contact-us", "topic": "work"}),
        (BORIS, "form.submitted", 12, {"form": "unsubscribe"}),
        *((number, "order.paid", 150.0 + number, {"total": 10}) for number in range(3, 13)),
    ]
    names = await eventlog.name_ids(connection, sorted({name for _, name, _, _ in deeds}))
    await eventlog.append(
        connection,
        [eventlog.NewEvent(one, names[name], _at(ago), json.dumps(properties)) for one, name, ago, properties in deeds],
    )


async def _sessions(connection: AsyncConnection) -> None:
    none = {column.name: None for column in sessions.session.c if column.nullable}
    first = none | {
        "contact_id": ANNA, "site_id": 1, "started_at": _at(30), "ended_at": _at(30), "pages": 1,
        "referrer": "https://news.example/yesterday", "source": "google", "medium": "cpc", "device": "desktop",
        "os": "Windows", "browser": "Firefox", "language": "ru", "country": "KZ", "city": "Almaty",
    }  # fmt: skip
    last = first | {
        "started_at": _at(1), "ended_at": _at(1) + timedelta(minutes=15), "pages": 8,
        "entry_url": "https://example.com/pricing", "exit_url": "https://example.com/cart", "campaign": "spring",
        "referrer": "https://news.example/today", "device": "mobile", "os": "iOS", "browser": "Safari",
        "brand": "Apple", "model": "iPhone",
        "country": "RU", "region": "MOW", "city": "Moscow",
    }  # fmt: skip
    boris = none | {
        "contact_id": BORIS, "site_id": 1, "started_at": _at(3), "ended_at": _at(3), "pages": 1, "source": "bing",
        "device": "desktop", "os": "Linux", "country": "DE", "city": "Berlin", "referrer": "https://bing.example/",
    }  # fmt: skip
    early = boris | {"started_at": _at(40), "ended_at": _at(40), "country": "KZ", "os": "iOS", "browser": "Safari"}
    await connection.execute(insert(sessions.session), [first, last, boris, early])
    touch = {"site_id": 1, "url": "https://example.com/", "term": None, "content": None}
    await connection.execute(insert(sessions.contact_touch), [
        touch | {"contact_id": ANNA, "which": 0, "at": _at(30), "source": "google"},
        touch | {"contact_id": ANNA, "which": 1, "at": _at(1), "source": "bing", "term": "wheat", "content": "banner"},
        touch | {"contact_id": BORIS, "which": 0, "at": _at(40), "source": "bing"},
        touch | {"contact_id": BORIS, "which": 1, "at": _at(3), "source": "google", "term": "wheat", "content": "text"},
    ])  # fmt: skip


async def _journeys(connection: AsyncConnection) -> None:
    plans = {1: ("onboarding", "letter"), 2: ("renewal", "call")}
    for number, (name, step) in plans.items():
        await connection.execute(insert(journeys.journey).values(id=number, name=name, title=name))
        await connection.execute(
            insert(journeys.journey_version).values(
                id=number, journey_id=number, number=1, source="", plan={"steps": [{"id": "first"}, {"id": step}]}
            )
        )
    common = {"cohort_id": 1, "exclusive": True, "step": 1, "finished_at": None, "outcome": None, "state": "active"}
    done = {"finished_at": _at(10), "state": "finished"}
    onboarding = {"journey_id": 1, "version_id": 1, "entered_at": _at(28), "key": ""}
    renewal = {"journey_id": 2, "version_id": 2, "entered_at": _at(5)}
    await connection.execute(insert(journeys.enrollment), [
        common | onboarding | done | {"id": 1, "contact_id": ANNA, "outcome": "bought"},
        common | renewal | {"id": 2, "contact_id": ANNA, "key": "contract-7"},
        common | renewal | done | {"id": 3, "contact_id": BORIS, "key": "contract-8", "outcome": "lost"},
    ])  # fmt: skip
    await connection.execute(
        insert(journeys.step_visit).values(arrived_at=_at(27), enrollment_id=1, version_id=1, visit=1, step=1)
    )


def _message(number: int) -> UUID:
    return UUID(int=number)


async def _messages(connection: AsyncConnection) -> None:
    for number, name in enumerate(("welcome", "question", "digest"), 1):
        await connection.execute(insert(messages.template).values(id=number, name=name, channel="email"))
        version = {"id": number, "template_id": number, "number": 1, "source": {}, "compiled": {}}
        await connection.execute(insert(messages.template_version).values(version))
    await connection.execute(insert(messages.provider).values(id=1, name="main", channel="email", secret=b""))
    base: dict[str, Any] = {
        "created_at": _at(3), "template_version_id": None, "channel": "email", "purpose": "marketing", "step": None,
        "version_id": None, "provider_id": None, "delivered_at": None, "opened_at": None, "clicked_at": None,
        "reason": None,
    }  # fmt: skip
    anna = base | {"contact_id": ANNA}
    seen = {"delivered_at": _at(3), "opened_at": _at(2.9), "clicked_at": _at(2.9)}
    sms = anna | {"channel": "sms"}
    boris = base | {"contact_id": BORIS}
    rows = [
        anna | seen | {"template_version_id": 1, "version_id": 1, "step": 1, "state": MessageState.DELIVERED},
        anna | {"template_version_id": 2, "state": MessageState.DELIVERED, "delivered_at": _at(3)},
        anna | {"template_version_id": 3, "state": MessageState.ACCEPTED},
        sms | {"state": MessageState.BOUNCED},
        sms | {"state": MessageState.FAILED, "reason": "no such number"},
        anna | {"state": MessageState.SKIPPED, "reason": "cap"},
        anna | {"state": MessageState.IN_DOUBT, "provider_id": 1},
        boris | {"template_version_id": 1, "state": MessageState.SKIPPED, "reason": "consent"},
        boris | {"template_version_id": 3, "state": MessageState.ACCEPTED, "opened_at": _at(2)},
        boris | {"channel": "sms", "state": MessageState.FAILED, "reason": "barred"},
        boris | {"purpose": "staff", "state": MessageState.BOUNCED, "channel": "sms"},
    ]
    await connection.execute(
        insert(messages.message), [row | {"id": _message(number)} for number, row in enumerate(rows, 1)]
    )
