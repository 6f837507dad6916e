"""How fast segments are counted, listed and kept up to date: `python -m benchmarks.segments`.

Builds 1.9 million contacts and 20 million events by COPY, in an embedded PostgreSQL with the settings it has in
production. Then, for each of twelve reference segments: how many are in it, everybody who is in it, and the same
counts from DuckDB over the same rows with typed columns. Last, all twelve are tracked, events come at a steady rate,
and the time runs from the commit of an event to the commit that moved its contact in or out.

`--data FOLDER` keeps the rows there and uses them again; the numbers of rows only count when it is filled.
"""

import argparse
import asyncio
import os
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import duckdb
import msgspec
from sqlalchemy import text

from benchmarks import segments_data
from benchmarks.harness import console, report
from benchmarks.segments_asked import ASKED
from core import eventlog
from core.clock import now
from core.database import Database
from core.migrate import migrate
from core.settings import Settings
from engine.comings import Tracker
from engine.versions import Versions
from segments import membership, store, tracking
from segments.criteria import parse
from studio.stack.postgres import EmbeddedPostgres
from studio.stack.process import Account, free_port

WATCHED = "watched"
_BATCH_SECONDS = 0.1


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """PostgreSQL over a folder, with its ordinary, durable settings."""
    account = Account.named("nobody") if os.geteuid() == 0 else None
    running = EmbeddedPostgres(folder, free_port(), folder / "postgres.log", account=account)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


async def fill(database: Database, folder: Path, contacts: int, events: int) -> Path:
    """Make the rows, unless the folder has them; gives DuckDB's file."""
    rows = folder / "rows.duckdb"
    await migrate(database, Settings(database=database.url))
    if not (folder / "whole").exists():
        rows.unlink(missing_ok=True)
        begun = time.monotonic()
        segments_data.make(rows, contacts, events, now())
        segments_data.copy(rows, database.url, folder)
        (folder / "whole").touch()
        console.log(f"{contacts:,} contacts and {events:,} events in {time.monotonic() - begun:.0f} s")
    with duckdb.connect(str(rows), read_only=True) as store_:
        last = store_.execute("select max(id) from event").fetchone()
    async with database.begin() as connection:  # what an earlier run added
        await connection.execute(text("delete from segment"))
        await connection.execute(text("delete from event where id > :last"), {"last": last[0] if last else 0})
    return rows


# --- counts and memberships


async def ask(database: Database, store_: duckdb.DuckDBPyConnection, at: datetime, repeats: int) -> dict[str, float]:
    """Count and list each segment; the best of so many times. The counts of both databases have to agree."""
    worst = {"worst_count_s": 0.0, "worst_membership_s": 0.0, "worst_ratio_to_duckdb": 0.0}
    console.log(f"{'segment':20} {'contacts':>10} {'count':>8} {'members':>8} {'DuckDB':>8} {'ratio':>6}")
    for asked in ASKED:
        criteria = parse(asked.criteria)
        counts, lists, theirs = [], [], []
        for _ in range(repeats):
            begun = time.perf_counter()
            async with database.begin() as connection:
                number = await membership.count(connection, criteria, at)
            counts.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            async with database.begin() as connection:
                listed = sum([len(block) async for block in membership.everyone(connection, criteria, at)])
            lists.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            known = duck_count(store_, asked.condition, at)
            theirs.append(time.perf_counter() - begun)
            if not number == listed == known:
                raise SystemExit(f"{asked.name}: counted {number}, listed {listed}, DuckDB says {known}")
        ratio = min(counts) / min(theirs)
        console.log(
            f"{asked.name:20} {number:10,} {min(counts):7.2f}s {min(lists):7.2f}s {min(theirs):7.2f}s {ratio:6.1f}"
        )
        worst["worst_count_s"] = max(worst["worst_count_s"], min(counts))
        worst["worst_membership_s"] = max(worst["worst_membership_s"], min(lists))
        worst["worst_ratio_to_duckdb"] = max(worst["worst_ratio_to_duckdb"], ratio)
    return worst


def duck_count(connection: duckdb.DuckDBPyConnection, condition: str, at: datetime) -> int:
    """The same count over typed columns."""
    values = {"at": at.replace(tzinfo=None)} if "$at" in condition else None
    row = connection.execute(f"select count(*) from contact c where {condition}", values).fetchone()
    assert row is not None
    return int(row[0])


# --- from an event to its membership


async def track_all(database: Database, tracker: Tracker, moved: str) -> None:
    """Publish the twelve and one more that events move contacts into, and wait until everybody has been looked at."""
    begun = time.monotonic()
    async with database.begin() as connection:
        for asked in ASKED:
            source = msgspec.json.encode({"segment": asked.name, "criteria": asked.criteria})
            await store.publish(connection, source)
        await store.publish(connection, f"segment: {WATCHED}\ncriteria: {{event: {moved}}}\n")
        await connection.execute(text("update segment set kept_until = now() + interval '1 day'"))
        await tracking.listen(connection, None)
    for _ in range(1_000_000):
        if not await tracker.track() and not await tracker.sweep():
            break
    async with database.begin() as connection:
        kept = (await connection.execute(text("select sum(members) from segment"))).scalar_one()
        waiting = (await connection.execute(text("select count(*) from segment where tracking <> 'on'"))).scalar_one()
    if waiting:
        raise SystemExit(f"{waiting} segments are not kept yet")
    console.log(f"{kept:,} memberships of {len(ASKED) + 1} segments are kept after {time.monotonic() - begun:.0f} s")


async def follow(database: Database, rate: int, seconds: int, contacts: int) -> list[float]:
    """Write events at a steady rate while a tracker follows; the sorted delays, in milliseconds."""
    tracker = Tracker(database, Versions())
    moved = f"benchmark.moved_{int(time.time())}"  # nobody has done it before, also where the rows were used before
    await track_all(database, tracker, moved)
    stop = asyncio.Event()

    async def track() -> None:
        while not stop.is_set():
            if not await tracker.track():
                await asyncio.sleep(0.1)

    async def sweep() -> None:
        while not stop.is_set():
            if not await tracker.sweep():
                await asyncio.sleep(1)

    seen: dict[int, datetime] = {}
    duties = [asyncio.create_task(track()), asyncio.create_task(sweep())]
    duties.append(asyncio.create_task(watch(database, seen, stop)))
    try:
        committed = await write(database, rate, seconds, contacts, moved)
        delays = await arrived(seen, committed)
    finally:
        stop.set()
        await asyncio.gather(*duties)
    return sorted(delays)


async def write(database: Database, rate: int, seconds: int, contacts: int, move: str) -> dict[int, datetime]:
    """Write events of all names, one in five of which moves its contact into the watched segment; gives when each of
    those was committed."""
    names = [*segments_data.NAMES, move]
    async with database.begin() as connection:
        numbers = await eventlog.name_ids(connection, names)
        moved = numbers[move]
    fresh = random.Random(1).sample(range(1, contacts + 1), min(contacts, rate * seconds))
    committed: dict[int, datetime] = {}
    begun = time.perf_counter()
    for batch in range(int(seconds / _BATCH_SECONDS)):
        await asyncio.sleep(max(0.0, begun + batch * _BATCH_SECONDS - time.perf_counter()))
        size = int(rate * _BATCH_SECONDS)
        ids = fresh[batch * size : (batch + 1) * size]
        events = [
            eventlog.NewEvent(one, moved if place % 5 == 0 else numbers[random.choice(names[:-1])], now(), value=1.0)
            for place, one in enumerate(ids)
        ]
        async with database.begin() as connection:
            await eventlog.append(connection, events)
        at = now()
        committed |= {event.contact_id: at for event in events if event.name_id == moved}
    return committed


async def watch(database: Database, seen: dict[int, datetime], stop: asyncio.Event) -> None:
    """Note when each entry into the watched segment can first be read by others, to 20 ms."""
    async with database.begin() as connection:
        last = (await connection.execute(text("select coalesce(max(id), 0) from event"))).scalar_one()
    while not stop.is_set():
        async with database.begin() as connection:
            rows = (
                await connection.execute(
                    text(
                        "select e.id, e.contact_id, n.name = 'segment.entered' "
                        "and e.properties ->> 'segment' = :name as moved "
                        "from event e join event_name n on n.id = e.name_id where e.id > :last order by e.id"
                    ),
                    {"name": WATCHED, "last": last},
                )
            ).all()
        at = now()
        seen |= {row.contact_id: at for row in rows if row.moved}
        last = rows[-1].id if rows else last
        await asyncio.sleep(0.02)


async def arrived(seen: dict[int, datetime], committed: dict[int, datetime]) -> list[float]:
    """Wait until all who were moved are in; how long each took."""
    deadline = time.monotonic() + 120
    while not committed.keys() <= seen.keys():
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(committed.keys() - seen.keys())} contacts were not moved")
        await asyncio.sleep(0.1)
    return [1000 * (seen[one] - at).total_seconds() for one, at in committed.items()]


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """All figures."""
    async with server(folder) as running:
        database = Database(running.url, pool=6)
        try:
            rows = await fill(database, folder, options.contacts, options.events)
            at = segments_data.moment(rows)
            with duckdb.connect(str(rows), read_only=True) as store_:
                figures = await ask(database, store_, at, options.repeats) if options.repeats else {}
                contacts = duck_count(store_, "true", at)
            delays = await follow(database, options.rate, options.seconds, contacts)
        finally:
            await database.close()
    figures["member_delay_p50_ms"] = statistics.median(delays)
    figures["member_delay_p99_ms"] = statistics.quantiles(delays, n=100)[98]
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def main() -> None:
    """Parse the arguments, measure, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=1_900_000)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--data", type=Path, help="keep the rows here and use them again")
    parser.add_argument(
        "--repeats", type=int, default=3, help="how often each question is asked; the best counts; 0 leaves them out"
    )
    parser.add_argument("--rate", type=int, default=500, help="events a second while memberships are kept")
    parser.add_argument("--seconds", type=int, default=30, help="how long events come")
    options = parser.parse_args()
    folder = options.data or Path(tempfile.mkdtemp(prefix="kaskad-segments-"))
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        folder.chmod(0o755)
    try:
        report("segments", asyncio.run(measure(options, folder)))
    finally:
        if options.data is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
