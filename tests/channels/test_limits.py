"""Rate limits on a real database, from several processes."""

import asyncio
import sys
from datetime import timedelta
from decimal import Decimal

import pytest

from channels import limits
from channels.provider import NotNow
from core.database import Database

TAKER = """
import asyncio, random, sys
from sqlalchemy import text
from channels import limits
from core.database import Database

async def main():
    database = Database(sys.argv[1], pool=1)
    chance = random.Random(sys.argv[2])
    for _ in range(150):
        turns = chance.randint(1, 7)
        async with database.begin() as connection:
            await limits.take(connection, "main:total", 50, turns)
            found = await connection.execute(text("select extract(epoch from free_at) from rate_limit"))
            print(turns, found.scalar_one())
    await database.close()

asyncio.run(main())
"""


async def test_turns_of_two_processes_are_exactly_one_after_the_other(database: Database) -> None:
    """However the two come to take, all that they are given lies a fiftieth of a second apart: no second holds more
    than fifty, and none fewer."""
    async with database.begin() as connection:  # a minute ahead, so that the two never let a turn pass
        await limits.take(connection, "main:total", 50, 3000)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", TAKER, database.url, str(number), stdout=asyncio.subprocess.PIPE
        )
        for number in range(2)
    ]
    outputs = [(await process.communicate())[0].decode().splitlines() for process in processes]
    assert [len(lines) for lines in outputs] == [150, 150]
    taken = sorted(
        (Decimal(until), int(turns)) for lines in outputs for turns, until in (line.split() for line in lines)
    )
    starts = [until - turns * Decimal("0.02") for until, turns in taken]
    assert starts[1:] == [until for until, _ in taken[:-1]]


async def test_turns_follow_each_other(database: Database) -> None:
    async with database.begin() as connection:
        first = await limits.take(connection, "a", 10)
        second = await limits.take(connection, "a", 10, 10)
        other = await limits.take(connection, "b", 10)
    assert first == other == timedelta()
    assert timedelta(seconds=0.9) < second <= timedelta(seconds=1)


async def test_a_turn_too_far_away_is_refused_and_not_reserved(database: Database) -> None:
    async with database.begin() as connection:
        await limits.take(connection, "a", 10, 5)
    for _ in range(2):
        with pytest.raises(NotNow) as caught:
            async with database.begin() as connection:
                await limits.take(connection, "a", 10, 10, timedelta(seconds=0.2))
        assert timedelta(seconds=0.1) <= caught.value.retry_after <= timedelta(seconds=0.6)
    async with database.begin() as connection:
        assert await limits.take(connection, "a", 10, 1, timedelta(seconds=1)) <= timedelta(seconds=0.5)
