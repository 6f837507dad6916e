"""`python -m tests.replay.record FOLDER`: play small stories on real servers and keep the histories of their workflows.

One folder for each released version; tests/replay/test_replay.py replays them all against the present workflow code.
"""

import asyncio
import hashlib
import json
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from core.database import Database
from core.migrate import migrate
from core.payloads import data_converter
from core.settings import Settings
from engine import broadcasts, moves
from engine.scheduled import ScheduledBroadcast
from engine.wire import MAIN_QUEUE, cohort_workflow_id
from journeys import store
from studio.stack.scratch import FORGETFUL, scratch_server
from tests.engine.world import World, letterbox, publish_letters

DIGESTS = "SHA256SUMS"
SMALL_HISTORIES = ["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=30"]

REFERENCE = """
journey: {name}
name: Reference
enter: {{event: {name}.saved, key: event.application_id}}
goal: {{event: {name}.submitted, outcome: submitted, where: {{event.application_id: {{same: application_id}}}}}}
steps:
  - send: email
    id: letter
    template: first
  - wait: {wait}
    id: wait
    until: {{event: {name}.changed, where: {{event.application_id: {{same: application_id}}}}}}
    then: done
  - if: {{contact.city: Moscow}}
    then:
      - send: email
        template: second
  - end: silent
  - id: done
    end: returned
"""
BRANCHES = """
journey: branches
name: Branches
enter: {segment: all}
steps:
  - split: {a: 1, b: 1}
  - update:
      tags: {add: [seen]}
  - choose:
      - when: {contact.tags: seen}
        then:
          - wait: until 10:00 in the contact's time zone
  - send: email
    template: first
  - end: over
"""

LEAVING = """
journey: left
name: Left
enter: {event: left.saved}
exit: {when: {contact.city: Kazan}, outcome: moved}
steps:
  - send: email
    template: first
  - wait: 1h
    id: wait
    until: {event: left.changed}
  - end: stayed
"""


async def record(folder: Path) -> list[Path]:
    """Play every story; gives the files that were written into an existing folder."""
    written: list[Path] = []
    async with installation([]) as world:
        for story in (reference, paused, branches, scheduled, moved, ordered, held, left):
            written += await story(world, folder)
    async with installation(SMALL_HISTORIES) as world:
        written += await continued(world, folder)
    return written


@asynccontextmanager
async def installation(server_options: list[str]) -> AsyncIterator[World]:
    """Servers, worker and router. The client has a name of its own, so that no machine's name gets into the files."""
    program = Path(sysconfig.get_path("scripts")) / "temporal"
    async with (
        scratch_server(FORGETFUL) as postgres,
        letterbox() as (box, email),
        await WorkflowEnvironment.start_local(
            dev_server_existing_path=str(program), dev_server_extra_args=server_options, dev_server_log_level="error"
        ) as environment,
    ):
        with tempfile.TemporaryDirectory() as data:
            settings = Settings(data=Path(data), email=email, entry_window_ms=50)
            client = await Client.connect(
                environment.client.service_client.config.target_host,
                data_converter=data_converter,
                identity="recorder",
            )
            database = Database(postgres.url)
            world = World(database, settings, client, box)
            try:
                await migrate(database, settings)
                await publish_letters(database)
                world.start("worker")
                world.start("router")
                yield world
            finally:
                await world.close()
                await database.close()


async def reference(world: World, folder: Path) -> list[Path]:
    """Time-out, event and goal in one cohort that stays open."""
    await world.publish(REFERENCE.format(name="reference", wait="2s"))
    silent, returns, submits = await world.contacts(3, city="Moscow")
    for contact in (silent, returns, submits):
        await world.happen("reference.saved", contact, application_id=contact)
    await world.happen("reference.changed", returns, application_id=returns)
    await world.until(lambda: _written_to(world, submits))
    await world.happen("reference.submitted", submits, application_id=submits)
    await world.until_outcomes("reference", {silent: ["silent"], returns: ["returned"], submits: ["submitted"]})
    return [await _keep(world, await _cohort(world, "reference"), folder / "reference.json")]


async def paused(world: World, folder: Path) -> list[Path]:
    """A pause in which the wait runs out, a resume, and a stop."""
    await world.publish(REFERENCE.format(name="paused", wait="1s"))
    first, second = await world.contacts(2, city="Moscow")
    await world.happen("paused.saved", first, application_id=first)
    await world.until_at("paused", "wait", 1)
    await world.set_state("paused", "paused")
    await world.happen("paused.saved", second, application_id=second)
    await world.until_at("paused", "letter", 1)
    await world.set_state("paused", "active")
    await world.until_outcomes("paused", {first: ["silent"], second: ["silent"]})
    (third,) = await world.contacts(1)
    await world.happen("paused.saved", third, application_id=third)
    await world.until(lambda: _written_to(world, third))
    await world.set_state("paused", "stopped")
    await world.until(lambda: _ended(world, "paused"))
    return [await _keep(world, await _cohort(world, "paused"), folder / "paused.json")]


async def branches(world: World, folder: Path) -> list[Path]:
    """A broadcast over every other kind of step; its workflow ends."""
    await world.publish(BRANCHES, hasten=86_400)
    contacts = await world.contacts(4, zone="Asia/Tokyo")
    async with world.database.begin() as connection:
        await broadcasts.start(connection, "branches", occasion="record", contact_ids=contacts)
    await world.until_outcomes("branches", {contact: ["over"] for contact in contacts})
    workflow = await _cohort(world, "branches")
    await world.client.get_workflow_handle(workflow).result()
    return [await _keep(world, workflow, folder / "branches.json")]


async def scheduled(world: World, folder: Path) -> list[Path]:
    """The workflow of a schedule."""
    handle = await world.client.start_workflow(
        ScheduledBroadcast.run, "branches", id="broadcast-journey-branches", task_queue=MAIN_QUEUE
    )
    await handle.result()
    return [await _keep(world, handle.id, folder / "scheduled.json")]


async def moved(world: World, folder: Path) -> list[Path]:
    """A new version that takes over those who wait; the step on which one of them stands is gone there."""
    first = REFERENCE.format(name="moved", wait="1h")
    await world.publish(first)
    waits, returns = await world.contacts(2, city="Moscow")
    for contact in (waits, returns):
        await world.happen("moved.saved", contact, application_id=contact)
    await world.until_at("moved", "wait", 2)
    second = first.replace("id: wait", "id: patience").replace("wait: 1h", "wait: 2s")
    async with world.database.begin() as connection:
        await store.publish(connection, second, move=True, placement={"wait": "patience"})
    await world.until_at("moved", "patience", 2)
    await world.happen("moved.changed", returns, application_id=returns)
    await world.until_outcomes("moved", {waits: ["silent"], returns: ["returned"]})
    return [await _keep(world, await _cohort(world, "moved"), folder / "moved.json")]


async def ordered(world: World, folder: Path) -> list[Path]:
    """One contact is moved to another step by hand, one is taken out, one goes its way."""
    await world.publish(REFERENCE.format(name="ordered", wait="3s"))
    on, out, silent = await world.contacts(3, city="Moscow")
    for contact in (on, out, silent):
        await world.happen("ordered.saved", contact, application_id=contact)
    await world.until_at("ordered", "wait", 3)
    async with world.database.begin() as connection:
        await moves.order(connection, await _enrollment(connection, on), step="done")
        await moves.order(connection, await _enrollment(connection, out), outcome="refunded")
    await world.until_outcomes("ordered", {on: ["returned"], out: ["refunded"], silent: ["silent"]})
    return [await _keep(world, await _cohort(world, "ordered"), folder / "ordered.json")]


async def held(world: World, folder: Path) -> list[Path]:
    """Letters that wait for their provider: one contact reaches the goal meanwhile, one gets its letter after a pause,
    one is still waiting when the journey is stopped."""
    await world.publish(REFERENCE.format(name="held", wait="1h"))
    submits, gets, stopped = await world.contacts(3, city="Moscow")
    await world.run("update provider set state = 'paused'")
    for contact in (submits, gets):
        await world.happen("held.saved", contact, application_id=contact)
    await world.until_at("held", "letter", 2)
    await world.happen("held.submitted", submits, application_id=submits)
    await world.until(lambda: _is_skipped(world, 1))
    await world.set_state("held", "paused")
    await world.run("update provider set state = 'active'")
    await world.set_state("held", "active")
    await world.until(lambda: _written_to(world, gets))
    await world.run("update provider set state = 'paused'")
    await world.happen("held.saved", stopped, application_id=stopped)
    await world.until_at("held", "letter", 1)
    await world.set_state("held", "stopped")
    await world.until_outcomes("held", {submits: ["submitted"], gets: ["stopped"], stopped: ["stopped"]})
    await world.until(lambda: _is_skipped(world, 2))
    await world.run("update provider set state = 'active'")
    return [await _keep(world, await _cohort(world, "held"), folder / "held.json")]


async def left(world: World, folder: Path) -> list[Path]:
    """Criteria that end the journey hold on entering, while one waits, and never."""
    await world.publish(LEAVING)
    (kazan,) = await world.contacts(1, city="Kazan")
    moves, stays = await world.contacts(2, city="Moscow")
    for contact in (kazan, moves, stays):
        await world.happen("left.saved", contact)
    await world.until_at("left", "wait", 2)
    await world.run('update contact set attributes = \'{"city": "Kazan"}\' where id = :id', id=moves)
    await world.happen("left.seen", moves)
    await world.happen("left.changed", stays)
    await world.until_outcomes("left", {kazan: ["moved"], moves: ["moved"], stays: ["stayed"]})
    return [await _keep(world, await _cohort(world, "left"), folder / "left.json")]


async def continued(world: World, folder: Path) -> list[Path]:
    """A cohort whose history grows until it continues as new; the run before and the run after."""
    await world.publish(REFERENCE.format(name="continued", wait="1h"))
    (contact,) = await world.contacts(1)
    await world.happen("continued.saved", contact, application_id="first")
    await world.until_at("continued", "wait", 1)
    workflow = await _cohort(world, "continued")
    handle = world.client.get_workflow_handle(workflow)
    first = (await handle.describe()).run_id
    number = 0

    async def is_new() -> bool:
        nonlocal number
        number += 1
        await world.happen("continued.saved", contact, application_id=f"more-{number}")
        await world.until_at("continued", "wait", number + 1)
        return (await handle.describe()).run_id != first

    await world.until(is_new)
    await world.happen("continued.changed", contact, application_id="first")
    await world.until(lambda: _returned(world, "continued"))
    return [
        await _keep(world, workflow, folder / "continued-before.json", run=first),
        await _keep(world, workflow, folder / "continued-after.json"),
    ]


async def _written_to(world: World, contact: int) -> bool:
    return bool(world.letters(contact))


def digests(folder: Path) -> str:
    """What `sha256sum *.json` says of a folder: histories of a version are recorded once and stay as they are."""
    files = sorted(folder.glob("*.json"))
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)


async def _is_skipped(world: World, messages: int) -> bool:
    rows = await world.run("select count(*) from message where reason in ('left_journey', 'journey_stopped')")
    return bool(rows[0][0] == messages)


async def _enrollment(connection: AsyncConnection, contact: int) -> int:
    rows = await connection.execute(text("select id from enrollment where contact_id = :id"), {"id": contact})
    return int(rows.scalar_one())


async def _ended(world: World, journey: str) -> bool:
    outcomes = await world.outcomes(journey)
    return len(outcomes) == 3 and None not in [outcome for several in outcomes.values() for outcome in several]


async def _returned(world: World, journey: str) -> bool:
    return "returned" in [outcome for several in (await world.outcomes(journey)).values() for outcome in several]


async def _cohort(world: World, journey: str) -> str:
    rows = await world.run(
        "select max(e.cohort_id) from enrollment e join journey j on j.id = e.journey_id where j.name = :name",
        name=journey,
    )
    return cohort_workflow_id(rows[0][0])


async def _keep(world: World, workflow: str, file: Path, run: str | None = None) -> Path:
    history = await world.client.get_workflow_handle(workflow, run_id=run).fetch_history()
    compact = json.dumps(json.loads(history.to_json()), separators=(",", ":"))
    await asyncio.to_thread(file.write_text, compact + "\n")
    return file


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for path in asyncio.run(record(target)):
        sys.stdout.write(f"{path} {path.stat().st_size:,} bytes\n")
    (target / DIGESTS).write_text(digests(target))
