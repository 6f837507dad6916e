"""Handing messages over no faster than a provider may be given them, whoever else gives it some at the same time.

The limits are per second, of a provider and of each domain that letters go to, and shared by all workers
(channels.limits). Messages leave in groups so small that a second never holds more than a few above the limit. A
warm-up limits the messages of a day, in a row that all workers count on.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from math import ceil
from operator import itemgetter
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from channels import limits
from channels.provider import Letter, Message, NotNow, Outcome, Provider, Receipt
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
    """Hand messages over at the provider's rates and give one receipt each. What cannot leave within PATIENCE is
    DEFERRED, held by us."""
    if provider.options.per_second is None and provider.options.domain_per_second is None:
        return await carrier.hand_over(messages)
    return await _Leaving(database, provider, carrier, messages).run()


class _Leaving(Generic[_M]):
    """Messages that leave in groups, each when its turn has come. They are named by their places in the batch."""

    def __init__(self, database: Database, provider: Configured, carrier: Provider[_M], messages: Sequence[_M]) -> None:
        self._database = database
        self._provider = provider
        self._carrier = carrier
        self._messages = messages
        self._receipts: dict[int, Receipt] = {}
        self._tasks: list[tuple[Sequence[int], asyncio.Task[list[Receipt]]]] = []
        self._used_up: Receipt | None = None

    async def run(self) -> list[Receipt]:
        """A receipt for each message, in their order."""
        clock = asyncio.get_running_loop()
        try:
            slots, begun = await self._slots(), clock.time()
            for wait, places in slots:
                await asyncio.sleep(max(0.0, begun + wait - clock.time()))
                for group in self._groups(places):
                    await self._leave(group)
            for places, task in self._tasks:
                self._receipts |= dict(zip(places, await task, strict=True))
        except BaseException:
            for _, task in self._tasks:
                task.cancel()
            await asyncio.gather(*(task for _, task in self._tasks), return_exceptions=True)
            raise
        return [receipt for _, receipt in sorted(self._receipts.items(), key=itemgetter(0))]

    async def _slots(self) -> list[tuple[float, Sequence[int]]]:
        """The messages by the seconds that they have to wait for their domains; what would wait too long is held."""
        rate = self._provider.options.domain_per_second
        if rate is None:
            return [(0.0, range(len(self._messages)))]
        slots: dict[int, list[int]] = defaultdict(list)
        for domain, places in sorted(self._by_domain().items()):
            try:
                waits = await _some_turns(self._database, f"{self._provider.name}:{domain}", rate, len(places))
            except (NotNow, DatabaseUnavailable) as error:
                self._hold(places, error)
                continue
            for place, wait in zip(places, waits, strict=False):
                slots[ceil(wait.total_seconds() * _GROUPS_A_SECOND)].append(place)
            if late := places[len(waits) :]:
                after = waits[-1] + timedelta(seconds=1 / rate)
                self._hold(late, NotNow(f"the limit of {rate:g} a second for {domain} is used up", after))
        return [(slot / _GROUPS_A_SECOND, places) for slot, places in sorted(slots.items())]

    def _by_domain(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for place, message in enumerate(self._messages):
            found[message.recipient.rpartition("@")[2].lower() if isinstance(message, Letter) else ""].append(place)
        return found

    def _groups(self, places: Sequence[int]) -> Iterator[Sequence[int]]:
        rate = self._provider.options.per_second
        size = len(places) if rate is None else max(1, int(rate / _GROUPS_A_SECOND))
        for start in range(0, len(places), size):
            yield places[start : start + size]

    async def _leave(self, places: Sequence[int]) -> None:
        """Hand a group over at the provider's own rate; once that is used up, nothing else leaves."""
        messages = [self._messages[place] for place in places]
        if self._used_up is None and self._provider.options.per_second is not None:
            parts = sum(one.parts for one in messages)
            try:
                wait = await _turns(self._database, self._provider.name, self._provider.options.per_second, parts)
                await asyncio.sleep(wait.total_seconds())
            except (NotNow, DatabaseUnavailable) as error:  # what has left needs its receipts all the same
                self._used_up = _held(error)
        if self._used_up is not None:
            self._receipts |= dict.fromkeys(places, self._used_up)
            return
        self._tasks.append((places, asyncio.create_task(self._carrier.hand_over(messages))))

    def _hold(self, places: Sequence[int], why: NotNow | DatabaseUnavailable) -> None:
        self._receipts |= dict.fromkeys(places, _held(why))


def _held(why: NotNow | DatabaseUnavailable) -> Receipt:
    after = why.retry_after if isinstance(why, NotNow) else timedelta(seconds=1)
    return Receipt(Outcome.DEFERRED, reason=str(why), retry_after=after, held=True)


async def _turns(database: Database, name: str, rate: float, parts: int) -> timedelta:
    within = PATIENCE + timedelta(seconds=(parts - 1) / rate)  # a message of many parts can leave, too
    async with database.begin() as connection:
        return await limits.take(connection, f"{name}:total", rate, parts, within)


async def _some_turns(database: Database, name: str, rate: float, wanted: int) -> list[timedelta]:
    """Up to so many turns, as many as come within PATIENCE: how long to wait for each.

    Raises:
        NotNow: not one does.
    """
    spacing = timedelta(seconds=1 / rate)
    count = min(wanted, 1 + PATIENCE // spacing)
    async with database.begin() as connection:
        try:
            last = await limits.take(connection, name, rate, count, PATIENCE)
        except NotNow as used:
            count = min(count - 1, 1 + (PATIENCE - used.retry_after) // spacing)
            if count < 1:
                raise
            last = await limits.take(connection, name, rate, count, PATIENCE)
    return [last - (count - 1 - number) * spacing for number in range(count)]


# The row is the lock: whoever takes from a day's quota at the same time waits, and sees what is left.
_BEGIN = """
insert into provider_day as d (provider_id, day, taken) values (%(provider)s, %(day)s, 0)
on conflict (provider_id, day) do update set taken = d.taken returning taken
"""
_TAKEN = "select taken from provider_day where provider_id = %(provider)s and day = %(day)s"
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


async def left_today(connection: AsyncConnection, provider: Configured, at: datetime) -> int | None:
    """How much of a provider's quota of the day is left; None where there is none."""
    day = at.astimezone(UTC).date()
    quota = provider.options.quota(day)
    if quota is None:
        return None
    values = {"provider": provider.id, "day": day}
    row = await (await (await driver(connection)).execute(_TAKEN, values)).fetchone()
    return max(0, quota - (int(row[0]) if row else 0))


async def give_back(connection: AsyncConnection, provider: Configured, n: int, at: datetime) -> None:
    """Give back what was taken at a moment and not used."""
    day = at.astimezone(UTC).date()
    if n > 0 and provider.options.quota(day) is not None:
        values = {"provider": provider.id, "day": day, "n": n}
        await (await driver(connection)).execute(_GIVE_BACK, values)


def tomorrow(at: datetime) -> datetime:
    """When the next day's quota begins."""
    return datetime.combine(at.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
