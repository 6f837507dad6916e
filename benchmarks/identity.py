"""How long it takes to merge contacts, and how fast past events are imported.

`python -m benchmarks.identity [--rows N] [--events N]` starts an embedded PostgreSQL of its own with the settings of
production, fills 25 monthly partitions, identifies visitors, merges one with very many events, undoes that, settles,
and imports a file of JSON lines and one in CSV by the same function as the command line.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from benchmarks.harness import report
from contacts import identify, merging, resolve
from core.database import Database
from core.migrate import migrate
from core.schema import partitions
from core.settings import Settings
from studio.stack.scratch import scratch_server
from tracker.importing import import_events

VISITORS = 2000
EVENTS_EACH = 100
IDENTIFIED = 200

_FILL = text(
    "insert into event (occurred_at, contact_id, name_id, properties) "
    "select now() - (n % 700) * interval '1 day', "
    "(cast(:ids as bigint[]))[1 + n % cardinality(cast(:ids as bigint[]))], "
    '1, \'{"path": "/a", "title": "a page"}\' from generate_series(1, :count) n'
)


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def _fill(database: Database, events: int) -> tuple[int, int]:
    """Visitors with events all over two years, one of them with very many; gives that one, and a known contact."""
    now = datetime.now(UTC)
    async with database.begin() as connection:
        await partitions.ensure(connection, "event", now - timedelta(days=700), now)
        await connection.execute(text("insert into event_name (name) values ('page.viewed')"))
        visitors = await resolve(connection, [("anonymous_id", f"d{n}") for n in range(VISITORS)])
    async with database.begin() as connection:
        known = await resolve(connection, [("email", f"k{n}@x.com") for n in range(VISITORS)])
        await connection.execute(_FILL, {"ids": visitors[1:], "count": VISITORS * EVENTS_EACH})
        await connection.execute(_FILL, {"ids": visitors[:1], "count": events})
    async with database.begin() as connection:
        await connection.execute(text("analyze"))
    return visitors[0], known[0]


async def _merges(database: Database, events: int) -> dict[str, float]:
    many, known = await _fill(database, events)
    numbers: list[int] = []

    async def merge() -> None:
        async with database.begin() as connection:
            numbers.append(await merging.merge(connection, many, known, source="benchmark"))

    async def undo() -> None:
        async with database.begin() as connection:
            await merging.unmerge(connection, numbers[0])

    async def say(number: int) -> None:
        async with database.begin() as connection:
            await identify(connection, f"d{number}", {"email": f"k{number}@x.com"})

    async def settle() -> None:
        left = 1
        while left:
            async with database.begin() as connection:
                left = await merging.settle(connection)

    figures = {"merge_many_s": await _timed(merge), "undo_many_s": await _timed(undo)}
    times = [await _timed(lambda n=n: say(n)) for n in range(1, IDENTIFIED + 1)]  # type: ignore[misc]
    figures |= {"identify_p50_ms": 1000 * statistics.median(times), "identify_p95_ms": 1000 * sorted(times)[-10]}
    again = [await _timed(lambda n=n: say(n)) for n in range(1, IDENTIFIED + 1)]  # type: ignore[misc]
    return figures | {"identify_again_p50_ms": 1000 * statistics.median(again), "settle_s": await _timed(settle)}


def _write(folder: Path, rows: int) -> tuple[Path, Path]:
    """The same events twice: JSON lines with ids, and a table without."""
    begun = datetime.now(UTC) - timedelta(days=600)
    lines, table = folder / "past.jsonl", folder / "past.csv"
    with lines.open("w") as one, table.open("w") as other:
        other.write("event,external_id,at,value,order,shop\n")
        for n in range(rows):
            at = (begun + timedelta(seconds=n * 40_000_000 // rows)).isoformat()
            properties = {"value": n % 100, "order": f"o-{n}", "shop": "main"}
            said = {"id": f"e{n}", "event": "order.paid", "contact": {"external_id": f"u{n % (rows // 5)}"}, "at": at}
            one.write(json.dumps(said | {"properties": properties}) + "\n")
            other.write(f"order.paid,u{n % (rows // 5)},{at},{n % 100},o-{n},main\n")
    return lines, table


async def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="rows of each file")
    parser.add_argument("--events", type=int, default=100_000, help="events of the contact who has very many")
    given = parser.parse_args()
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="kaskad-identity-"))
    try:
        async with scratch_server({}) as server:
            database = Database(server.url, pool=4)
            settings = Settings(data=folder)
            await migrate(database, settings)
            figures = await _merges(database, given.events)
            for name, path in zip(("jsonl", "csv"), await asyncio.to_thread(_write, folder, given.rows), strict=True):
                done = await import_events(database, path, settings=settings)
                assert done.accepted == given.rows, done
                figures[f"{name}_rows_per_s"] = done.rows / done.seconds
            await database.close()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)
    report("identity", figures)


if __name__ == "__main__":
    asyncio.run(main())
