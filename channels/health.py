"""How providers do: their outcomes minute by minute, and the breaker that reads them.

A provider that failed most of its last messages gives way to others. It is not forgotten: a few messages a minute go to
it first all the same, and when those of them that count are taken, it has its place back. What a probe does not bring
over goes to another provider, so it costs a moment and no message.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import limits
from channels.provider import NotNow
from core.database import driver

WINDOW = timedelta(minutes=10)
"""What lies further back says nothing any more."""
SAMPLE = 50
"""The newest minutes that hold as many outcomes are what a provider is judged by; fewer say nothing."""
SHARE = 0.5
"""A provider that fails more than this share of them is ill."""
PROBES = 5
PROBE_EVERY = timedelta(seconds=15)
"""So many messages may try an ill provider at a time, and how often."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Outcomes of a provider."""

    accepted: int = 0
    failed: int = 0
    """Tried in vain, for reasons of the provider's own."""
    delivered: int = 0
    undelivered: int = 0
    """Came back."""


_NOTE = """
insert into provider_minute as p (provider_id, minute, accepted, failed, delivered, undelivered)
values (%(provider)s, date_trunc('minute', clock_timestamp()), %(accepted)s, %(failed)s, %(delivered)s, %(undelivered)s)
on conflict (provider_id, minute) do update set accepted = p.accepted + excluded.accepted,
    failed = p.failed + excluded.failed, delivered = p.delivered + excluded.delivered,
    undelivered = p.undelivered + excluded.undelivered
"""


async def note(connection: AsyncConnection, provider_id: int, tally: Tally) -> None:
    """Count outcomes. Late in its transaction: whoever counts for the same provider waits for its end."""
    if tally == Tally():
        return
    values = {
        "provider": provider_id,
        "accepted": tally.accepted,
        "failed": tally.failed,
        "delivered": tally.delivered,
        "undelivered": tally.undelivered,
    }
    await (await driver(connection)).execute(_NOTE, values)


def is_healthy(minutes: Iterable[Tally]) -> bool:
    """Whether a provider keeps its place: it takes messages, and what it takes arrives.

    Args:
        minutes: its tallies within WINDOW, the newest first.
    """
    known = list(minutes)
    taking = _keeps((one.failed, one.accepted + one.failed) for one in known)
    # Of a provider that reports no deliveries one knows what came back only in relation to what it took.
    told = any(one.delivered for one in known)
    arriving = _keeps((one.undelivered, one.delivered + one.undelivered if told else one.accepted) for one in known)
    return taking and arriving


def _keeps(pairs: Iterable[tuple[int, int]]) -> bool:
    """Whether the newest bad and total numbers that make up a sample are good enough."""
    bad = total = 0
    for some, all_ in pairs:
        bad, total = bad + some, total + all_
        if total >= SAMPLE:
            return bad <= total * SHARE
    return True


_MINUTES = text(
    "select provider_id, accepted, failed, delivered, undelivered from provider_minute "
    "where provider_id = any(:ids) and minute > now() - cast(:window as interval) order by minute desc"
)


async def healthy(connection: AsyncConnection, providers: Sequence[int]) -> Mapping[int, bool]:
    """Whether each provider keeps its place, by number."""
    minutes: dict[int, list[Tally]] = {number: [] for number in providers}
    for row in await connection.execute(_MINUTES, {"ids": list(providers), "window": WINDOW}):
        minutes[row.provider_id].append(Tally(row.accepted, row.failed, row.delivered, row.undelivered))
    return {number: is_healthy(tallies) for number, tallies in minutes.items()}


async def probes(connection: AsyncConnection, provider: str) -> int:
    """How many messages may try an ill provider now; all workers share the number."""
    spacing = PROBE_EVERY / PROBES
    try:
        await limits.take(connection, f"{provider}:probe", 1 / spacing.total_seconds(), PROBES, PROBE_EVERY - spacing)
    except NotNow:
        return 0
    return PROBES
