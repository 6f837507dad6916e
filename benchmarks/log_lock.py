"""What the lock of the event log costs: `python -m benchmarks.log_lock`.

Processes append to one log at once, all under the log's lock, or (for comparison only: the log's order is then lost)
each under a lock of its own, which costs the same and keeps nobody waiting. The two take turns, so that both get the
same share of a machine that does other things too. PostgreSQL has its ordinary, durable settings.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time

from core import eventlog
from core.clock import now
from core.database import Database
from core.migrate import migrate
from core.schema import partitions
from core.settings import Settings
from studio.stack.scratch import scratch_server

SIZES = (50, 500, 2000)
_PROPERTIES = b'{"path":"/catalog/17","title":"Export services for small businesses","value":12.5}'


async def write(url: str, seconds: float, size: int, lock: int | None) -> int:
    """Append for so long, `size` events a transaction; how many it were. `lock` stands for the log's own."""
    if lock is not None:
        setattr(eventlog, "_LOG_LOCK", lock)  # noqa: B010 - nobody else may have this choice
    events = [eventlog.NewEvent(number, 1, now(), _PROPERTIES) for number in range(size)]
    database, written, end = Database(url, pool=1), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        async with database.direct() as connection, connection.pipeline():
            await connection.execute("begin")
            await eventlog.append(connection, events)
            await connection.execute("commit")
        written += size
    await database.close()
    return written


async def rate(url: str, arguments: argparse.Namespace, size: int, *, shared: bool) -> float:
    """Events a second of all writers together."""
    writers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.log_lock", "--url", url, "--size", str(size)),
            *("--seconds", str(arguments.seconds), *([] if shared else ["--lock", str(number)])),
            stdout=asyncio.subprocess.PIPE,
        )
        for number in range(arguments.writers)
    ]
    counts = [int((await writer.communicate())[0]) for writer in writers]
    return sum(counts) / float(arguments.seconds)


async def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """The medians for each size, with the log's lock and without."""
    figures: dict[str, float] = {}
    async with scratch_server({}) as server:
        database = Database(server.url, pool=1)
        await migrate(database, Settings(database=server.url))
        async with database.begin() as connection:
            await partitions.ensure(connection, "event", now(), now())
        await database.close()
        for size in SIZES:
            rates: dict[bool, list[float]] = {True: [], False: []}
            for turn in range(2 * arguments.rounds):
                shared = turn % 4 in (0, 3)  # there and back, so that a growing table harms both alike
                rates[shared].append(await rate(server.url, arguments, size, shared=shared))
            for shared, name in ((True, "with"), (False, "without")):
                ordered = sorted(rates[shared])
                print(f"{size} events, {name}: {ordered[0]:,.0f} to {ordered[-1]:,.0f} a second", file=sys.stderr)
                figures[f"events_per_s_{size}_{name}"] = round(statistics.median(ordered))
    return figures


def main() -> None:
    """Parse the arguments, measure, print the figures as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, default=3, help="processes that append at once")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each kind")
    parser.add_argument("--seconds", type=float, default=2, help="how long a turn takes")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--lock", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.url:
        sys.stdout.write(str(asyncio.run(write(arguments.url, arguments.seconds, arguments.size, arguments.lock))))
    else:
        print(json.dumps({"benchmark": "log_lock", "figures": asyncio.run(measure(arguments))}))


if __name__ == "__main__":
    main()
