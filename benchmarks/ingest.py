"""How many events a second are acknowledged, which is to say committed: `python -m benchmarks.ingest`.

An empty PostgreSQL with its ordinary, durable settings, the API as one process, and this process as the client:
connections that are kept alive, each with one request under way. Nine of ten events are about contacts that exist.
In the end the rows in the log must be as many as were acknowledged.

The three share the machine, so for each load the CPU time of each is printed too, and how much of the machine others
took meanwhile: with that, runs on a busy machine can be compared.
"""

import argparse
import asyncio
import gc
import itertools
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import uvloop
from sqlalchemy import text

from contacts.identities import resolve
from core import access
from core.clock import now
from core.database import Database
from core.migrate import migrate
from core.settings import Settings
from studio.stack.process import free_port
from studio.stack.scratch import scratch_server

KNOWN = 20_000
NEW_SHARE = 0.1
HOST = "127.0.0.1"
_NAMES = ("page.viewed", "product.viewed", "cart.changed", "application.saved")
_serial = itertools.count()


@dataclass
class Load:
    """Requests to be sent, one after the other on each connection, and what came of them."""

    requests: Iterator[bytes]
    answered: int = 0
    accepted: int = 0
    wrong: str = ""


@dataclass(frozen=True)
class Sent:
    """What became of one load."""

    name: str
    requests: int
    accepted: int
    seconds: float


class Client(asyncio.Protocol):
    """One connection: sends a request, waits for the answer, sends the next."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Look at the beginning of an answer only: what follows is counted."""
        if self._missing:
            self._missing -= len(data)
        else:
            data = self._begun + data
            accepted = _ACCEPTED.search(data)
            if accepted is None:
                self._begun = data
                if b"\r\n\r\n{" in data[:-12]:
                    self.load.wrong = data.decode(errors="replace")
                    self._transport.close()
                return
            self._begun = b""
            self.load.accepted += int(accepted["events"])
            self._missing = int(accepted["length"]) - len(data) + accepted.start("body")
        if not self._missing:
            self.load.answered += 1
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        request = next(self.load.requests, None)
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)


_ACCEPTED = re.compile(
    rb"HTTP/1\.1 202 .*?\r\ncontent-length: (?P<length>\d+)\r\n.*?\r\n\r\n(?P<body>)\{\"accepted\":(?P<events>\d+),",
    re.S,
)


async def run(load: Load, port: int, connections: int) -> float:
    """Send all requests of a load over so many connections; the seconds it took."""
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    clients = [(await loop.create_connection(lambda: Client(load), HOST, port))[1] for _ in range(connections)]
    await asyncio.gather(*(client.done for client in clients))
    seconds = time.perf_counter() - begun
    if load.wrong:
        raise SystemExit(f"the API answered:\n{load.wrong}")
    return seconds


class Meter:
    """CPU seconds of the API, of PostgreSQL with all its processes, of this client, and of the whole machine."""

    def __init__(self, api: int, postgres: int) -> None:
        self._api = api
        self._postgres = postgres

    def read(self) -> dict[str, float]:
        """The seconds so far."""
        children = Path(f"/proc/{self._postgres}/task/{self._postgres}/children").read_text().split()
        return {
            "API": _cpu_seconds(self._api),
            "PostgreSQL": _cpu_seconds(self._postgres) + sum(_cpu_seconds(int(child)) for child in children),
            "client": time.process_time(),
            "machine": _machine_seconds(),
        }


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _machine_seconds() -> float:
    """Time that any processor spent working, or was taken away by a host (proc(5), stat)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def cpu_words(before: dict[str, float], after: dict[str, float], sent: Sent) -> str:
    """What each part took for an event, and the share of the machine that went to others."""
    used = {part: after[part] - before[part] for part in before}
    machine = used.pop("machine")
    parts = ", ".join(f"{part} {1e6 * seconds / sent.accepted:.1f}" for part, seconds in used.items())
    ours = sum(used.values())
    others = max(0.0, machine - ours) / (sent.seconds * (os.cpu_count() or 1))
    together = f"together {1e6 * ours / sent.accepted:.1f}"
    return f"  CPU in us an event: {parts}, {together}; others took {others:.0%} of the machine"


def event() -> dict[str, object]:
    """An event as a site would send it, with an id and a few properties, about somebody known or new."""
    number = next(_serial)
    contact = f"new-{number}" if random.random() < NEW_SHARE else f"known-{random.randrange(KNOWN)}"
    return {
        "id": f"{number:012d}-{random.getrandbits(64):016x}",
        "event": random.choice(_NAMES),
        "contact": {"external_id": contact},
        "at": now().isoformat(),
        "properties": {
            "path": f"/catalog/{number % 997}",
            "title": "Export services for small businesses",
            "value": round(random.random() * 1000, 2),
            "session": f"{random.getrandbits(64):016x}",
        },
    }


def request(body: object, port: int, key: str) -> bytes:
    """The bytes of one POST /v1/events."""
    content = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: {HOST}:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def prepare(url: str) -> str:
    """Make the schema and the known contacts; an API key."""
    database = Database(url, pool=2)
    await migrate(database, Settings(database=url))
    async with database.begin() as connection:
        await resolve(connection, [("external_id", f"known-{number}") for number in range(KNOWN)])
        await connection.execute(text("analyze identity"))
    async with database.begin() as connection:
        key = await access.create(connection, "benchmark", ["events:write"])
    await database.close()
    return key


async def count(url: str) -> int:
    """Rows in the log."""
    database = Database(url, pool=1)
    async with database.begin() as connection:
        rows = int((await connection.execute(text("select count(*) from event"))).scalar_one())
    await database.close()
    return rows


@asynccontextmanager
async def api(url: str, port: int) -> AsyncIterator[int]:
    """`kaskad api` in a process of its own, until the block ends; gives its number."""
    with tempfile.TemporaryDirectory() as data:
        environment = {**os.environ, "KASKAD_DATABASE": url, "KASKAD_PORT": str(port), "KASKAD_DATA": data}
        program = "from studio.cli import main; main()"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, "api", env=environment)
        try:
            await _answering(port)
            yield process.pid
        finally:
            process.terminate()
            await process.wait()


async def _answering(port: int) -> None:
    for _ in range(1200):
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SystemExit("the API does not come up")


async def attack(arguments: argparse.Namespace) -> list[Sent]:
    """Be the client process: warm up, send single events, send batches."""
    port, key, size = arguments.port, arguments.key, arguments.batch_size
    sent = []
    meter = Meter(arguments.api, arguments.postgres)
    for name, number, events, connections in (
        ("warm-up", 1_000, 0, arguments.connections),
        ("single", arguments.requests, 0, arguments.connections),
        ("batched", arguments.batches, size, arguments.batch_connections),
    ):
        bodies = ([event() for _ in range(events)] if events else event() for _ in range(number))
        load = Load(iter([request(body, port, key) for body in bodies]))
        gc.freeze()  # the requests are no garbage, and looking through them would only take time
        before = meter.read()
        seconds = await run(load, port, connections)
        after = meter.read()
        sent.append(Sent(name, load.answered, load.accepted, seconds))
        print(f"{name}: {load.answered:,} requests, {load.accepted:,} events in {seconds:.1f} s", file=sys.stderr)
        print(cpu_words(before, after, sent[-1]), file=sys.stderr)
    return sent


async def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Both figures, and the check that all that was acknowledged is there."""
    async with scratch_server({}) as server:
        key = await prepare(server.url)
        port = free_port()
        async with api(server.url, port) as api_pid:
            client = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.ingest", "--attack", "--port", str(port), "--key", key),
                *("--api", str(api_pid), "--postgres", str(server.pid)),
                *sys.argv[1:],
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await client.communicate()
            if client.returncode:
                raise SystemExit("the client gave up")
        warm, single, batched = (Sent(**each) for each in json.loads(output))
        acknowledged = warm.accepted + single.accepted + batched.accepted
        rows = await count(server.url)
        print(f"{acknowledged:,} events acknowledged, {rows:,} rows in the log")
        if acknowledged != rows:
            raise SystemExit("acknowledged events and rows differ")
    return {
        "requests_per_s": round(single.requests / single.seconds),
        "batched_events_per_s": round(batched.accepted / batched.seconds),
    }


def main() -> None:
    """Parse the arguments, measure, print the figures as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=60_000, help="requests with one event")
    parser.add_argument("--batches", type=int, default=1_000, help="requests with many events")
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--connections", type=int, default=128, help="connections that send single events")
    parser.add_argument("--batch-connections", type=int, default=16, help="connections that send batches")
    parser.add_argument("--attack", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--api", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--postgres", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        json.dump([asdict(sent) for sent in uvloop.run(attack(arguments))], sys.stdout)
    else:
        print(json.dumps({"benchmark": "ingest", "figures": asyncio.run(measure(arguments))}))


if __name__ == "__main__":
    main()
