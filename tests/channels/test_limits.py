"""Rate limits on a real database, from several processes."""

import asyncio
import sys
from datetime import timedelta

import pytest

from channels import limits
from channels.provider import NotNow
from core.database import Database

TAKER = """
import asyncio, sys, time
from channels import limits
from core.database import Database

async def main():
    database = Database(sys.argv[1], pool=1)
    left = 0
    ends = time.monotonic() + 1.5
    while time.monotonic() < ends:
        async with database.begin() as connection:
            wait = await limits.take(connection, "main:total", 100, 5)
        await asyncio.sleep(wait.total_seconds())
        if time.monotonic() < ends:
            left += 5
    await database.close()
    print(left)

asyncio.run(main())
"""


async def test_the_rate_holds_over_two_processes(database: Database) -> None:
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", TAKER, database.url, stdout=asyncio.subprocess.PIPE)
        for _ in range(2)
    ]
    outputs = [await process.communicate() for process in processes]
    left = [int(output) for output, _ in outputs]
    # 100 a second for a second and a half; starting apart, the two may cover half a second more.
    assert 100 <= sum(left) <= 215
    assert min(left) >= 20


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
