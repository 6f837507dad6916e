"""A dry run of policy and routing: which provider each contact would get now, and what it would cost. Nothing is
written, nothing leaves."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from channels import carriers
from channels.carriers import Wanted
from channels.facts import ADDRESS_KINDS
from channels.policy import NO_RULES, DelayUntil, Facts, Reason, Skip, decide
from channels.routing import Carrier
from contacts import suppressions
from core.database import driver
from core.errors import InvalidInput, Misconfigured, Problem
from core.ids import derived_uuid

PAGE = 5000
"""How many contacts are looked at together."""

# As in channels.facts: the oldest identity of the kind is the contact's address.
_FACTS = """
select c.id, i.value, k.granted, c.time_zone
from unnest(%(ids)s::bigint[]) with ordinality as w (id, n) join contact c on c.id = w.id
left join lateral (
    select value from identity where contact_id = c.id and kind = %(kind)s order by created_at, value limit 1
) i on true
left join consent k on k.contact_id = c.id and k.channel = %(channel)s and k.purpose = %(purpose)s
order by w.n
"""


@dataclass(frozen=True, slots=True)
class Tried:
    """What would become of one contact's message."""

    contact: int
    provider: str | None
    """Nobody, with the reason."""
    then: tuple[str, ...]
    """Who would have it after that one, in their order."""
    cost: Decimal | None
    """Of one part; None where nobody said."""
    currency: str | None
    reason: str | None = None


async def load(connection: AsyncConnection, channel: str) -> list[Carrier]:
    """The providers of a channel.

    Raises:
        InvalidInput: there is no such channel.
        Misconfigured: nobody carries it.
    """
    if channel not in ADDRESS_KINDS:
        raise InvalidInput(Problem(f"there is no channel {channel}", f"there are {', '.join(ADDRESS_KINDS)}"))
    found = await carriers.load(connection, channel)
    if not found:
        raise Misconfigured(carriers.nobody(channel))
    return found


async def page(
    connection: AsyncConnection,
    channel: str,
    purpose: str,
    contacts: Sequence[int],
    among: Sequence[Carrier],
    at: datetime,
) -> list[Tried]:
    """What would become of each contact's message at a moment; contacts that do not exist are left out. Which provider
    chance gives by weight is the same each time one asks, but not the one that a real message would get."""
    values = {"ids": list(contacts), "kind": ADDRESS_KINDS[channel], "channel": channel, "purpose": purpose}
    rows = await (await (await driver(connection)).execute(_FACTS, values)).fetchall()
    blocked = await suppressions.suppressed(connection, channel, [row[1] for row in rows if row[1]])
    wanted, skipped = {}, {}
    for contact, address, granted, zone in rows:
        facts = Facts(channel, purpose, True, address, granted, blocked.get(address), zone)
        decision = decide(facts, at, NO_RULES)
        if isinstance(decision, Skip | DelayUntil):
            skipped[contact] = str(decision)
        else:
            wanted[contact] = Wanted(derived_uuid("route try", str(contact)), address, purpose, zone)
    ranked = await carriers.choices(connection, among, list(wanted.values()), at)
    found = []
    for contact, *_ in rows:
        choices = ranked[wanted[contact].id] if contact in wanted else []
        if choices:
            first, *rest = choices
            found.append(Tried(contact, first.name, tuple(one.name for one in rest), first.price, first.currency))
        else:
            reason = skipped.get(contact, str(Reason.NO_ROUTE))
            found.append(Tried(contact, None, (), None, None, reason))
    return found


class Summary:
    """Counts and costs by provider and reason."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str | None, str | None]] = Counter()
        self._costs: dict[str, Decimal] = {}
        self._currencies: dict[str, str] = {}
        self._unpriced: Counter[str] = Counter()

    def add(self, tried: Iterable[Tried]) -> None:
        """Count these, too."""
        for one in tried:
            self._counts[one.provider, one.reason] += 1
            if one.provider is None:
                continue
            if one.cost is None or one.currency is None:
                self._unpriced[one.provider] += 1
            else:
                self._costs[one.provider] = self._costs.get(one.provider, Decimal()) + one.cost
                self._currencies[one.provider] = one.currency

    def rows(self) -> list[dict[str, Any]]:
        """Providers with most messages first, then why the others would get none."""
        ordered = sorted(self._counts.items(), key=lambda item: (item[0][0] is None, -item[1], item[0]))
        return [
            {
                "provider": provider,
                "reason": reason,
                "messages": count,
                "cost": self._costs.get(provider or ""),
                "currency": self._currencies.get(provider or ""),
                "without_price": self._unpriced[provider or ""],
            }
            for (provider, reason), count in ordered
        ]
