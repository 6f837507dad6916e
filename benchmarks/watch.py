"""How a wait for criteria bears a stream of events: `python -m benchmarks.watch`.

Contacts wait until criteria hold, which are looked at again upon any event of theirs. The whole embedded stack; events
of random contacts are appended at a steady rate, and now and then one contact is changed so that its criteria hold,
with an event of its own. What counts is how long such a contact takes to leave the wait (the language promises to look
within five seconds), how far the router falls behind, and what an event costs.
"""

import argparse
import asyncio
import random
import statistics
import time

from sqlalchemy import text

from benchmarks.harness import console, cpu_seconds, report, scratch_stack
from benchmarks.journey import count
from core import eventlog
from core.clock import now
from core.database import Database
from engine import broadcasts
from journeys import store
from studio.stack.supervisor import Stack

JOURNEY = """
journey: watch
name: Watch
enter: {segment: all}
steps:
  - id: wait
    wait: 1d
    until: {when: {contact.tags: ready}}
    then: done
  - end: silent
  - id: done
    end: ready
"""
_TICK = 0.05
_LATE = """
select extract(epoch from s.arrived_at - e.received_at) * 1000 from event e
join event_name n on n.id = e.name_id and n.name = 'became.ready'
join enrollment r on r.contact_id = e.contact_id
join step_visit s on s.enrollment_id = r.id and s.via = 'criteria'
"""


async def fill(database: Database, contacts: int) -> None:
    """Contacts, all of them waiting."""
    async with database.begin() as connection:
        await connection.execute(text("insert into contact (id) select generate_series(1, :n)"), {"n": contacts})
        await store.publish(connection, JOURNEY, "watch.yaml", "benchmark")
        await broadcasts.start(connection, "watch", occasion="benchmark")
    waiting = "select count(*) from enrollment where due_at is not null"
    while (number := await count(database, waiting)) < contacts:
        console.log(f"{number:,} of {contacts:,} wait")
        await asyncio.sleep(0.5)


async def drive(database: Database, contacts: int, rate: int, seconds: int) -> int:
    """Append events at a steady rate, two a second of contacts that are ready then; gives the greatest lag of the
    router, in events."""
    dice = random.Random(1)
    ready = iter(dice.sample(range(1, contacts + 1), 2 * seconds))
    async with database.begin() as connection:
        names = await eventlog.name_ids(connection, ["seen", "became.ready"])
    lag, sent, changed, begun = 0, 0, 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds:
        async with database.begin() as connection:
            events = [
                eventlog.NewEvent(dice.randint(1, contacts), names["seen"], now())
                for _ in range(int(passed * rate) - sent)
            ]
            sent += len(events)
            if passed * 2 > changed:
                changed += 1
                contact = next(ready)
                await connection.execute(
                    text("update contact set tags = array['ready'] where id = :id"), {"id": contact}
                )
                events.append(eventlog.NewEvent(contact, names["became.ready"], now()))
            await eventlog.append(connection, events)
        behind = "select (select max(id) from event) - position from log_cursor where reader = 'router'"
        lag = max(lag, await count(database, behind))
        await asyncio.sleep(_TICK)
    return lag


async def watch(contacts: int, rate: int, seconds: int) -> dict[str, float]:
    """Run once and give the figures."""
    async with scratch_stack() as (stack, database):
        await fill(database, contacts)
        before = cpu_seconds(stack)
        lag = await drive(database, contacts, rate, seconds)
        changed = await count(database, "select count(*) from contact where tags = array['ready']")
        begun = time.perf_counter()
        while (number := await count(database, "select count(*) from enrollment where outcome = 'ready'")) < changed:
            console.log(f"{number:,} of {changed:,} have gone on")
            if time.perf_counter() - begun > 120:
                raise SystemExit(f"{changed - number} contacts were not looked at")
            await asyncio.sleep(0.5)
        costs = _costs(stack, before, rate * seconds)
        async with database.begin() as connection:
            late = sorted((await connection.execute(text(_LATE))).scalars())
    return {
        "p50_ms": statistics.median(late),
        "max_ms": max(late),
        "router_lag_events": lag,
        "cpu_us_per_event": sum(costs.values()),
    }


def _costs(stack: Stack, before: dict[str, float], events: int) -> dict[str, float]:
    costs = {name: (used - before[name]) / events * 1e6 for name, used in cpu_seconds(stack).items()}
    for name, cost in costs.items():
        console.log(f"{name}: {cost:,.0f} µs of CPU an event")
    return costs


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=20_000)
    parser.add_argument("--rate", type=int, default=500, help="events a second")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    figures = asyncio.run(watch(options.contacts, options.rate, options.seconds))
    report("watch", {name: float(value) for name, value in figures.items()})


if __name__ == "__main__":
    main()
