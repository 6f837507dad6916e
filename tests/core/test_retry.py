"""Transactions that meet others are done again, and no others."""

import psycopg
import pytest
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import retry
from core.database import Database, driver
from core.errors import Unavailable

_FAIL = "do $$ begin raise exception 'no' using errcode = '{}'; end $$"


@pytest.mark.parametrize("state", sorted(retry.RACES))
@pytest.mark.parametrize("past_sqlalchemy", [False, True])
async def test_work_is_done_again_until_nobody_is_in_its_way(
    database: Database, state: str, past_sqlalchemy: bool
) -> None:
    tries = []

    async def work(connection: AsyncConnection) -> int:
        tries.append(1)
        await connection.execute(text("insert into event_name (name) values ('a.b')"))
        if len(tries) < 3:
            if past_sqlalchemy:
                await (await driver(connection)).execute(_FAIL.format(state))
            await connection.execute(text(_FAIL.format(state)))
        return len(tries)

    assert await retry.repeated(database, work) == 3
    async with database.begin() as connection:
        left = await connection.execute(text("select count(*) from event_name where name = 'a.b'"))
        assert left.scalar_one() == 1, "of a failed attempt nothing is left"


async def test_it_ends(database: Database) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(text(_FAIL.format("40P01")))

    with pytest.raises(Unavailable, match="others keep writing"):
        await retry.repeated(database, work)


async def test_other_errors_are_told_at_once(database: Database) -> None:
    tries = []

    async def work(connection: AsyncConnection) -> None:
        tries.append(1)
        await connection.execute(text("select 1 / 0"))

    with pytest.raises(exc.DBAPIError) as told:
        await retry.repeated(database, work)
    assert (len(tries), retry.sqlstate(told.value)) == (1, "22012")
    assert retry.sqlstate(ValueError()) is None
    assert retry.sqlstate(psycopg.errors.DeadlockDetected()) == "40P01"
