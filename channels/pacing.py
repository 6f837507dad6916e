"""Handing messages over no faster than a provider may be given them, whoever else gives it some at the same time.

The limit is per second and shared by all workers (channels.limits). Messages leave in groups so small that a second
never holds more than a few above the limit. A warm-up limits the messages of a day, in a row that all workers count on.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from channels import limits
from channels.provider import Message, NotNow, Outcome, Provider, Receipt
from channels.providers import Provider as Configured
from core.database import Database, driver
from core.errors import DatabaseUnavailable

_M = TypeVar("_M", bound=Message)
PATIENCE = timedelta(seconds=2)
"""How far ahead a turn may lie to be waited for; what is further away goes back."""
_GROUPS_A_SECOND = 25
"""Groups of messages that leave together; more are smoother and cost more."""


def chunk_of(provider: Configured) -> int:
    """How many messages to claim together: no more than can leave soon."""
    rate = provider.options.per_second
    batch = provider.scheme.batch
    return batch if rate is None else max(1, min(batch, int(rate * PATIENCE.total_seconds())))


async def hand_over(
    database: Database, provider: Configured, carrier: Provider[_M], messages: Sequence[_M]
) -> list[Receipt]:
    """Hand messages over at the provider's rate and give one receipt each. What cannot leave within PATIENCE is
    DEFERRED, held by us."""
    rate = provider.options.per_second
    if rate is None:
        return await carrier.hand_over(messages)
    sent: list[asyncio.Task[list[Receipt]]] = []
    kept: Receipt | None = None
    try:
        for group in _groups(messages, rate):
            try:
                wait = await _turns(database, provider.name, rate, sum(one.parts for one in group))
            except (NotNow, DatabaseUnavailable) as error:  # what has left needs its receipts all the same
                after = error.retry_after if isinstance(error, NotNow) else timedelta(seconds=1)
                kept = Receipt(Outcome.DEFERRED, reason=str(error), retry_after=after, held=True)
                break
            await asyncio.sleep(wait.total_seconds())
            sent.append(asyncio.create_task(carrier.hand_over(group)))
        receipts = [receipt for receipts in await asyncio.gather(*sent) for receipt in receipts]
    except BaseException:
        for task in sent:
            task.cancel()
        await asyncio.gather(*sent, return_exceptions=True)
        raise
    if kept is not None:
        receipts += [kept] * (len(messages) - len(receipts))
    return receipts


async def _turns(database: Database, name: str, rate: float, parts: int) -> timedelta:
    within = PATIENCE + timedelta(seconds=(parts - 1) / rate)  # a message of many parts can leave, too
    async with database.begin() as connection:
        return await limits.take(connection, f"{name}:total", rate, parts, within)


def _groups(messages: Sequence[_M], rate: float) -> Iterator[Sequence[_M]]:
    size = max(1, int(rate / _GROUPS_A_SECOND))
    for start in range(0, len(messages), size):
        yield messages[start : start + size]


# The row is the lock: whoever takes from a day's quota at the same time waits, and sees what is left.
_BEGIN = """
insert into provider_day as d (provider_id, day, taken) values (%(provider)s, %(day)s, 0)
on conflict (provider_id, day) do update set taken = d.taken returning taken
"""
_TAKE = "update provider_day set taken = taken + %(n)s where provider_id = %(provider)s and day = %(day)s"
_GIVE_BACK = """
update provider_day set taken = greatest(0, taken - %(n)s) where provider_id = %(provider)s and day = %(day)s
"""


async def take_today(connection: AsyncConnection, provider: Configured, n: int, at: datetime) -> int:
    """Take up to `n` messages from a provider's quota of the day; gives how many it has got. In a transaction of its
    own: others wait for its end."""
    day = at.astimezone(UTC).date()
    quota = provider.options.quota(day)
    if quota is None:
        return n
    raw = await driver(connection)
    values = {"provider": provider.id, "day": day}
    row = await (await raw.execute(_BEGIN, values)).fetchone()
    granted = max(0, min(n, quota - int(row[0] if row else 0)))
    await raw.execute(_TAKE, values | {"n": granted})
    return granted


async def give_back(connection: AsyncConnection, provider: Configured, n: int, at: datetime) -> None:
    """Give back what was taken at a moment and not used."""
    day = at.astimezone(UTC).date()
    if n > 0 and provider.options.quota(day) is not None:
        values = {"provider": provider.id, "day": day, "n": n}
        await (await driver(connection)).execute(_GIVE_BACK, values)


def tomorrow(at: datetime) -> datetime:
    """When the next day's quota begins."""
    return datetime.combine(at.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
