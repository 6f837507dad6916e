"""An acknowledged hit is committed and counted in its session once: the API is killed in the middle of the load."""

import asyncio
import itertools
import signal
from pathlib import Path

import httpx
import pytest

from core.database import Database
from studio.stack.process import free_port
from tests.tracker.site_world import FIREFOX, ORIGIN, body, make_site, rows, view
from tests.tracker.test_crash import api


@pytest.mark.asyncio(loop_scope="session")
async def test_acknowledged_hits_survive_kills_and_count_once(database: Database, tmp_path: Path) -> None:
    site = await make_site(database)
    port = free_port()
    acknowledged: set[str] = set()
    numbers = itertools.count()
    enough = asyncio.Event()
    done = False

    async def visitor(client: httpx.AsyncClient, name: str) -> None:
        while not done:
            hit = view(f"{ORIGIN}/{next(numbers)}")
            content = body(site.key, hit, anon=name)
            while not done and hit["id"] not in acknowledged:  # as the snippet: the same again, until it is answered
                try:
                    answer = await client.post(f"http://127.0.0.1:{port}/k/e", json=content)
                except httpx.TransportError:
                    await asyncio.sleep(0.02)
                    continue
                assert answer.status_code == 204, answer.text
                acknowledged.add(hit["id"])
                if len(acknowledged) % 150 == 0:
                    enough.set()

    async with httpx.AsyncClient(headers={"origin": ORIGIN, "user-agent": FIREFOX}, timeout=30) as client:
        visitors = [asyncio.create_task(visitor(client, f"visitor-{number:04}")) for number in range(8)]
        for _ in range(3):
            async with api(database.url, port, tmp_path) as process, asyncio.timeout(60):
                enough.clear()
                await enough.wait()
                process.send_signal(signal.SIGKILL)
                await process.wait()
        done = True
        await asyncio.gather(*visitors)
    events = await rows(database, "select properties->>'url' as url from event")
    urls = [row["url"] for row in events]
    assert len(urls) == len(set(urls)) >= len(acknowledged) >= 450
    (counted,) = await rows(database, "select sum(pages)::int as pages, count(*)::int as sessions from session")
    assert counted == {"pages": len(urls), "sessions": 8}
