"""What messages would cost in a simulation: the provider and the price that routing gives each contact at the start, as
`kaskad route try` shows them."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from channels import carriers
from channels.carriers import Wanted
from core.ids import derived_uuid
from journeys.tally import Charge

_AT_ONCE = 20_000


async def charges(
    connection: AsyncConnection,
    channel: str,
    purpose: str,
    addresses: Mapping[int, str],
    zones: Mapping[int, str | None],
    at: datetime,
) -> dict[int, Charge]:
    """Who would carry one message to each contact, and what it would cost; empty where no price is known at all.

    Args:
        connection: an open transaction, only read.
        channel: of the messages.
        purpose: of the messages.
        addresses: of the contacts.
        zones: their time zones; routes may have hours.
        at: the moment that is asked about.
    """
    among = await carriers.load(connection, channel)
    if not any(carrier.prices for carrier in among):
        return {}
    found: dict[int, Charge] = {}
    contacts = sorted(addresses)
    for first in range(0, len(contacts), _AT_ONCE):
        # Chance by weight falls as in the dry run: by the contact, the same each time one asks.
        wanted = {
            contact: Wanted(derived_uuid("route try", str(contact)), addresses[contact], purpose, zones.get(contact))
            for contact in contacts[first : first + _AT_ONCE]
        }
        ranked = await carriers.choices(connection, among, list(wanted.values()), at)
        for contact, one in wanted.items():
            for choice in ranked[one.id][:1]:
                found[contact] = Charge(choice.name, choice.price, choice.currency)
    return found
