"""Gathering what the policy asks about, for a whole batch in a few set-based queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from channels.policy import Facts, Rules
from contacts import suppressions
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


@dataclass(frozen=True, slots=True)
class Known:
    """One message's contact and the facts about it."""

    contact_id: int
    facts: Facts


# The oldest identity of the kind is the contact's address for the channel. All look-ups are by key: nested loops over
# a thousand rows, about 10 ms.
_FACTS = """
select e.id, e.contact_id, c.id is not null, i.value, k.granted, c.time_zone
from enrollment e
left join contact c on c.id = e.contact_id
left join lateral (
    select value from identity where contact_id = e.contact_id and kind = %(kind)s order by created_at, value limit 1
) i on true
left join consent k on k.contact_id = e.contact_id and k.channel = %(channel)s and k.purpose = %(purpose)s
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


async def gather(
    connection: AsyncConnection, batch: Batch, messages: dict[int, UUID], rules: Rules
) -> dict[int, Known]:
    """The facts about each message, by enrollment. Enrollments that do not exist (erased) are left out.

    Args:
        connection: an open transaction.
        batch: what the messages have in common.
        messages: enrollment id to message id.
        rules: caps and windows; the ledger is searched only if one is set.
    """
    raw = await driver(connection)
    values = {
        "kind": ADDRESS_KINDS.get(batch.channel, ""),
        "channel": batch.channel,
        "purpose": batch.purpose,
        "ids": list(messages),
    }
    rows = await (await raw.execute(_FACTS, values)).fetchall()
    addresses = [address for _, _, _, address, _, _ in rows if address]
    blocked = await suppressions.suppressed(connection, batch.channel, addresses) if addresses else {}
    lately = await _lately(connection, batch, messages, rows, rules)
    known = {}
    for number, contact_id, exists, address, granted, zone in rows:
        sent, duplicate = lately.get(number, (0, False))
        facts = Facts(
            batch.channel, batch.purpose, exists, address, granted, blocked.get(address), zone, duplicate, sent
        )
        known[number] = Known(contact_id, facts)
    return known


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
