"""Addresses that must not be used, and why.

A suppression belongs to an address, not to a contact, so it outlives the contact: erasure turns the address into
its digest, and whoever comes back with that address is still left alone.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import consents, identities
from core.database import array, driver
from core.errors import InvalidInput, Problem

REASONS = ("unsubscribed", "manual", "complained", "bounced")
"""From the weakest to the strongest: a stronger reason replaces a weaker one, never the other way round."""

ADDRESS_KINDS = {"email": "email", "sms": "phone", "voice": "phone", "webpush": "push_endpoint"}
"""The kind of identity that is the address of a channel."""
_ERASED = "erased:"


def blocks(reason: str, purpose: str) -> bool:
    """Whether an address suppressed for this reason must not get messages of this purpose.

    Every suppression blocks everything, save that who unsubscribed still gets transactional messages: the receipt
    of an order is not what they unsubscribed from.
    """
    return not (reason == "unsubscribed" and purpose == consents.TRANSACTIONAL)


def digest(channel: str, address: str) -> str:
    """What stands in the table for the address of somebody who was erased."""
    return _ERASED + hashlib.sha256(f"{channel}\0{address}".encode()).hexdigest()


def normalise(channel: str, address: str, region: str = identities.DEFAULT_REGION) -> str:
    """An address of this channel in the form that identities have.

    Raises:
        InvalidInput: the channel has no addresses, or this cannot be one.
    """
    kind = ADDRESS_KINDS.get(channel)
    if kind is None:
        words = ", ".join(ADDRESS_KINDS)
        raise InvalidInput(Problem(f"addresses of {channel!r} cannot be suppressed", f"one of {words}", path="channel"))
    return identities.normalise(kind, address, region)


_SUPPRESS = text(
    """
    insert into suppression as held (channel, address, reason, note)
    select :channel, address, :reason, :note from unnest(cast(:addresses as text[])) address
    on conflict (channel, address) do update set reason = excluded.reason, note = excluded.note
    where array_position(cast(:reasons as text[]), excluded.reason) > array_position(:reasons, held.reason)
    """
)


async def suppress(
    connection: AsyncConnection, channel: str, addresses: Iterable[str], reason: str, note: str | None = None
) -> None:
    """Never use these (normalised) addresses again. Doing it twice is doing it once.

    Raises:
        InvalidInput: the reason is none of `REASONS`.
    """
    if reason not in REASONS:
        raise InvalidInput(Problem(f"there is no reason {reason!r}", "one of " + ", ".join(REASONS), path="reason"))
    values = {"channel": channel, "addresses": sorted(set(addresses)), "reason": reason, "note": note}
    await connection.execute(_SUPPRESS, values | {"reasons": list(REASONS)})


async def lift(connection: AsyncConnection, channel: str, addresses: Iterable[str], reason: str | None = None) -> int:
    """Allow (normalised) addresses again, or only those suppressed for a reason; returns how many there were."""
    plain = sorted(set(addresses))
    done = await connection.execute(
        text(
            "delete from suppression where channel = :channel and address = any(:addresses) "
            "and reason = coalesce(:reason, reason)"
        ),
        {"channel": channel, "addresses": plain + [digest(channel, address) for address in plain], "reason": reason},
    )
    return done.rowcount


async def suppressed(connection: AsyncConnection, channel: str, addresses: Sequence[str]) -> dict[str, str]:
    """Those of the (normalised) addresses that are suppressed, with the reason; `blocks` says what it forbids."""
    plain = {key: address for address in addresses for key in (address, digest(channel, address))}
    found = await (await driver(connection)).execute(
        "select address, reason from suppression where channel = %s and address = any(%s::text[])",
        (channel, array(plain)),
    )
    strongest: dict[str, str] = {}
    for address, reason in sorted(await found.fetchall(), key=lambda row: REASONS.index(row[1])):
        strongest[plain[address]] = reason
    return strongest


def strongest(reasons: Iterable[str]) -> str | None:
    """The reason that holds where there are several."""
    return max(reasons, key=REASONS.index, default=None)


async def forget(connection: AsyncConnection, addresses: Sequence[str]) -> None:
    """Put digests in the place of addresses; they stay suppressed."""
    rows = await connection.execute(
        text("delete from suppression where address = any(:addresses) returning channel, address, reason"),
        {"addresses": list(addresses)},
    )
    for channel, address, reason in rows.all():
        await suppress(connection, channel, [digest(channel, address)], reason)


async def listing(
    connection: AsyncConnection, channel: str | None = None, after: tuple[str, str] = ("", ""), limit: int = 100
) -> list[dict[str, Any]]:
    """A page of suppressions in the order of channel and address."""
    rows = await connection.execute(
        text(
            "select channel, address, reason, created_at, note from suppression where (channel, address) > (:c, :a) "
            "and (cast(:channel as text) is null or channel = :channel) order by channel, address limit :limit"
        ),
        {"channel": channel, "c": after[0], "a": after[1], "limit": limit},
    )
    return [dict(row) for row in rows.mappings()]


async def welcome(connection: AsyncConnection, contact_id: int, channels: Iterable[str]) -> None:
    """Who agrees anew is no longer suppressed for having unsubscribed; other reasons stay."""
    for channel in sorted(set(channels) & set(ADDRESS_KINDS)):
        await connection.execute(
            text(
                "delete from suppression where channel = :channel and reason = 'unsubscribed' and address in "
                "(select value from identity where contact_id = :id and kind = :kind)"
            ),
            {"channel": channel, "id": contact_id, "kind": ADDRESS_KINDS[channel]},
        )
