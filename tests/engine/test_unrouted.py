"""What fails on one event, or in one duty, stops nothing else and is not lost in silence."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import eventlog
from core.clock import now
from core.database import Database
from core.errors import DatabaseUnavailable, InvalidInput
from core.settings import Settings
from engine import conversions, roles
from engine.router import Router
from engine.routing import LoggedEvent
from engine.versions import Version, Versions
from journeys import store
from segments import eventfilter
from tests.engine.test_comings import Deaf


@pytest.fixture
async def three(database: Database) -> Database:
    """Three contacts, and two journeys that begin by the same event."""
    async with database.begin() as connection:
        await connection.execute(text("insert into contact (id) overriding system value values (1), (2), (3)"))
        await store.publish(connection, "journey: any\nenter: {event: saved}\nsteps: [{wait: 1h}]\n")
        await store.publish(
            connection, "journey: big\nenter: {event: saved, where: {event.size: {gte: 3}}}\nsteps: [{wait: 1h}]\n"
        )
    return database


async def happen(database: Database, contact: int, **properties: Any) -> None:
    async with database.begin() as connection:
        await eventlog.record(connection, "saved", contact, now(), properties)


async def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    async with database.begin() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


INSIDE = "select e.contact_id, j.name from enrollment e join journey j on j.id = e.journey_id order by 1, 2"
LEFT_OUT = (
    "select coalesce(j.name, '-'), u.error from unrouted_event u left join journey j on j.version_id = u.version_id"
)


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something after the decisions fails on events that are poison."""
    record = conversions.record

    async def fail(
        connection: AsyncConnection, versions: Mapping[str, Sequence[Version]], events: Sequence[LoggedEvent]
    ) -> int:
        if any("poison" in event.properties for event in events):
            raise OverflowError("too large")
        return await record(connection, versions, events)

    monkeypatch.setattr(conversions, "record", fail)


@pytest.mark.usefixtures("poison")
async def test_one_event_that_cannot_be_routed_stops_no_other(three: Database, settings: Settings) -> None:
    await happen(three, 1, size=5)
    await happen(three, 2, size=5, poison=True)
    await happen(three, 3, size=1)
    router = Router(three, settings, Deaf(), Versions())
    assert await router.round() == 3
    assert await rows(three, INSIDE) == [(1, "any"), (1, "big"), (3, "any")]
    assert await rows(three, LEFT_OUT) == [("-", "OverflowError")]
    assert await router.round() == 0


@pytest.mark.usefixtures("poison")
async def test_where_nothing_can_be_routed_nothing_is_left_out(three: Database, settings: Settings) -> None:
    router = Router(three, settings, Deaf(), Versions())
    for contact in (1, 2):
        await happen(three, contact, poison=True)
        with pytest.raises(OverflowError):
            await router.round()
    assert await rows(three, LEFT_OUT) == []
    await happen(three, 3)
    assert await router.round() == 3
    assert await rows(three, INSIDE) == [(3, "any")]
    assert await rows(three, LEFT_OUT) == [("-", "OverflowError")] * 2


async def test_criteria_that_fail_are_not_met_and_other_journeys_go_on(
    three: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    matches = eventfilter.matches

    def fail(where: Any, properties: Any, known: Any) -> bool:
        if where and properties.get("size") == "huge":
            raise RecursionError
        return matches(where, properties, known)

    monkeypatch.setattr(eventfilter, "matches", fail)
    await happen(three, 1, size="huge")
    await happen(three, 2, size=4)
    assert await Router(three, settings, Deaf(), Versions()).round() == 2
    assert await rows(three, INSIDE) == [(1, "any"), (2, "any"), (2, "big")]
    assert await rows(three, LEFT_OUT) == [("big", "RecursionError")]


async def test_a_duty_that_fails_ends_neither_the_others_nor_itself() -> None:
    stop, lock, turns = asyncio.Event(), roles._Lock(_held), 0

    async def fails() -> float:
        raise InvalidInput("a segment that nobody can count")

    async def goes_on() -> float:
        nonlocal turns
        turns += 1
        if turns == 3:
            stop.set()
        return 0.01

    failures = roles.FAILURES.labels("fails")._value
    before = failures.get()
    async with asyncio.timeout(10):
        await roles._until_lost(stop, lock, [fails, goes_on])
    assert turns == 3
    assert failures.get() == before + 1


async def test_without_its_lock_a_router_ends_its_duties() -> None:
    ended = asyncio.Event()

    async def works() -> float:
        try:
            return await asyncio.sleep(60, 0.0)
        finally:
            ended.set()

    with pytest.raises(DatabaseUnavailable):
        await roles._until_lost(asyncio.Event(), roles._Lock(_lost), [works])
    assert ended.is_set()


async def _held() -> None:
    """The lock is still ours."""


async def _lost() -> None:
    await asyncio.sleep(0.05)
    raise DatabaseUnavailable("it went away")
