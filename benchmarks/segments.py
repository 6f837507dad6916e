"""How fast segments are counted, listed and kept up to date: `python -m benchmarks.segments`.

Builds 1.9 million contacts and 20 million events by COPY, in an embedded PostgreSQL with the settings it has in
production. Then, for each of twelve reference segments: how many are in it, everybody who is in it, and the same
counts from DuckDB over the same rows with typed columns; the median of so many times. Last, all twelve are tracked and
three more that events move contacts into, out of, and into by a sum; events come at a steady rate, and the time runs
from the commit of an event to the commit that moved its contact. Memory is that of this process, with DuckDB in it, and
that of PostgreSQL's processes.

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
from typing import Any

import duckdb
import msgspec
from sqlalchemy import text

from benchmarks import segments_data
from benchmarks.harness import console, memory_mb, report
from benchmarks.segments_asked import ASKED
from core import eventlog
from core.clock import now
from core.database import Database
from core.migrate import migrate
from core.settings import Settings
from engine.comings import Tracker
from engine.versions import Versions
from segments import members, membership, store, tracking
from segments.criteria import parse
from studio.stack.postgres import EmbeddedPostgres
from studio.stack.process import Account, free_port

_IN, _OUT, _SUM = "watched-in", "watched-out", "watched-sum"
_BATCH_SECONDS = 0.1

Move = tuple[int, str]
"""A contact, and the segment that it comes into or leaves."""


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


def postmaster(folder: Path) -> int:
    """The number of the server's first process."""
    (file,) = folder.rglob("postmaster.pid")
    return int(file.read_text().split()[0])


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
    """Count and list each segment; the median of so many times. The counts of both databases have to agree."""
    async with database.begin() as connection:
        for asked in ASKED:
            await store.publish(connection, msgspec.json.encode({"segment": asked.name, "criteria": asked.criteria}))
    worst = {"worst_count_s": 0.0, "worst_membership_s": 0.0, "worst_ratio_to_duckdb": 0.0}
    console.log(f"{'segment':20} {'contacts':>10} {'count':>8} {'members':>8} {'DuckDB':>8} {'ratio':>6}")
    for asked in ASKED:
        criteria = parse(asked.criteria)
        counts, lists, theirs = [], [], []
        for _ in range(repeats):
            begun = time.perf_counter()
            async with database.begin() as connection:
                number = await members.count(connection, asked.name, now=at)
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
        counted, took, theirs_took = (statistics.median(one) for one in (counts, lists, theirs))
        ratio = counted / theirs_took
        console.log(f"{asked.name:20} {number:10,} {counted:7.2f}s {took:7.2f}s {theirs_took:7.2f}s {ratio:6.1f}")
        worst["worst_count_s"] = max(worst["worst_count_s"], counted)
        worst["worst_membership_s"] = max(worst["worst_membership_s"], took)
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
    """Publish the twelve, and three that events move contacts into and out of; wait until all have been looked at."""
    begun = time.monotonic()
    figure = {"name": moved, "sum": {"event.value": {"gte": 1}}, "within": "1d"}
    watched: dict[str, dict[str, Any]] = {
        _IN: {"event": moved},
        _OUT: {"random": 30, "not": {"event": moved}},
        _SUM: {"event": figure},
    }
    async with database.begin() as connection:
        for name, criteria in ({asked.name: asked.criteria for asked in ASKED} | watched).items():
            await store.publish(connection, msgspec.json.encode({"segment": name, "criteria": criteria}))
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
    console.log(
        f"{kept:,} memberships of {len(ASKED) + len(watched)} segments are kept after {time.monotonic() - begun:.0f} s"
    )


async def follow(database: Database, rate: int, seconds: int, contacts: int) -> dict[str, list[float]]:
    """Write events at a steady rate while a tracker follows; the delays of each watched segment, in milliseconds."""
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

    leaving = await members_of(database, _OUT)
    seen: dict[Move, datetime] = {}
    duties = [asyncio.create_task(track()), asyncio.create_task(sweep())]
    duties.append(asyncio.create_task(watch(database, seen, stop)))
    try:
        committed = await write(database, rate, seconds, contacts, moved)
        expected = {(one, name): at for one, at in committed.items() for name in (_IN, _SUM)}
        expected |= {(one, _OUT): at for one, at in committed.items() if one in leaving}
        delays = await arrived(seen, expected)
    finally:
        stop.set()
        await asyncio.gather(*duties)
    return delays


async def members_of(database: Database, name: str) -> set[int]:
    """Who is in a kept segment."""
    async with database.begin() as connection:
        rows = await connection.execute(
            text(
                "select contact_id from segment_presence p join segment s on s.id = p.segment_id where s.name = :name"
            ),
            {"name": name},
        )
        return set(rows.scalars())


async def write(database: Database, rate: int, seconds: int, contacts: int, move: str) -> dict[int, datetime]:
    """Write events of all names, one in five of which moves its contact in and out of the watched segments; gives when
    each of those was committed."""
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


async def watch(database: Database, seen: dict[Move, datetime], stop: asyncio.Event) -> None:
    """Note when each coming or going of the watched segments can first be read by others, to 20 ms."""
    async with database.begin() as connection:
        last = (await connection.execute(text("select coalesce(max(id), 0) from event"))).scalar_one()
    while not stop.is_set():
        async with database.begin() as connection:
            rows = (
                await connection.execute(
                    text(
                        "select e.id, e.contact_id, e.properties ->> 'segment' as segment, "
                        "n.name in ('segment.entered', 'segment.left') as moved "
                        "from event e join event_name n on n.id = e.name_id where e.id > :last order by e.id"
                    ),
                    {"last": last},
                )
            ).all()
        at = now()
        seen |= {(row.contact_id, row.segment): at for row in rows if row.moved}
        last = rows[-1].id if rows else last
        await asyncio.sleep(0.02)


async def arrived(seen: dict[Move, datetime], expected: dict[Move, datetime]) -> dict[str, list[float]]:
    """Wait until all have moved who should; how long each took, by segment."""
    deadline = time.monotonic() + 120
    while not expected.keys() <= seen.keys():
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(expected.keys() - seen.keys())} contacts were not moved")
        await asyncio.sleep(0.1)
    delays: dict[str, list[float]] = {}
    for move, at in expected.items():
        delays.setdefault(move[1], []).append(1000 * (seen[move] - at).total_seconds())
    return delays


async def weigh(root: int, peaks: list[float]) -> None:
    """Note what a server's processes take, each second."""
    while True:
        peaks.append(await asyncio.to_thread(memory_mb, root))
        await asyncio.sleep(1)


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """All figures."""
    async with server(folder) as running:
        database = Database(running.url, pool=6)
        server_mb = [0.0]
        scale = asyncio.create_task(weigh(postmaster(folder), server_mb))
        try:
            rows = await fill(database, folder, options.contacts, options.events)
            at = segments_data.moment(rows)
            with duckdb.connect(str(rows), read_only=True) as store_:
                figures = await ask(database, store_, at, options.repeats) if options.repeats else {}
                contacts = duck_count(store_, "true", at)
            delays = await follow(database, options.rate, options.seconds, contacts)
        finally:
            scale.cancel()
            await database.close()
    figures["member_delay_p50_ms"] = max(statistics.median(one) for one in delays.values())
    for name, key in ((_IN, "enter"), (_OUT, "leave"), (_SUM, "sum")):
        figures[f"{key}_delay_p99_ms"] = statistics.quantiles(delays[name], n=100)[98]
    figures["member_delay_p99_ms"] = max(statistics.quantiles(one, n=100)[98] for one in delays.values())
    figures["server_peak_mb"] = max(server_mb)
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def main() -> None:
    """Parse the arguments, measure, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=1_900_000)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--data", type=Path, help="keep the rows here and use them again")
    parser.add_argument(
        "--repeats", type=int, default=3, help="how often each question is asked; the median counts; 0 leaves them out"
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
