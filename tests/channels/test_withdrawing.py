"""Messages that are prepared and are not to leave any more, or not now, on a real database."""

import asyncio
from datetime import datetime, timedelta

import pytest

import channels
from channels import DeliverRequest, Item, attempt
from channels.policy import Reason
from channels.provider import NotNow
from core.schema.messages import MessageState as S
from tests.channels.world import World


async def withdraw(world: World, at: datetime, items: list[Item], reason: Reason = Reason.LEFT_JOURNEY) -> int:
    async with world.database.begin() as connection:
        return await channels.withdraw(connection, at, items, reason)


async def deliver(world: World, items: list[Item], at: datetime) -> None:
    journey = (await world.run("select journey_id from journey_version where id = :id", id=world.version_id))[0][0]
    request = DeliverRequest("main", at, items, repeat_in_doubt=False, journey_id=journey)
    await world.delivery.deliver(request, lambda: None)


async def test_what_has_not_left_is_skipped_and_never_leaves(world: World, at: datetime) -> None:
    items = await world.enroll(3)
    await world.prepare(items, at)
    await world.deliver(items[:1], at)
    assert await withdraw(world, at, items, Reason.JOURNEY_STOPPED) == 0
    assert await withdraw(world, at, items) == 0
    await world.deliver(items, at)
    assert [(row.state, row.reason) for row in await world.rows()] == [
        (S.ACCEPTED, None),
        (S.SKIPPED, "journey_stopped"),
        (S.SKIPPED, "journey_stopped"),
    ]
    assert len(world.recorder.letters) == 1


async def test_what_is_just_being_handed_over_is_left_to_its_attempt(world: World, at: datetime) -> None:
    items = await world.enroll(2)
    await world.prepare(items, at)
    await world.run("update message set state = 20, claim = gen_random_uuid(), claimed_at = clock_timestamp()")
    assert await withdraw(world, at, items) == 2
    assert await world.states() == [S.HANDING, S.HANDING]
    await world.run("update message set claimed_at = clock_timestamp() - interval '1 minute'")
    assert await withdraw(world, at, items) == 0
    assert await world.states() == [S.IN_DOUBT, S.IN_DOUBT]


@pytest.mark.parametrize("state", ["paused", "stopped"])
async def test_nothing_is_handed_over_while_the_journey_is_held(
    world: World, at: datetime, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "PATIENCE", timedelta(seconds=0.2))
    items = await world.enroll(3)
    await world.prepare(items, at)
    await world.run("update journey set state = :state", state=state)
    with pytest.raises(NotNow):
        await deliver(world, items, at)
    assert world.recorder.letters == []
    assert await world.states() == [S.QUEUED] * 3
    await world.run("update journey set state = 'active'")
    await asyncio.gather(deliver(world, items, at), deliver(world, items, at), return_exceptions=True)
    assert len(world.recorder.letters) == 3
