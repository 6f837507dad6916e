"""Double opt-in: a consent that somebody asked for holds once the contact has confirmed it with its own hand.

Asking makes a row in `consent_request`, which is no consent. An event (`consent.requested`) makes a journey write to
the contact; the page behind the link in that letter has a button, and pressing it turns the row into a consent.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import consents, identities, notes, suppressions
from core import eventlog
from core.errors import InvalidInput, Problem

Pair = tuple[str, str]
"""A channel and a purpose."""
REQUESTED, CONFIRMED = "consent.requested", "consent.confirmed"
AGAIN = timedelta(hours=1)
"""Who is asked again within this time gets no second letter: nobody can fill somebody else's mailbox."""
_TOLD_AT_ONCE = 500


def check(channel: str, purpose: str) -> None:
    """Refuse what nobody can be asked to confirm.

    Raises:
        InvalidInput: the channel has no addresses, or the purpose needs no consent, or either does not exist.
    """
    consents.check_words(channel, purpose)
    if channel not in suppressions.ADDRESS_KINDS or not consents.needed(purpose):
        words = f"nobody can be asked to confirm {channel}:{purpose}"
        raise InvalidInput(Problem(words, "ask for email:marketing or the like", path="channel"))


_ASK = text(
    """
    insert into consent_request as r (contact_id, channel, purpose, address, asked_at, expires_at, source, evidence)
    select c.id, :channel, :purpose, i.value, :at, :expires, :source, n.evidence::jsonb
    from unnest(cast(:ids as bigint[]), cast(:evidence as text[])) n (id, evidence)
    join contact c on c.id = n.id
    join lateral (
        select value from identity where contact_id = c.id and kind = :kind order by created_at, value limit 1
    ) i on true
    where not exists (
        select from consent k where k.contact_id = c.id and k.channel = :channel and k.purpose = :purpose and k.granted
    )
    order by c.id
    on conflict (contact_id, channel, purpose) do update set address = excluded.address, asked_at = excluded.asked_at,
        expires_at = excluded.expires_at, told_at = null, source = excluded.source, evidence = excluded.evidence
    where r.expires_at <= excluded.asked_at or r.asked_at <= excluded.asked_at - cast(:again as interval)
        or r.address <> excluded.address
    returning contact_id
    """
)


async def ask(
    connection: AsyncConnection,
    evidence: Mapping[int, Mapping[str, Any]],
    channel: str,
    purpose: str,
    source: str,
    at: datetime,
    days: int,
) -> set[int]:
    """Have contacts asked whether they agree. Nothing is granted by this.

    Args:
        connection: an open transaction.
        evidence: whom, and what is known of each one's asking.
        channel: it has to be one with addresses: the letter goes to the address that it is about.
        purpose: not transactional, which needs no consent.
        source: where it was asked for: api, import, command …
        at: when; an hour has to lie between two requests of the same contact.
        days: after these the request lapses.

    Returns:
        Those who will be asked: not those who have agreed already, have no address, or were asked just now.

    Raises:
        InvalidInput: the channel or the purpose cannot be.
    """
    check(channel, purpose)
    await identities.hold_off_erasure(connection)
    rows = await connection.execute(
        _ASK,
        {
            "ids": list(evidence),
            "channel": channel,
            "purpose": purpose,
            "kind": suppressions.ADDRESS_KINDS[channel],
            "source": source,
            "evidence": [msgspec.json.encode(one).decode() for one in evidence.values()],
            "at": at,
            "expires": at + timedelta(days=days),
            "again": AGAIN,
        },
    )
    asked = set(rows.scalars())
    proofs = {contact: evidence[contact] for contact in sorted(asked)}
    await notes.note(connection, proofs, {"asked": f"{channel}:{purpose}"}, source, at)
    return asked


async def pending(connection: AsyncConnection, contact_id: int, address: str | None, at: datetime) -> list[Pair]:
    """What a contact was asked at this address and has not answered; any address if none is given."""
    rows = await connection.execute(
        text(
            "select channel, purpose from consent_request where contact_id = :id and expires_at > :at "
            "and address = coalesce(:address, address) order by channel, purpose"
        ),
        {"id": contact_id, "address": address, "at": at},
    )
    return [(row.channel, row.purpose) for row in rows]


async def of(connection: AsyncConnection, contact_id: int) -> list[dict[str, Any]]:
    """What waits for a contact's confirmation: channel, purpose, asked_at, expires_at."""
    rows = await connection.execute(
        text(
            "select channel, purpose, asked_at, expires_at from consent_request "
            "where contact_id = :id and expires_at > now() order by channel, purpose"
        ),
        {"id": contact_id},
    )
    return [dict(row) for row in rows.mappings()]


async def confirm(
    connection: AsyncConnection, contact_id: int, address: str, evidence: Mapping[str, Any], at: datetime
) -> list[Pair]:
    """The contact confirms what it was asked at this address; doing it twice is doing it once.

    The last thing of its transaction, as it writes to the log.

    Args:
        connection: an open transaction.
        contact_id: who.
        address: the letter's, which only its owner reads.
        evidence: what proves it; what was known when it was asked for is added.
        at: when.

    Returns:
        What was granted now.
    """
    await identities.hold_off_erasure(connection)
    rows = await connection.execute(
        text(
            "delete from consent_request where contact_id = :id and address = :address and expires_at > :at "
            "returning channel, purpose, asked_at, source, evidence"
        ),
        {"id": contact_id, "address": address, "at": at},
    )
    asked = sorted(rows, key=lambda row: (row.channel, row.purpose))
    for row in asked:
        first = {"at": row.asked_at.isoformat(), "source": row.source, **row.evidence}
        proof = {**evidence, "address": address, "asked": first}
        await consents.record(connection, [contact_id], row.channel, row.purpose, True, "double opt-in", proof, at)
    if asked:
        await suppressions.welcome(connection, contact_id, {row.channel for row in asked})
        number = (await eventlog.name_ids(connection, [CONFIRMED]))[CONFIRMED]
        told = [{"channel": row.channel, "purpose": row.purpose} for row in asked]
        events = [eventlog.NewEvent(contact_id, number, at, msgspec.json.encode(one)) for one in told]
        await eventlog.append(connection, events)
    return [(row.channel, row.purpose) for row in asked]


_UNTOLD = text(
    """
    update consent_request r set told_at = :at from (
        select contact_id, channel, purpose from consent_request where told_at is null and expires_at > :at
        order by asked_at limit :limit for update skip locked
    ) n
    where (r.contact_id, r.channel, r.purpose) = (n.contact_id, n.channel, n.purpose)
    returning r.contact_id, r.channel, r.purpose
    """
)


async def tell(connection: AsyncConnection, at: datetime) -> int:
    """Write the events that make a journey ask: one for each contact and channel, whatever the number of purposes.

    The last thing of its transaction. Returns how many requests were told; call it again while there are any.
    """
    await identities.hold_off_erasure(connection)
    rows = await connection.execute(_UNTOLD, {"at": at, "limit": _TOLD_AT_ONCE})
    asked: dict[tuple[int, str], list[str]] = {}
    for row in rows:
        asked.setdefault((row.contact_id, row.channel), []).append(row.purpose)
    if not asked:
        return 0
    number = (await eventlog.name_ids(connection, [REQUESTED]))[REQUESTED]
    events = [
        eventlog.NewEvent(contact, number, at, msgspec.json.encode({"channel": channel, "purposes": sorted(found)}))
        for (contact, channel), found in sorted(asked.items())
    ]
    await eventlog.append(connection, events)
    return sum(map(len, asked.values()))


async def waiting(connection: AsyncConnection) -> bool:
    """Whether there is anything to tell."""
    found = await connection.execute(
        text("select exists (select from consent_request where told_at is null and expires_at > now())")
    )
    return bool(found.scalar_one())


async def lapse(connection: AsyncConnection, at: datetime) -> int:
    """Forget requests that nobody confirmed in time, and write that down. Returns how many."""
    await identities.hold_off_erasure(connection)
    rows = await connection.execute(
        text("delete from consent_request where expires_at <= :at returning contact_id, channel, purpose"), {"at": at}
    )
    lapsed: dict[str, list[int]] = {}
    for row in rows:
        lapsed.setdefault(f"{row.channel}:{row.purpose}", []).append(row.contact_id)
    for pair, contact_ids in sorted(lapsed.items()):
        await notes.note(connection, {contact: {} for contact in sorted(contact_ids)}, {"lapsed": pair}, "expiry", at)
    return sum(map(len, lapsed.values()))
