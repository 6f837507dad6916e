"""Messages a minute: turns are exact, kept, and void when they were missed."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from core.clock import now
from core.ids import message_id
from engine.pacing import pace
from engine.wire import StepRequest
from tests.engine.steps_world import World


async def ask(world: World, members: list[list[int]], at: datetime) -> tuple[list[list[int]], list[list[float]]]:
    async with world.database.begin() as connection:
        return await pace(connection, 1, 60, StepRequest(1, 0, at.timestamp(), members))


async def test_turns_are_a_second_apart_and_asking_again_takes_no_more(world: World) -> None:
    at = now()
    members = [[number, 1] for number in range(1, 6)]
    ready, wait = await ask(world, members, at)
    assert [member[0] for member in ready] == [1, 2]
    until = [row[2] for row in wait]
    assert [row[:2] for row in wait] == members[2:]
    assert [round(later - earlier, 3) for earlier, later in pairwise(until)] == [1, 1]
    again, still = await ask(world, members, at)
    assert ([member[0] for member in again], [row[2] for row in still]) == ([1, 2], until)
    _, others = await ask(world, [[9, 1]], at)
    assert others[0][2] - until[-1] == pytest.approx(1, abs=0.2)  # our clock and the database's differ a little


async def test_a_turn_whose_time_has_come_is_taken_and_a_missed_one_is_void(world: World) -> None:
    at = now()
    await ask(world, [[number, 1] for number in range(1, 9)], at)
    await world.run("update sending_turn set leaves_at = now() - interval '30 seconds' where enrollment_id = 7")
    await world.run("update sending_turn set leaves_at = now() - interval '1 day' where enrollment_id = 8")
    ready, wait = await ask(world, [[7, 1], [8, 1]], now())
    assert ready == [[7, 1]]
    assert wait[0][:2] == [8, 1]
    assert wait[0][2] > (at + timedelta(seconds=6)).timestamp()


async def test_a_batch_that_was_prepared_is_let_through(world: World) -> None:
    at = now()
    await world.run("insert into rate_limit (name, free_at) values ('journey:1', now() + interval '1 hour')")
    await world.run(
        "insert into message (id, created_at, contact_id, enrollment_id, state, channel, purpose) "
        "values (:id, :at, 1, 5, 10, 'email', 'marketing')",
        id=message_id(5, 1), at=datetime.fromtimestamp(at.timestamp(), at.tzinfo),
    )  # fmt: skip
    ready, wait = await ask(world, [[5, 1], [6, 1]], at)
    assert ready == [[5, 1]]
    assert [row[:2] for row in wait] == [[6, 1]]
