"""Whether a provider's limit holds over several workers: `python -m benchmarks.limits`.

Two worker processes hand messages from one real ledger to one provider that is limited to 50 a second; an SMTP server
in this process notes when each message comes. `limit_error_percent` is how far the mean rate between the first and the
last message is from the limit, `limit_burst_percent` by how much the fullest second (of all that begin with a message)
is above it.
"""

import argparse
import asyncio
import sys
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.email import prepared
from benchmarks.harness import console, report
from channels import DeliverRequest, Delivery, NotNow
from channels.email.mailbox.receiver import Received, receiving
from core.database import Database
from core.migrate import migrate
from core.settings import Settings
from studio.stack.process import free_port
from studio.stack.scratch import scratch_server

WORKERS = 2
WIDTH = 4
"""Batches that a worker has in hand at a time."""


async def work(url: str, data: Path, requests: Sequence[DeliverRequest]) -> None:
    """One worker process."""
    settings = Settings(data=data)
    database = Database(url, pool=10)
    delivery = Delivery(database, settings)
    waiting = list(requests)

    async def one() -> None:
        while waiting:
            request = waiting.pop()
            while True:
                try:
                    await delivery.deliver(request, lambda: None)
                    break
                except NotNow as wait:
                    await asyncio.sleep(min(wait.retry_after.total_seconds(), 1))

    await asyncio.gather(*(one() for _ in range(WIDTH)))
    await delivery.close()
    await database.close()


def figures(times: Sequence[float], limit: float) -> dict[str, float]:
    """The error of the mean and the fullest second, in percent of the limit."""
    ordered = sorted(times)
    mean = (len(ordered) - 1) / (ordered[-1] - ordered[0])
    fullest = max(bisect_left(ordered, begin + 1) - place for place, begin in enumerate(ordered))
    return {
        "limit_error_percent": abs(mean / limit - 1) * 100,
        "limit_burst_percent": max(0.0, fullest / limit - 1) * 100,
        "messages_per_s": mean,
        "messages": len(ordered),
    }


async def measure(limit: float, seconds: float) -> dict[str, float]:
    """Let the workers send for so many seconds."""
    times: list[float] = []

    async def keep(_letter: Received) -> str:
        times.append(time.monotonic())
        return "taken"

    port = free_port()
    with TemporaryDirectory(prefix="kaskad-limits-") as folder:
        data = Path(folder)
        settings = Settings(data=data)
        async with scratch_server({}) as server, receiving(keep, port=port):
            database = Database(server.url, pool=4)
            await migrate(database, settings)
            _ = settings.secret  # made once, before the workers ask for it
            count = int(limit * seconds)
            console.log(f"preparing {count} messages")
            requests = await prepared(database, settings, f"smtp://127.0.0.1:{port}?per_second={limit:g}", count)
            small = [piece for request in requests for piece in _pieces(request)]
            processes = [await _worker(server.url, data, small[number::WORKERS]) for number in range(WORKERS)]
            codes = [await process.wait() for process in processes]
            await database.close()
            if any(codes) or len(times) != count:
                raise SystemExit(f"the workers ended with {codes}, {len(times)} of {count} messages came")
    return figures(times, limit)


def _pieces(request: DeliverRequest, size: int = 50) -> list[DeliverRequest]:
    """A batch as several, so that all workers have some until the end."""
    return [
        DeliverRequest(request.provider, request.at, request.items[start : start + size], request.repeat_in_doubt)
        for start in range(0, len(request.items), size)
    ]


async def _worker(url: str, data: Path, requests: Sequence[DeliverRequest]) -> asyncio.subprocess.Process:
    file = data / f"requests-{len(requests)}-{time.monotonic_ns()}.json"
    file.write_bytes(msgspec.json.encode(requests))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.limits", "--work", url, str(data), str(file)
    )


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--limit", type=float, default=50, help="messages a second (default 50)")
    parser.add_argument("--seconds", type=float, default=60, help="for how long (default 60)")
    parser.add_argument("--work", nargs=3, metavar=("URL", "DATA", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        url, data, file = given.work
        requests = msgspec.json.decode(Path(file).read_bytes(), type=list[DeliverRequest])
        asyncio.run(work(url, Path(data), requests))
        return
    report("limits", asyncio.run(measure(given.limit, given.seconds)))


if __name__ == "__main__":
    main()
