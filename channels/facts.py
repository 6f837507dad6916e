"""Gathering what the policy asks about, for a whole batch in a few set-based queries."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import caps, numbers, senders
from channels.batches import Batch, Member
from channels.policy import Facts, Rules
from contacts import suppressions
from core.database import array_of, driver

ADDRESS_KINDS = {"email": "email", "sms": "phone", "voice": "phone", "webpush": "push_endpoint"}


class Known(msgspec.Struct, frozen=True, gc=False):
    """One message's contact and the facts about it."""

    contact_id: int
    facts: Facts


# The oldest identity of the kind is the contact's address for the channel. All look-ups are by key: nested loops over
# a thousand rows, about 10 ms. That the planner does so even before it has statistics is what the limits are for, and
# `is true`, which keeps it from reading all addresses of the kind by their own index: 20 ms for 40 rows otherwise.
_FACTS = """
select e.id, e.contact_id, c.id is not null, i.value, k.granted, c.time_zone, f.per_week
from {members} e
left join contact c on c.id = e.contact_id
left join lateral (
    select value from identity where contact_id = e.contact_id and (kind = %(kind)s) is true
    order by created_at, value limit 1
) i on true
left join lateral (
    select granted from consent where contact_id = e.contact_id and channel = %(channel)s and purpose = %(purpose)s
    limit 1
) k on true
left join lateral (
    select per_week from frequency where contact_id = e.contact_id and channel = %(channel)s limit 1
) f on true
where e.id = any(%(ids)s::bigint[])
"""
_OF_ENROLLMENTS = _FACTS.format(members="enrollment")
_OF_CONTACTS = _FACTS.format(members="(select id, id as contact_id from contact)")


async def gather(
    connection: AsyncConnection,
    batch: Batch,
    messages: Mapping[int, UUID],
    rules: Rules,
    at: datetime,
    reserve: bool = False,
) -> dict[int, Known]:
    """The facts about each message, by enrollment. Enrollments that do not exist (erased) are left out.

    Args:
        connection: an open transaction.
        batch: what the messages have in common.
        messages: enrollment id to message id.
        rules: caps and windows; the ledger is searched only if one is set, or the contact has set one.
        at: now.
        reserve: whether rows are made for what may be sent; see channels.caps.
    """
    return await _known(
        connection,
        batch,
        _OF_ENROLLMENTS,
        messages,
        lambda members: caps.counted(connection, batch, members, rules, at, reserve),
    )


async def suppose(
    connection: AsyncConnection, batch: Batch, messages: Mapping[int, UUID], rules: Rules, at: datetime
) -> dict[int, Known]:
    """The facts about messages that nobody is going to send, by contact: as in `gather`, without holding anybody up.
    Contacts that do not exist are left out.

    Args:
        connection: an open transaction, which may be read-only.
        batch: what the messages would have in common.
        messages: contact id to an id of no message.
        rules: caps and windows.
        at: now.
    """
    return await _known(
        connection, batch, _OF_CONTACTS, messages, lambda members: caps.seen(connection, batch, members, rules, at)
    )


_Counting = Callable[[Sequence[Member]], Awaitable[Mapping[int, caps.Count]]]


async def _known(
    connection: AsyncConnection, batch: Batch, statement: str, messages: Mapping[int, UUID], count: _Counting
) -> dict[int, Known]:
    raw = await driver(connection)
    values = {
        "kind": ADDRESS_KINDS.get(batch.channel, ""),
        "channel": batch.channel,
        "purpose": batch.purpose,
        "ids": array_of(list(messages)),
    }
    rows = await (await raw.execute(statement, values)).fetchall()
    if batch.address is not None:
        rows = [(*row[:3], batch.address, *row[4:]) for row in rows]
    addresses = [row[3] for row in rows if row[3]]
    blocked = await suppressions.suppressed(connection, batch.channel, addresses) if addresses else {}
    barred = await _barred(connection, batch, addresses)
    members = [Member(row[0], messages[row[0]], row[1], row[3], row[6]) for row in rows]
    lately = await count(members)
    known = {}
    for number, contact_id, exists, address, granted, zone, per_week in rows:
        got = lately.get(number, caps.NOTHING)
        facts = Facts(
            batch.channel,
            batch.purpose,
            exists,
            address,
            granted,
            blocked.get(address),
            zone,
            got.repeated,
            got.sent,
            per_week,
            got.this_week,
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
