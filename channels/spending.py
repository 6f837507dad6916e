"""What journeys with a budget have spent on messages. One row for each, which all workers lock, so none is overdrawn.

A message is charged when its ledger row is made, at the price of one part with the provider chosen then; when another
provider gets it, when it turns out to have more parts, or is not sent at all, the difference is written down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from core.database import driver


@dataclass(frozen=True, slots=True)
class Budget:
    """What the messages of a journey may cost together."""

    journey_id: int
    amount: str
    """A decimal number in the currency of the prices."""


_LOCK = """
insert into journey_spending as s (journey_id, spent) values (%(journey)s, 0)
on conflict (journey_id) do update set spent = s.spent returning spent
"""
_CHARGED = "select id from message where created_at = %(at)s and id = any(%(ids)s)"
_CHARGE = "update journey_spending set spent = spent + %(cost)s where journey_id = %(journey)s"


async def charge(connection: AsyncConnection, budget: Budget, at: datetime, costs: Mapping[UUID, Decimal]) -> set[UUID]:
    """Charge messages that are about to be written, in their order, for as long as the budget lasts.

    Args:
        connection: an open transaction; others wait for its end.
        budget: whose it is and how much.
        at: message.created_at of the messages; those that are written were charged already.
        costs: what each costs. What has no price costs nothing.

    Returns:
        Those that are too much.
    """
    raw = await driver(connection)
    row = await (await raw.execute(_LOCK, {"journey": budget.journey_id})).fetchone()
    rows = await (await raw.execute(_CHARGED, {"at": at, "ids": list(costs)})).fetchall()
    charged = {number for (number,) in rows}
    left = Decimal(budget.amount) - (row[0] if row else Decimal())
    cost = Decimal()
    refused: set[UUID] = set()
    for number, one in costs.items():
        if number in charged:
            continue
        if cost + one <= left and not refused:
            cost += one
        else:
            refused.add(number)
    if cost:
        await raw.execute(_CHARGE, {"journey": budget.journey_id, "cost": cost})
    return refused


async def left(connection: AsyncConnection, budget: Budget) -> Decimal:
    """What is left of a budget."""
    statement = "select spent from journey_spending where journey_id = %s"
    row = await (await (await driver(connection)).execute(statement, (budget.journey_id,))).fetchone()
    return Decimal(budget.amount) - (row[0] if row else Decimal())


_IS_ALERT = "v.plan #>> array['steps', {}.step::text, 'priority'] = 'alert'"
"""Of a message's step; alerts are not charged."""
_CORRECT = f"""
update journey_spending s set spent = greatest(0, s.spent + d.difference)
from (
    select v.journey_id,
        sum(case when m.state in (15, 40) then -m.cost else m.cost - m.cost / m.parts end) as difference
    from message m join journey_version v on v.id = m.version_id
    where m.created_at = %(at)s and m.id = any(%(ids)s) and not coalesce({_IS_ALERT.format("m")}, false)
    group by v.journey_id
) d
where s.journey_id = d.journey_id and d.difference <> 0
"""  # noqa: S608 - of constants


async def correct(connection: AsyncConnection, at: datetime, ids: Sequence[UUID]) -> None:
    """Write down what messages cost more or less than they were charged, now that their outcome is on their rows: those
    that failed or were skipped cost nothing, those of several parts so many times as much."""
    if ids:
        await (await driver(connection)).execute(_CORRECT, {"at": at, "ids": list(ids)})


_ADD = f"""
update journey_spending s set spent = greatest(0, s.spent + d.difference)
from (
    select v.journey_id, sum(n.difference) as difference
    from unnest(%(versions)s::int[], %(steps)s::smallint[], %(differences)s::numeric[]) as n (version, step, difference)
    join journey_version v on v.id = n.version where not coalesce({_IS_ALERT.format("n")}, false)
    group by v.journey_id
) d
where s.journey_id = d.journey_id and d.difference <> 0
"""  # noqa: S608 - of constants


@dataclass(frozen=True, slots=True)
class Difference:
    """What a message costs more, or less, because another provider has it now."""

    version_id: int | None
    step: int | None
    amount: Decimal


async def add(connection: AsyncConnection, differences: Sequence[Difference]) -> None:
    """Write down what messages that have gone to other providers cost more or less."""
    values = {
        "versions": [one.version_id for one in differences],
        "steps": [one.step for one in differences],
        "differences": [one.amount for one in differences],
    }
    await (await driver(connection)).execute(_ADD, values)
