"""What happens when what the engine stands on is away, wrong or full."""

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import structlog
from sqlalchemy import text

from contacts import importing
from contacts.columns import Options
from core import access, temporal
from core.database import Database
from core.errors import DatabaseUnavailable, TemporalUnavailable
from core.migrate import migrate
from core.settings import Settings
from studio.stack.postgres import EmbeddedPostgres
from studio.stack.process import free_port
from studio.stack.scratch import scratch_server
from studio.stack.supervisor import running_stack
from studio.stack.temporal import EmbeddedTemporal, plain
from tests.engine.world import World, letterbox, publish_letters
from tests.peers import missing_peer

JOURNEY = """
journey: patience
name: Patience
enter: {event: patience.come}
steps:
  - send: email
    id: letter
    template: first
  - wait: 3s
    id: wait
  - send: email
    template: second
  - end: sent
"""


@pytest_asyncio.fixture(loop_scope="session")
async def alone(tmp_path: Path) -> AsyncIterator[tuple[World, EmbeddedPostgres, EmbeddedTemporal]]:
    """An installation of its own, whose servers a test may stop."""
    folder = tmp_path
    server = EmbeddedTemporal(folder, free_port(), folder / "temporal.log")
    async with scratch_server({}) as postgres, letterbox() as (box, email):
        await server.start()
        settings = Settings(data=folder, email=email, entry_window_ms=50)
        database = Database(postgres.url)
        world = World(database, settings, await temporal.connect(plain("default"), server.address), box)
        try:
            await migrate(database, settings)
            await publish_letters(database)
            await world.publish(JOURNEY)
            world.start("worker")
            world.start("router")
            yield world, postgres, server
            await world.close()
        finally:
            await database.close()
            await server.stop()


@pytest.mark.timeout(300)
async def test_postgres_and_then_temporal_are_away_for_a_while(
    alone: tuple[World, EmbeddedPostgres, EmbeddedTemporal],
) -> None:
    world, postgres, server = alone
    first, second, third = await world.contacts(3)
    await world.happen("patience.come", first)
    await world.until_at("patience", "wait", 1)
    with structlog.testing.capture_logs() as logs:
        await postgres.stop()
        with pytest.raises(DatabaseUnavailable, match="PostgreSQL does not answer"):
            await world.happen("patience.come", second)

        async def said() -> bool:
            said = {entry["event"] for entry in logs} | {entry.get("duty") for entry in logs}
            return {"the router begins anew", "serve_providers"} <= said

        await world.until(said)
        await postgres.start()
    assert any("Connection refused" in entry.get("error", "") for entry in logs)
    assert not [entry for entry in logs if entry.get("exc_info")]  # it is said in words
    await world.happen("patience.come", second)
    await world.until_outcomes("patience", {first: ["sent"], second: ["sent"]})
    await server.stop()
    await world.happen("patience.come", third)  # an event is taken in while Temporal is away
    with pytest.raises(TemporalUnavailable, match=f"127.0.0.1:{server.port}.*KASKAD_TEMPORAL"):
        await temporal.connect(world.settings, server.address, patience=2)
    await server.start()
    await world.until_outcomes("patience", {first: ["sent"], second: ["sent"], third: ["sent"]})
    for contact in (first, second, third):
        assert world.letters(contact) == ["first", "second"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    place = tmp_path / "disk"
    place.mkdir()
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)  # root's PostgreSQL runs as another user, who has to reach it
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=700m,mode=755", "tmpfs", str(place)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"needs the right to mount a file system (root): {error}"
        if os.geteuid() == 0:
            missing_peer(reason)
        pytest.skip(reason)  # nobody but root can be given this, so requiring peers does not require it of others
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(file: Path) -> None:
    """Take all the room that is left."""
    with file.open("wb", buffering=0) as out:
        for size in (1 << 20, 4096):
            try:
                while True:
                    out.write(b"\0" * size)
            except OSError:
                continue


@pytest.mark.timeout(300)
async def test_full_disk_refuses_events_clearly_and_keeps_those_acknowledged(small_disk: Path, tmp_path: Path) -> None:
    settings = Settings(data=small_disk / "data", port=0)
    async with running_stack(settings, roles=["api"]) as stack:
        database = Database(stack.settings.database or "")
        async with database.begin() as connection:
            key = await access.create(connection, "test", ["events:write"])
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as http:
            acknowledged = [await send(http, number) for number in range(5)]
            await asyncio.to_thread(fill, small_disk / "filler")
            refusal = None
            for number in range(5, 2000):
                answer = await post(http, number)
                if answer.status_code != 202:
                    refusal = answer
                    break
                acknowledged.append(f"event-{number}")
            assert refusal is not None, "the disk never was full"
            assert refusal.status_code == 503
            assert refusal.headers["content-type"] == "application/problem+json"
            assert "the database's disk is full: free space" in refusal.json()["detail"]
            file = tmp_path / "contacts.csv"
            file.write_text("external_id,note\n" + "".join(f"c-{n},{os.urandom(500).hex()}\n" for n in range(2000)))
            options = Options(identity="external_id")
            with pytest.raises(DatabaseUnavailable, match="the database's disk is full: free space"):
                await importing.import_file(database, file, options, settings=stack.settings)
            (small_disk / "filler").unlink()
            assert (await importing.import_file(database, file, options, settings=stack.settings)).accepted == 2000
            acknowledged.append(await send(http, number))
        async with database.begin() as connection:
            rows = await connection.execute(text("select properties ->> 'sent_as' from event"))
            log = Counter(rows.scalars())
        await database.close()
    assert log == Counter(acknowledged)


async def post(http: httpx.AsyncClient, number: int) -> httpx.Response:
    """Send a large event."""
    name = f"event-{number}"
    filling = {f"p{n}": os.urandom(75).hex() for n in range(180)}
    event: dict[str, Any] = {
        "id": name,
        "event": "page.viewed",
        "contact": {"external_id": "somebody"},
        "properties": {"sent_as": name, **filling},
    }
    return await http.post("/v1/events", json=event)


async def send(http: httpx.AsyncClient, number: int) -> str:
    """Send it until it is acknowledged; gives its name."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + 120
    while True:
        answer = await post(http, number)
        if answer.status_code == 202:
            return f"event-{number}"
        assert loop.time() < ends, answer.text
        await asyncio.sleep(0.2)
