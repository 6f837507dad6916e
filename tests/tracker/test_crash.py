"""An acknowledged event is committed: the API and PostgreSQL are killed in the middle of the load."""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
from sqlalchemy import text

from core.database import Database
from core.ids import derived_uuid
from core.migrate import migrate
from core.settings import Settings
from studio.stack.postgres import EmbeddedPostgres
from studio.stack.process import free_port
from studio.stack.scratch import scratch_server
from tests.tracker.conftest import make_key


@dataclass
class Load:
    """Clients that send event after event and remember which ones were acknowledged."""

    url: str
    key: str
    acknowledged: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30) as client:
            senders = [asyncio.create_task(self._send(client)) for _ in range(8)]
            try:
                yield
            finally:
                for sender in senders:
                    sender.cancel()
                await asyncio.gather(*senders, return_exceptions=True)

    async def _send(self, client: httpx.AsyncClient) -> None:
        for number in self.numbers:
            name = f"e-{number}"
            event = {"id": name, "event": "page.viewed", "contact": {"external_id": f"u-{number % 50}"}}
            try:
                answer = await client.post("/v1/events", json=event)
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            self.statuses.add(answer.status_code)
            if answer.status_code == 202:
                self.acknowledged.append(name)
            self.answered.set()
            if answer.status_code != 202:
                await asyncio.sleep(0.02)

    async def more(self, count: int) -> None:
        """Wait until so many more events were acknowledged."""
        enough = len(self.acknowledged) + count
        async with asyncio.timeout(30):
            while len(self.acknowledged) < enough:
                await self._something()

    async def until(self, status: int) -> None:
        """Wait until somebody was answered with this status."""
        async with asyncio.timeout(30):
            while status not in self.statuses:
                await self._something()

    async def _something(self) -> None:
        self.answered.clear()
        await self.answered.wait()


@asynccontextmanager
async def api(database: str, port: int, data: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "KASKAD_DATABASE": database, "KASKAD_DATA": str(data), "KASKAD_PORT": str(port)}
    program = "from studio.cli import main; main()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, "api", env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def missing(server: EmbeddedPostgres, acknowledged: list[str]) -> tuple[set[UUID], int, int]:
    """Acknowledged events whose id is not in the database; events and keys there."""
    database = Database(server.url, pool=1)
    async with database.begin() as connection:
        keys = set((await connection.execute(text("select key from event_key"))).scalars())
        events = (await connection.execute(text("select count(*) from event"))).scalar_one()
    await database.close()
    return {derived_uuid("1", name) for name in acknowledged} - keys, events, len(keys)


async def test_acknowledged_events_survive_kills(tmp_path: Path) -> None:
    async with scratch_server({}) as server:
        database = Database(server.url, pool=1)
        await migrate(database, Settings(data=tmp_path))
        key = await make_key(database, "events:write")
        await database.close()
        port = free_port()
        load = Load(f"http://127.0.0.1:{port}", key)
        async with load.running():
            async with api(server.url, port, tmp_path) as process:
                await load.more(200)
                process.send_signal(signal.SIGKILL)
                await process.wait()
            assert (await missing(server, load.acknowledged))[0] == set()
            async with api(server.url, port, tmp_path):
                await load.more(200)
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
                await load.until(503)
                assert not load.statuses - {202, 503}
                await server.stop()
                await server.start()
                await load.more(200)  # the API goes on by itself
        lost, events, keys = await missing(server, load.acknowledged)
        assert lost == set()
        assert events == keys >= len(load.acknowledged)
        assert len(set(load.acknowledged)) == len(load.acknowledged)
