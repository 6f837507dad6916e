"""Gathering what the policy asks about, for a whole batch in a few set-based queries."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from channels import numbers, senders
from channels.policy import Facts, Rules
from contacts import consents, suppressions
from core.database import driver

ADDRESS_KINDS = {"email": "email", "sms": "phone", "voice": "phone", "webpush": "push_endpoint"}


@dataclass(frozen=True)
class Batch:
    """What the messages of a batch have in common."""

    channel: str
    purpose: str
    version_id: int
    step: int
    at: datetime
    """message.created_at of all of them."""
    address: str | None = None
    """Where all of them go, if that is no address of the contact's: the host of a webhook."""
    sender: str | None = None
    """As the template has it; None where it names none."""


@dataclass(frozen=True, slots=True)
class Known:
    """One message's contact and the facts about it."""

    contact_id: int
    facts: Facts


# The oldest identity of the kind is the contact's address for the channel. All look-ups are by key: nested loops over
# a thousand rows, about 10 ms.
_FACTS = """
select e.id, e.contact_id, c.id is not null, i.value, k.granted, c.time_zone, f.per_week
from enrollment e
left join contact c on c.id = e.contact_id
left join lateral (
    select value from identity where contact_id = e.contact_id and kind = %(kind)s order by created_at, value limit 1
) i on true
left join consent k on k.contact_id = e.contact_id and k.channel = %(channel)s and k.purpose = %(purpose)s
left join frequency f on f.contact_id = e.contact_id and f.channel = %(channel)s
where e.id = any(%(ids)s)
"""
# Only messages that come before this one count (by time, then id): of two that look at each other, one gives way.
_LATELY = """
select w.id, count(*) filter (where m.created_at > %(since)s and m.channel = %(channel)s),
    bool_or(m.created_at > %(repeated_since)s and m.version_id = %(version_id)s and m.step = %(step)s
            and m.address = w.address and e.key is not distinct from own.key)
from unnest(%(messages)s::uuid[], %(contacts)s::bigint[], %(addresses)s::text[], %(ids)s::bigint[])
    as w (message_id, contact_id, address, id)
join enrollment own on own.id = w.id
join message m on m.contact_id = w.contact_id and m.created_at > least(%(since)s, %(repeated_since)s)
    and (m.created_at, m.id) < (%(at)s, w.message_id) and m.state <> all('{15,40}') and m.purpose <> 'staff'
left join enrollment e on e.id = m.enrollment_id
group by w.id
"""
# Locked in one order. Of two batches for one contact the second waits here and then sees the first one's rows.
_LIMITED = """
select contact_id from frequency where contact_id = any(%(contacts)s) and channel = %(channel)s
order by contact_id for update
"""
_THIS_WEEK = """
select w.id, count(*) from unnest(%(messages)s::uuid[], %(contacts)s::bigint[], %(ids)s::bigint[])
    as w (message_id, contact_id, id)
join message m on m.contact_id = w.contact_id and m.channel = %(channel)s and m.created_at > %(since)s
    and m.state <> all('{15,40}') and m.purpose <> all('{staff,transactional}') and m.id <> w.message_id
    and (%(reserve)s or (m.created_at, m.id) < (%(at)s, w.message_id))
group by w.id
"""


async def gather(
    connection: AsyncConnection, batch: Batch, messages: dict[int, UUID], rules: Rules, reserve: bool = False
) -> dict[int, Known]:
    """The facts about each message, by enrollment. Enrollments that do not exist (erased) are left out.

    Args:
        connection: an open transaction.
        batch: what the messages have in common.
        messages: enrollment id to message id.
        rules: caps and windows; the ledger is searched only if one is set, or the contact has set one.
        reserve: whether rows are made for what may be sent: until the transaction ends nobody else counts for contacts
            with a limit of their own.
    """
    raw = await driver(connection)
    values = {
        "kind": ADDRESS_KINDS.get(batch.channel, ""),
        "channel": batch.channel,
        "purpose": batch.purpose,
        "ids": list(messages),
    }
    rows = await (await raw.execute(_FACTS, values)).fetchall()
    if batch.address is not None:
        rows = [(*row[:3], batch.address, *row[4:]) for row in rows]
    addresses = [row[3] for row in rows if row[3]]
    blocked = await suppressions.suppressed(connection, batch.channel, addresses) if addresses else {}
    barred = await _barred(connection, batch, addresses)
    lately = await _lately(connection, batch, messages, rows, rules)
    this_week = await _this_week(connection, batch, messages, rows, reserve)
    known = {}
    for number, contact_id, exists, address, granted, zone, per_week in rows:
        sent, duplicate = lately.get(number, (0, False))
        facts = Facts(
            batch.channel,
            batch.purpose,
            exists,
            address,
            granted,
            blocked.get(address),
            zone,
            duplicate,
            sent,
            per_week,
            this_week.get(number, 0),
            barred.get(address),
        )
        known[number] = Known(contact_id, facts)
    return known


async def _barred(connection: AsyncConnection, batch: Batch, addresses: Sequence[str]) -> dict[str, str]:
    """Why the sender may not be used for a message to an address, by address."""
    if batch.sender is None or not addresses:
        return {}
    known = await senders.registered(connection, batch.channel)
    if not any(one.countries or one.purposes for one in known):
        return {}
    found: dict[str, str] = {}
    places = await numbers.places(connection, set(addresses))
    for address, place in places.items():
        why = senders.barred(known, batch.channel, batch.sender, batch.purpose, place.country)
        if why is not None:
            found[address] = why
    return found


WEEK = timedelta(days=7)


async def _this_week(
    connection: AsyncConnection,
    batch: Batch,
    messages: dict[int, UUID],
    rows: Sequence[tuple[Any, ...]],
    reserve: bool,
) -> dict[int, int]:
    """Messages of the last seven days, by enrollment, for contacts with a limit of their own."""
    limited = sorted((messages[row[0]], row[1], row[0]) for row in rows if row[6] is not None)
    if not limited or not consents.needed(batch.purpose):
        return {}
    raw = await driver(connection)
    values = {
        "messages": [message for message, _, _ in limited],
        "contacts": [contact for _, contact, _ in limited],
        "ids": [number for _, _, number in limited],
        "channel": batch.channel,
        "since": batch.at - WEEK,
        "at": batch.at,
        "reserve": reserve,
    }
    if reserve:
        await raw.execute(_LIMITED, values)
    counts: dict[int, int] = dict(await (await raw.execute(_THIS_WEEK, values)).fetchall())
    if not reserve:
        return counts
    # Two enrollments of one contact in the same batch: neither has a row yet.
    before: Counter[int] = Counter()
    for _, contact, number in limited:
        counts[number] = counts.get(number, 0) + before[contact]
        before[contact] += 1
    return counts


async def _lately(
    connection: AsyncConnection,
    batch: Batch,
    messages: dict[int, UUID],
    rows: Sequence[tuple[Any, ...]],
    rules: Rules,
) -> dict[int, tuple[int, bool]]:
    if rules.cap is None and not rules.duplicate_seconds:
        return {}
    raw = await driver(connection)
    values = {
        "messages": [messages[row[0]] for row in rows],
        "contacts": [row[1] for row in rows],
        "addresses": [row[3] for row in rows],
        "ids": [row[0] for row in rows],
        "since": batch.at - timedelta(seconds=rules.cap_seconds if rules.cap is not None else 0),
        "repeated_since": batch.at - timedelta(seconds=rules.duplicate_seconds),
        "channel": batch.channel,
        "version_id": batch.version_id,
        "step": batch.step,
        "at": batch.at,
    }
    found = await (await raw.execute(_LATELY, values)).fetchall()
    return {number: (sent, bool(repeated)) for number, sent, repeated in found}
