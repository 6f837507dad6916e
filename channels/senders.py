"""The register of senders: names, numbers and addresses that messages may come from, for what and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import policy
from channels.tariffs import country_problems, purpose_problems
from core.errors import Conflict, InvalidInput, NotFound, Problem


@dataclass(frozen=True)
class Sender:
    """A name, number or address that messages may come from, and for what."""

    address: str
    purposes: tuple[str, ...] = ()
    """Empty: anything."""
    countries: tuple[str, ...] = ()
    """Where it may be used; empty: anywhere."""

    def fits(self, purpose: str | None, country: str | None = None) -> bool:
        """Whether it may be used for a purpose, in a country; what is not known does not speak against it."""
        return (not self.purposes or purpose is None or purpose in self.purposes) and (
            not self.countries or country is None or country in self.countries
        )


async def add_sender(
    connection: AsyncConnection, channel: str, address: str, purposes: Sequence[str], countries: Sequence[str]
) -> None:
    """Register a sender. Once a channel has one, its messages may come from registered senders only.

    Raises:
        InvalidInput: everything that cannot be.
        Conflict: it is registered.
    """
    problems = country_problems(countries) + purpose_problems(purposes)
    if channel not in {"email", "sms", "voice"}:
        problems.append(Problem(f"{channel} has no senders", "there are email, sms and voice"))
    plain = sender_key(channel, address)
    if not plain or len(plain) > 320 or not plain.isprintable():
        problems.append(Problem(f"{address!r} is no sender", "an address, a number such as +74951234567, or a name"))
    elif channel == "email" and not plain.startswith("@") and not policy.valid_address("email", plain):
        problems.append(Problem(f"{address!r} is no address", "write news@example.com, or @example.com for all of it"))
    if problems:
        raise InvalidInput(*problems)
    done = await connection.execute(
        text(
            "insert into sender (channel, address, purposes, countries) "
            "values (:channel, :address, :purposes, :countries) on conflict do nothing"
        ),
        {
            "channel": channel,
            "address": plain,
            "purposes": list(purposes),
            "countries": [country.upper() for country in countries],
        },
    )
    if not done.rowcount:
        raise Conflict(f"{plain} is a sender of {channel} already; remove it first to change it")


def sender_key(channel: str, address: str) -> str:
    """A sender as it is compared: of an email address neither the name before it nor its case matters."""
    plain = address.strip()
    if channel == "email":
        return plain.rpartition("<")[2].rstrip(">").strip().lower()
    return plain


async def senders(connection: AsyncConnection) -> list[dict[str, Any]]:
    """All senders by channel."""
    rows = await connection.execute(
        text("select channel, address, purposes, countries, created_at from sender order by channel, address")
    )
    return [dict(row) for row in rows.mappings()]


async def remove_sender(connection: AsyncConnection, channel: str, address: str) -> None:
    """Strike a sender off. What was published with it goes on. Raises NotFound."""
    done = await connection.execute(
        text("delete from sender where channel = :channel and address = :address"),
        {"channel": channel, "address": sender_key(channel, address)},
    )
    if not done.rowcount:
        raise NotFound(f"{address} is no sender of {channel}; `kaskad sender list` shows those there are")


async def registered(connection: AsyncConnection, channel: str) -> list[Sender]:
    """The senders of a channel; none where nobody has begun to keep them."""
    rows = await connection.execute(
        text("select address, purposes, countries from sender where channel = :channel"), {"channel": channel}
    )
    return [Sender(row.address, tuple(row.purposes), tuple(row.countries)) for row in rows]


def objection(known: Sequence[Sender], channel: str, address: str, purpose: str | None) -> str | None:
    """Why a sender may not be used, or None. Where no sender is registered, each may."""
    if not known:
        return None
    found = _entries(known, channel, address)
    if not found:
        return f"{sender_key(channel, address)} is no registered sender of {channel}"
    if not any(sender.fits(purpose) for sender in found):
        return f"{sender_key(channel, address)} is not registered for {purpose}"
    return None


def barred(known: Sequence[Sender], channel: str, address: str, purpose: str, country: str | None) -> str | None:
    """Why a sender may not be used for one message, or None. What was published with a sender that was struck off
    since goes on.

    Args:
        known: the senders of the channel.
        channel: of the message.
        address: of its sender.
        purpose: of the message.
        country: where it goes (ISO 3166); what is not known does not speak against it.
    """
    found = _entries(known, channel, address)
    if not found or any(sender.fits(purpose, country) for sender in found):
        return None
    what = country if country and any(sender.fits(purpose) for sender in found) else purpose
    return f"{sender_key(channel, address)} is not registered for {what}"


def _entries(known: Sequence[Sender], channel: str, address: str) -> list[Sender]:
    key = sender_key(channel, address)
    ours = {key, "@" + key.rpartition("@")[2]} if channel == "email" else {key}
    return [sender for sender in known if sender.address in ours]
