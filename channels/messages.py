"""Reading the ledger: lists of messages, for people and programs."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import suppressions
from core.errors import InvalidInput, NotFound, Problem
from core.schema.messages import MessageState

STATES = {name.name.lower(): int(name) for name in MessageState}
USUAL_PERIOD = timedelta(days=7)
"""How far back a list goes that names neither a contact nor a beginning."""
_FIRST_WINDOW = timedelta(hours=1)
_COLUMNS = """
select m.id, m.created_at, m.contact_id, m.channel, m.purpose, m.state, j.name as journey, t.name as template,
    p.name as provider, m.address, m.attempts, m.reason
from message m
left join journey_version v on v.id = m.version_id left join journey j on j.id = v.journey_id
left join template_version tv on tv.id = m.template_version_id left join template t on t.id = tv.template_id
left join provider p on p.id = m.provider_id
"""


@dataclass(frozen=True)
class Wanted:
    """Which messages; what is left out does not matter."""

    state: str | None = None
    contact_id: int | None = None
    address: str | None = None
    provider: str | None = None
    journey: str | None = None
    channel: str | None = None
    since: datetime | None = None
    """Made at this time or later."""
    before: datetime | None = None
    """Made before this time."""
    page: str | None = None
    """Where the page before ended: its `next`."""


@dataclass(frozen=True)
class Page:
    """Messages, newest first."""

    messages: list[dict[str, Any]]
    next: str | None
    """What asks for the next page; None at the end."""
    since: datetime | None
    """How far back was looked."""


async def listing(connection: AsyncConnection, wanted: Wanted, at: datetime, limit: int = 50) -> Page:
    """A page of messages, newest first.

    No index looks at states, so that sending stays fast: what is read is bounded by the period instead. The messages of
    one contact, whose index there is, may be of any age; otherwise a list goes back USUAL_PERIOD, or as far as it is
    told, in growing steps until the page is full.

    Args:
        connection: an open transaction.
        wanted: which.
        at: now.
        limit: how many.

    Raises:
        InvalidInput: there is no such state, or the page is no page's.
    """
    tests, values = _tests(wanted)
    if wanted.contact_id is not None:
        rows = await _window(connection, tests, values, wanted.since, wanted.before, limit)
        return _page(rows, limit, wanted.since)
    until = wanted.before
    if "page_at" in values:
        until = min(until, values["page_at"] + _MOMENT) if until else values["page_at"] + _MOMENT
    since = wanted.since or (wanted.before or at) - USUAL_PERIOD
    rows, window, upper = [], _FIRST_WINDOW, until or at + timedelta(days=1)
    while len(rows) < limit and upper > since:
        lower = max(upper - window, since)
        rows += await _window(connection, tests, values, lower, upper, limit - len(rows))
        upper, window = lower, window * 4
    return _page(rows, limit, since)


_MOMENT = timedelta(microseconds=1)


def _tests(wanted: Wanted) -> tuple[list[str], dict[str, Any]]:
    if wanted.state is not None and wanted.state not in STATES:
        raise InvalidInput(Problem(f"there is no state {wanted.state!r}", f"there are {', '.join(STATES)}"))
    given: dict[str, Any] = {
        "m.state = :state": STATES.get(wanted.state or ""),
        "m.contact_id = :contact": wanted.contact_id,
        "m.address = any(:address)": _forms(wanted.address) if wanted.address else None,
        "p.name = :provider": wanted.provider,
        "j.name = :journey": wanted.journey,
        "m.channel = :channel": wanted.channel,
    }
    tests = [test for test, value in given.items() if value is not None]
    values = {test.rpartition(":")[2].rstrip(")"): value for test, value in given.items() if value is not None}
    if wanted.page is not None:
        tests.append("(m.created_at, m.id) < (:page_at, :page_id)")
        values["page_at"], values["page_id"] = _position(wanted.page)
    return tests, values


def _forms(address: str) -> list[str]:
    """The address as it was given, and as the ledger may have it."""
    found = {address}
    for channel in suppressions.ADDRESS_KINDS:
        try:
            found.add(suppressions.normalise(channel, address))
        except InvalidInput:
            continue  # not an address of this channel
    return sorted(found)


def _position(page: str) -> tuple[datetime, UUID]:
    moment, _, number = page.partition("_")
    try:
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None:
            raise ValueError("a time without its zone")
        return at, UUID(number)
    except ValueError:
        raise InvalidInput(Problem(f"{page[:100]!r} is no page", "give what `next` of the page before says")) from None


async def _window(
    connection: AsyncConnection,
    tests: list[str],
    values: dict[str, Any],
    since: datetime | None,
    before: datetime | None,
    limit: int,
) -> list[dict[str, Any]]:
    period = {"m.created_at >= :since": since, "m.created_at < :before": before}
    every = [*tests, *(test for test, value in period.items() if value is not None)]
    where = f"where {' and '.join(every)}" if every else ""
    rows = await connection.execute(
        text(f"{_COLUMNS} {where} order by m.created_at desc, m.id desc limit :limit"),  # the tests are ours
        {**values, **{k: v for k, v in (("since", since), ("before", before)) if v is not None}, "limit": limit},
    )
    return [worded(row) for row in rows.mappings()]


def _page(rows: list[dict[str, Any]], limit: int, since: datetime | None) -> Page:
    last = rows[-1] if len(rows) == limit else None
    return Page(rows, f"{last['created_at'].isoformat()}_{last['id']}" if last else None, since)


def worded(row: Any) -> dict[str, Any]:
    """A row with the name of its state."""
    return dict(row) | {"state": MessageState(row["state"]).name.lower()}


async def place(connection: AsyncConnection, message_id: UUID) -> datetime:
    """When a message was made, which finds its row among the partitions.

    Raises:
        NotFound: there is no such message, or it is past retention.
    """
    found = await connection.execute(text("select created_at from message where id = :id"), {"id": message_id})
    made: datetime | None = found.scalar_one_or_none()
    if made is None:
        raise NotFound(f"there is no message {message_id}")
    return made
