"""Webhooks a second of one worker, from the ledger to another program: `python -m benchmarks.webhook`.

Signed calls, each with its own body, go from the ledger of a real, durable PostgreSQL through `channels.Delivery`
to a receiver in another process that answers at once.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.email import BATCH, delivered, enrolled, listening
from benchmarks.harness import console, report
from channels import DeliverRequest, PrepareRequest, prepare, providers, templates
from core.clock import now
from core.database import Database
from core.migrate import migrate
from core.settings import Settings
from studio.stack.process import free_port
from studio.stack.scratch import scratch_server

_TEMPLATE = """---
template: order
channel: webhook
url: http://127.0.0.1:PORT/orders/{{ event.application_id }}
headers: {X-Tenant: export}
---
{"application": "{{ event.application_id }}", "product": "{{ event.product }}",
 "name": "{{ contact.first_name | default('-') }}"}
"""
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Receiver(asyncio.Protocol):
    """Answers each request on its connection; requests come one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connects."""
        self._transport = transport
        self._come = b""

    def data_received(self, data: bytes) -> None:
        """Answer what has come in full."""
        self._come += data
        while (end := self._come.find(b"\r\n\r\n")) >= 0:
            head = self._come[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._come) < end + 4 + length:
                return
            self._come = self._come[end + 4 + length :]
            assert isinstance(self._transport, asyncio.Transport)
            self._transport.write(_ANSWER)


async def be_receiver(port: int) -> None:
    """The other program."""
    async with await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", port) as server:
        await server.serve_forever()


@asynccontextmanager
async def receiver() -> AsyncIterator[int]:
    """A receiver in another process; gives its port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.webhook", "--receiver", str(port)]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        await listening(port)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def prepared(database: Database, settings: Settings, port: int, count: int) -> list[DeliverRequest]:
    """Ledger rows that wait to be handed over."""
    async with database.begin() as connection:
        await providers.add(connection, settings, "main", "webhook://?private=yes")
        await templates.publish(connection, _TEMPLATE.replace("PORT", str(port)), "order.txt")
        version, items = await enrolled(connection, count)
    requests = []
    for start in range(0, count, BATCH):
        at, chosen = now(), items[start : start + BATCH]
        async with database.begin() as connection:
            await prepare(
                connection,
                settings,
                PrepareRequest(
                    version_id=version, step=0, channel="webhook", template="order", purpose="transactional",
                    priority="triggered", at=at, items=chosen,
                ),
            )  # fmt: skip
        requests.append(DeliverRequest("main", at, chosen, False))
    return requests


async def measure(count: int, width: int) -> None:
    """Measure and report."""
    with TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder))
        async with scratch_server({}) as server, receiver() as port:
            database = Database(server.url)
            await migrate(database, settings)
            requests = await prepared(database, settings, port, count)
            rate = await delivered(database, settings, requests, width)
            await database.close()
    console.log(f"{count} calls, {rate:.0f} a second")
    report("webhook", {"calls_per_s": rate, "calls": float(count)})


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=10_000, help="how many (default 10,000)")
    parser.add_argument("--width", type=int, default=8, help="batches at a time, as in a worker (default 8)")
    parser.add_argument("--receiver", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    if given.receiver:
        asyncio.run(be_receiver(given.receiver))
    else:
        asyncio.run(measure(given.calls, given.width))


if __name__ == "__main__":
    main()
