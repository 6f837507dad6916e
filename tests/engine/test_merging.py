"""Contacts that merge while they are in journeys: on the real worker, router, PostgreSQL and Temporal."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from sqlalchemy.engine import make_url
from temporalio.client import Client

from contacts import identify, merging, resolve
from core import eventlog, temporal
from core.clock import now
from core.database import Database
from core.settings import Settings
from studio.stack.postgres import DATABASE, EmbeddedPostgres
from studio.stack.process import free_port
from studio.stack.temporal import EmbeddedTemporal, plain
from tests.engine.world import World, letterbox, publish_letters, unique


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def temporal_client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """The embedded Temporal server."""
    folder = tmp_path_factory.mktemp("temporal")
    server = EmbeddedTemporal(folder, free_port(), folder / "temporal.log")
    await server.start()
    try:
        yield await temporal.connect(plain("default"), server.address)
    finally:
        await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    postgres: EmbeddedPostgres, temporal_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """An installation that the tests of this module share."""
    async with await psycopg.AsyncConnection.connect(postgres.superuser_url, autocommit=True) as connection:
        make = sql.SQL("create database merging template {} owner kaskad strategy file_copy")
        await connection.execute(make.format(sql.Identifier(DATABASE)))
    database = Database(make_url(postgres.url).set(database="merging").render_as_string(hide_password=False))
    data: Path = tmp_path_factory.mktemp("merging")
    async with letterbox() as (box, email):
        made = World(database, Settings(data=data, email=email, entry_window_ms=50), temporal_client, box)
        await publish_letters(database)
        made.start("worker")
        made.start("router")
        try:
            yield made
        finally:
            await made.close()
            await database.close()


def waiting(name: str) -> str:
    """A journey that waits for an event and then writes."""
    return f"""
journey: {name}
enter: {{event: {name}.saved, reenter: after_exit}}
goal: {{event: {name}.submitted, outcome: submitted}}
steps:
  - wait: 1h
    id: wait
    until: {{event: {name}.changed}}
    then: letter
  - end: silent
  - send: email
    id: letter
    template: first
  - end: returned
"""


async def visitor(world: World, device: str) -> int:
    async with world.database.begin() as connection:
        return (await resolve(connection, [("anonymous_id", device)]))[0]


async def identified(world: World, device: str, contact: int) -> int:
    """Say that the visitor is a contact of the world's."""
    async with world.database.begin() as connection:
        done = await identify(connection, device, {"email": f"c{contact}@example.com"})
    assert (done.contact_id, len(done.merges)) == (contact, 1)
    return done.merges[0]


async def settled(world: World) -> None:
    async def nothing_left() -> bool:
        rows = await world.run("select count(*) from contact_merge where settled_at is null")
        return bool(rows[0][0] == 0)

    await world.until(nothing_left)


async def test_a_visitor_s_run_goes_on_as_the_contact_s(world: World) -> None:
    name = unique("follows")
    await world.publish(waiting(name))
    (contact,) = await world.contacts(1)
    await world.happen(f"{name}.saved", await visitor(world, name))
    await world.until_at(name, "wait", 1)
    await identified(world, name, contact)
    await world.happen(f"{name}.changed", contact)
    await world.until_outcomes(name, {contact: ["returned"]})
    assert world.letters(contact) == ["first"]


async def test_of_two_runs_in_one_journey_the_winner_s_goes_on(world: World) -> None:
    name = unique("twice")
    await world.publish(waiting(name))
    (contact,) = await world.contacts(1)
    await world.happen(f"{name}.saved", contact)
    await world.until_at(name, "wait", 1)
    await world.happen(f"{name}.saved", await visitor(world, name))
    await world.until_at(name, "wait", 2)
    number = await identified(world, name, contact)
    await world.until_at(name, "wait", 1)
    await world.happen(f"{name}.changed", contact)
    await world.until_outcomes(name, {contact: ["returned", "merged"]})
    assert world.letters(contact) == ["first"]
    async with world.database.begin() as connection:
        undone = await merging.unmerge(connection, number)
    assert len(undone.ended) == 1
    assert await world.outcomes(name) == {contact: ["returned"], undone.contact_id: ["merged"]}


async def test_a_run_that_was_only_just_entering_ends_as_well(world: World) -> None:
    name = unique("entering")
    await world.publish(waiting(name))
    (contact,) = await world.contacts(1)
    await world.happen(f"{name}.saved", contact)
    await world.until_at(name, "wait", 1)
    await world.stop("worker")  # nobody carries the newcomer on
    await world.happen(f"{name}.saved", await visitor(world, name))

    async def entering() -> bool:
        rows = await world.run("select count(*) from enrollment where state = 'entering'")
        return bool(rows[0][0] == 1)

    await world.until(entering)
    await identified(world, name, contact)
    await settled(world)
    await world.happen(f"{name}.submitted", contact)
    world.start("worker")
    await world.until_outcomes(name, {contact: ["submitted", "merged"]})


async def test_what_a_visitor_does_while_he_is_merged_begins_the_contact_s_run(world: World) -> None:
    name = unique("late")
    await world.publish(waiting(name))
    (contact,) = await world.contacts(1)
    loser = await visitor(world, name)
    async with world.database.begin() as late:
        assert await resolve(late, [("anonymous_id", name)]) == [loser]
        await identified(world, name, contact)
        await eventlog.record(late, f"{name}.saved", loser, now(), {})
    await world.until_at(name, "wait", 1)
    await settled(world)
    assert await world.outcomes(name) == {contact: [None]}
    async with world.database.begin() as connection:
        assert await merging.current(connection, [loser]) == {loser: contact}
    assert await world.run("select 1 from contact where id = :id", id=loser) == []
    await world.happen(f"{name}.submitted", contact)
    await world.until_outcomes(name, {contact: ["submitted"]})
