"""Decisions a second: whether a message may leave, and which provider carries it: `python -m benchmarks.policy`.

`decisions_per_s` is policy and routing over facts that are there, in batches of 1,000, on one core: consent,
suppression, quiet hours in the contact's zone, a frequency cap; four providers with routes by operator, purpose and
hours, prices by prefix and operator, and weights. `prepared_per_s` is the same asked of PostgreSQL and written into the
ledger (`channels.prepare`), by one process.
"""

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from sqlalchemy import text

from benchmarks.email import prepared
from benchmarks.harness import console, report
from channels import PrepareRequest, Rules, prepare
from channels.policy import Facts, Send, decide
from channels.routing import Carrier, Price, Route, Target, rank
from core.clock import now
from core.database import Database
from core.migrate import migrate
from core.settings import Settings
from studio.stack.scratch import scratch_server

BATCH = 1000
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
RULES = Rules(quiet_from="21:00", quiet_to="09:00", cap=3)
_ZONES = ("Europe/Moscow", "Asia/Yekaterinburg", "Asia/Vladivostok", "Europe/Kaliningrad", None)
_OPERATORS = ("MTS", "Beeline", "MegaFon", "T2")
Member = tuple[Facts, UUID, str]
"""Facts, the message's id, the operator."""


def carriers() -> list[Carrier]:
    """Four providers of SMS."""

    def prices(provider: int, base: str) -> tuple[Price, ...]:
        start = Decimal(base)
        dear = [Price(provider, start + Decimal(n) / 10, "RUB", operator=name) for n, name in enumerate(_OPERATORS)]
        near = [Price(provider, start / 2, "RUB", prefix=f"+7{code}") for code in (900, 916, 985)]
        return (Price(provider, start * 3, "RUB"), *dear, *near)

    return [
        Carrier(1, "direct", routes=(Route(1, operators=("MTS",)), Route(1, tier=2)), prices=prices(1, "2.10")),
        Carrier(
            2, "bulk", routes=(Route(2, purposes=("marketing",), hours=("08:00", "22:00")),), prices=prices(2, "1.9")
        ),
        Carrier(3, "east", routes=(Route(3, prefixes=("+7914", "+7924")),), prices=prices(3, "1.5")),
        Carrier(4, "spare", routes=(Route(4, tier=3, weight=2),), prices=prices(4, "3")),
    ]


def members(count: int) -> list[Member]:
    """Contacts with their facts; one in twenty may not be written to."""
    chance = random.Random(6)
    return [
        (
            Facts(
                "sms", "marketing", True, f"+79{chance.randrange(10**9):09}", chance.random() > 0.05,
                "bounced" if chance.random() < 0.01 else None, chance.choice(_ZONES), False, chance.randrange(4),
            ),
            UUID(int=chance.getrandbits(128), version=4),
            chance.choice(_OPERATORS),
        )
        for _ in range(count)
    ]  # fmt: skip


def decisions(batch: list[Member], among: list[Carrier], at: datetime) -> Iterator[str]:
    """What becomes of each: its provider, or why not."""
    for facts, number, operator in batch:
        decision = decide(facts, at, RULES)
        if not isinstance(decision, Send) or facts.address is None:
            yield str(decision)
            continue
        target = Target(number, facts.address, facts.purpose, "RU", operator, facts.time_zone)
        ranked = rank(target, among, at)
        yield ranked[0].name if ranked else "no_route"


def pure(count: int) -> float:
    """Decisions a second over facts that are there."""
    known, among, came = members(count), carriers(), Counter[str]()
    started = time.perf_counter()
    for start in range(0, count, BATCH):
        came.update(decisions(known[start : start + BATCH], among, NOON))
    took = time.perf_counter() - started
    console.log(f"{dict(came.most_common(6))}")
    return count / took


async def with_database(count: int) -> float:
    """Messages a second through `channels.prepare`."""
    with TemporaryDirectory(prefix="kaskad-policy-") as folder:
        settings = Settings(data=Path(folder))
        async with scratch_server({}) as server:
            database = Database(server.url)
            await migrate(database, settings)
            requests = await prepared(database, settings, "blackhole://", count)
            async with database.begin() as connection:
                version = await connection.scalar(text("select max(id) from journey_version"))
            started = time.perf_counter()
            for request in requests:
                asked = PrepareRequest(
                    version_id=int(version or 0), step=1, channel="email", template="letter", purpose="marketing",
                    priority="triggered", at=now(), items=[type(one)(one.enrollment_id, 2) for one in request.items],
                    rules=Rules(cap=3),
                )  # fmt: skip
                async with database.begin() as connection:
                    verdicts = await prepare(connection, settings, asked)
                assert {verdict.action for verdict in verdicts} == {"deliver"}, verdicts[0]
            took = time.perf_counter() - started
            await database.close()
    return count / took


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=200_000, help="decisions (default 200,000)")
    parser.add_argument("--prepared", type=int, default=10_000, help="messages with the database (default 10,000)")
    given = parser.parse_args()
    per_second = pure(given.messages)
    console.log(f"{per_second:,.0f} decisions a second")
    report("policy", {"decisions_per_s": per_second, "prepared_per_s": asyncio.run(with_database(given.prepared))})


if __name__ == "__main__":
    main()
