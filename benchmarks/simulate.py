"""How long it takes to simulate the reference journey for 100,000 contacts over 30 days.

`python -m benchmarks.simulate [--contacts N] [--profile]` fills an embedded PostgreSQL of its own with contacts, their
addresses and consents, and simulates `examples/portal/journeys/unfinished-application.yaml`: gathering the facts, the
machine, policy, answers and figures, everything but the rendering of letters.
"""

import argparse
import asyncio
import cProfile
import pstats
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

import contacts
from benchmarks.harness import console, report
from core.database import Database
from core.migrate import migrate
from core.settings import Settings
from engine import simulating
from examples import PORTAL
from studio.stack.scratch import scratch_server

_JOURNEY = PORTAL / "journeys" / "unfinished-application.yaml"
_RESPONSES = "opened=0.4@2h,clicked=0.08@3h,application.status_changed=0.2@3h,application.submitted=0.1@1d"
_START = datetime(2026, 11, 2, 9, tzinfo=UTC)
_FILL = """
with made as (
    insert into contact (time_zone, attributes)
    select (array['Europe/Moscow', 'Asia/Omsk', 'Asia/Yekaterinburg'])[1 + n % 3], jsonb_build_object('age', n % 80)
    from generate_series(1, :contacts) n returning id
), known as (
    insert into identity (kind, value, contact_id) select 'email', 'c' || id || '@example.com', id from made
)
insert into consent (contact_id, channel, purpose, granted)
select id, 'email', 'marketing', id % 10 > 0 from made where id % 20 > 0
"""


async def measure(database: Database, profile: bool) -> tuple[float, simulating.Simulated]:
    """The seconds, and what came out."""
    async with database.begin() as connection:
        source = await asyncio.to_thread(_JOURNEY.read_bytes)
        plan, _ = await simulating.plan_of(connection, str(_JOURNEY), source)
    wanted = simulating.Wanted(
        plan, segment="all", days=30, responses=_RESPONSES, prices={"email": 0.0004}, start=_START
    )
    started = time.monotonic()
    ready = await simulating.prepare(database, wanted)
    console.log(f"facts gathered in {time.monotonic() - started:.1f} s")
    with cProfile.Profile() if profile else _Nothing() as watch:
        done = ready.run()
    seconds = time.monotonic() - started
    if isinstance(watch, cProfile.Profile):
        pstats.Stats(watch).sort_stats("tottime").print_stats(25)
    return seconds, done


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


async def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=100_000)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    async with scratch_server({}) as server:
        database = Database(server.url, pool=2)
        await migrate(database, Settings(data=Path(server.data)))
        async with database.begin() as connection:
            await contacts.attributes.register(connection, {"age": "number"})
            await connection.execute(text(_FILL), {"contacts": given.contacts})
        async with database.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("analyze"))
        seconds, done = await measure(database, given.profile)
        await database.close()
    assert done.result.entered == given.contacts
    sent = sum(done.result.sent().values())
    console.log(f"{sent:,} messages, {sum(one.visits for one in done.result.ways):,} visits")
    figures = {"seconds": seconds, "contacts": given.contacts, "messages": sent}
    report("simulate", figures)


if __name__ == "__main__":
    asyncio.run(main())
