"""Passing messages on to another provider, when the one that has them will not or cannot carry them.

Only what the first provider surely did not take is passed on: a refusal of its own, "not now", or never tried; and,
where there is a deadline, what it took but did not deliver by then (channels.undelivered). A message in doubt stays
where it is. One statement moves a row, so at any moment it belongs to one provider, and only hand-overs of that one
claim it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from channels import carriers, spending
from channels.batches import NEW, ROWS, written
from channels.carriers import Wanted
from channels.provider import Outcome, Receipt
from channels.providers import Provider
from channels.routing import Carrier, Choice
from channels.spending import Difference
from core.database import driver

_PASSABLE = f"""
select m.id, m.address, m.purpose, c.time_zone, coalesce(m.tried, '{{}}'), m.version_id, m.step,
    case when m.state < 50 then coalesce(m.cost, 0) else 0 end
from message m left join contact c on c.id = m.contact_id
where {ROWS} and m.provider_id = %(provider)s and m.address is not null
    and case when %(claim)s::uuid is null then m.state in (50, 70)
        else m.state = 10 or (m.state = 20 and m.claim = %(claim)s) end
order by m.id for update of m skip locked
"""  # noqa: S608  no input in it
_MOVE = f"""
update message m set state = 10, claim = null, claimed_at = null, attempts = 0, reason = {NEW} ->> 'reason',
    provider_id = ({NEW} ->> 'provider')::smallint, cost = ({NEW} ->> 'cost')::numeric,
    tried = coalesce(m.tried, '{{}}') || m.provider_id, provider_message_id = null, parts = null
where {ROWS}
"""  # noqa: S608  no input in it


def asks_for_another(provider: Provider, receipt: Receipt, repeated: bool, age: float, ill: bool) -> bool:
    """Whether a message should go to another provider, if there is one.

    Args:
        provider: who answered.
        receipt: what it said.
        repeated: whether an earlier attempt may have handed it over: then nobody else gets it.
        age: seconds since the message was made.
        ill: whether the provider's breaker is open.
    """
    if repeated:
        return False
    if receipt.outcome is Outcome.REJECTED:
        return receipt.elsewhere
    if receipt.outcome is not Outcome.DEFERRED or receipt.held:
        return False
    wait = receipt.retry_after.total_seconds() if receipt.retry_after else 0.0
    return ill or age + wait > provider.options.failover_after


def others(provider: Provider, among: Sequence[Carrier], at_once: bool) -> list[Carrier]:
    """Who may take what a provider does not; with `at_once` only those that can carry it now."""
    return [
        carrier
        for carrier in among
        if carrier.id != provider.id and (not at_once or (carrier.active and carrier.healthy))
    ]


async def pass_on(
    connection: AsyncConnection,
    provider: Provider,
    at: datetime,
    claim: UUID | None,
    rows: Mapping[UUID, str | None],
    among: Sequence[Carrier],
    moment: datetime,
) -> dict[UUID, Choice]:
    """Give rows to the best of other providers.

    Args:
        connection: an open transaction.
        provider: who has them.
        at: message.created_at of the rows.
        claim: the attempt that asks; of rows that are being handed over only its own move. None: they are rows that
            the provider took.
        rows: their ids, and why they are passed on.
        among: the providers that may have them.
        moment: now.

    Returns:
        Who has each now. A row that nobody else carries stays as it is.
    """
    if not rows or not among:
        return {}
    raw = await driver(connection)
    values = {"at": at, "ids": list(rows), "provider": provider.id, "claim": claim}
    found = await (await raw.execute(_PASSABLE, values)).fetchall()
    wanted = [Wanted(row[0], row[1], row[2], row[3], tuple(row[4])) for row in found]
    ranked = await carriers.choices(connection, among, wanted, moment)
    chosen = {number: choices[0] for number, choices in ranked.items() if choices}
    if chosen:
        new = {
            number: {"reason": (rows[number] or "")[:500] or None, "provider": one.provider_id, "cost": one.price}
            for number, one in chosen.items()
        }
        await raw.execute(_MOVE, written(at, new))
        charged = {row[0]: row[5:] for row in found}
        await spending.add(connection, [_difference(choice, *charged[number]) for number, choice in chosen.items()])
    return chosen


def _difference(choice: Choice, version_id: int | None, step: int | None, paid: Decimal) -> Difference:
    return Difference(version_id, step, (choice.price or Decimal()) - paid)
