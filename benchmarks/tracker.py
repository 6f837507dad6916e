"""How many hits of the site snippet a second are acknowledged, which is to say committed: `python -m
benchmarks.tracker`.

As `benchmarks.ingest`, with an empty PostgreSQL, the API as one process and this one as the client, all on one
machine. Each request is what the snippet sends for one page view; bots are left out, browsers and systems told,
addresses looked up in a geography database, and sessions counted in the transaction of the hits. One visitor of ten
is new, one request of thirty a bot's. In the end events, and page views counted in sessions, must be as many as were
acknowledged.
"""

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import uvloop
from sqlalchemy import text

from benchmarks import exits
from benchmarks.hits import ORIGIN, VISITORS, Crowd
from benchmarks.hits import database as geography
from benchmarks.ingest import HOST, Meter, Sent, api, cpu_words
from contacts.identities import resolve
from core.database import Database
from core.migrate import migrate
from core.settings import Settings
from studio.stack.process import free_port
from studio.stack.scratch import scratch_server
from tracker import sites
from tracker.sites import Wanted

_ENOUGH = b"HTTP/1.1 204 "
_END = b"\r\n\r\n"


@dataclass
class Load:
    """Requests to be sent, one after the other on each connection, and how many were answered."""

    requests: Iterator[bytes]
    answered: int = 0
    wrong: str = ""


class Client(asyncio.Protocol):
    """One connection: sends a request, waits for the answer, sends the next."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """An answer is a head and nothing else; any other status ends the run."""
        data = self._begun + data
        if not data.endswith(_END):
            self._begun = data
            return
        self._begun = b""
        if not data.startswith(_ENOUGH):
            self.load.wrong = data.decode(errors="replace")
            self._transport.close()
            return
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


async def run(load: Load, port: int, connections: int) -> float:
    """Send all requests of a load over so many connections; the seconds it took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    clients = [(await loop.create_connection(lambda: Client(load), HOST, port))[1] for _ in range(connections)]
    await asyncio.gather(*(client.done for client in clients))
    if load.wrong:
        raise SystemExit(f"the API answered:\n{load.wrong}")
    return loop.time() - begun


async def prepare(url: str) -> str:
    """Make the schema, the site and the visitors who were there before; the site's write key."""
    database = Database(url, pool=2)
    await migrate(database, Settings(database=url))
    async with database.begin() as connection:
        known = [("anonymous_id", f"00000000-0000-0000-0000-{number:012x}") for number in range(VISITORS)]
        await resolve(connection, known)
        await connection.execute(text("analyze identity"))
    async with database.begin() as connection:
        site = await sites.add(connection, Wanted("portal", [ORIGIN]))
    await database.close()
    return site.key


async def count(url: str) -> tuple[int, int, int]:
    """Rows in the log, page views in sessions, and sessions."""
    database = Database(url, pool=1)
    async with database.begin() as connection:
        events = (await connection.execute(text("select count(*) from event"))).scalar_one()
        row = (await connection.execute(text("select sum(pages)::int, count(*)::int from session"))).one()
    await database.close()
    return int(events), int(row[0]), int(row[1])


async def attack(arguments: argparse.Namespace) -> list[Sent]:
    """Be the client process: warm up, then one event a request, then several."""
    crowd = Crowd(arguments.key, arguments.port)
    meter = Meter(arguments.api, arguments.postgres)
    sent = []
    for name, number, events in (("warm-up", 3_000, 1), ("single", arguments.requests, 1), ("batched", 2_000, 10)):
        requests = list(crowd.requests(number, events))
        stored = events * sum(is_person for _, is_person in requests)
        load = Load(iter([request for request, _ in requests]))
        gc.freeze()  # the requests are no garbage, and looking through them would only take time
        before = meter.read()
        seconds = await run(load, arguments.port, arguments.connections)
        after = meter.read()
        sent.append(Sent(name, load.answered, stored, seconds))
        print(f"{name}: {load.answered:,} requests, {stored:,} hits in {seconds:.1f} s", file=sys.stderr)
        print(cpu_words(before, after, sent[-1]), file=sys.stderr)
    return sent


async def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """The rate, and the check that all that was acknowledged is there."""
    async with scratch_server({}) as server:
        key = await prepare(server.url)
        port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {
                "KASKAD_TRUSTED_PROXIES": "127.0.0.1",
                "KASKAD_HIT_KEY_RATE": "1000000",
                "KASKAD_GEOIP": str(geography(Path(folder))),
            }
            async with api(server.url, port) as api_pid:
                client = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "benchmarks.tracker", "--attack", "--port", str(port), "--key", key),
                    *("--api", str(api_pid), "--postgres", str(server.pid)),
                    *sys.argv[1:],
                    stdout=asyncio.subprocess.PIPE,
                )
                output, _ = await client.communicate()
                if client.returncode:
                    raise SystemExit("the client gave up")
        sent = [Sent(**each) for each in json.loads(output)]
        acknowledged = sum(each.accepted for each in sent)
        events, pages, sessions = await count(server.url)
        print(f"{acknowledged:,} hits acknowledged, {events:,} in the log, {pages:,} in {sessions:,} sessions")
        if not acknowledged == events == pages:
            raise SystemExit("acknowledged hits, the log and the sessions differ")
    _, single, batched = sent
    return {
        "snippet_gzip_bytes": exits.snippet_gzip_bytes(),
        "exit_loss_percent": round(await exits.exit_loss_percent(arguments.exits), 3),
        "hits_per_s": round(single.accepted / single.seconds),
        "batched_hits_per_s": round(batched.accepted / batched.seconds),
    }


def main() -> None:
    """Parse the arguments, measure, print the figures as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40_000, help="requests with one event")
    parser.add_argument("--exits", type=int, default=exits.EXITS, help="pages that are left in Chromium")
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--attack", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--api", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--postgres", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        json.dump([asdict(sent) for sent in uvloop.run(attack(arguments))], sys.stdout)
    else:
        print(json.dumps({"benchmark": "tracker", "figures": asyncio.run(measure(arguments))}))


if __name__ == "__main__":
    main()
