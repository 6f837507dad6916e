"""Whether the router has told of everything: the activity on the real database."""

import asyncio

import pytest
from sqlalchemy import text

from core import eventlog
from core.clock import now
from core.database import Database
from core.errors import Unavailable
from engine import listening
from engine.listening import Listening
from engine.wire import Listen, Listened


async def happen(database: Database) -> int:
    """An event, committed; gives its place in the log."""
    async with database.begin() as connection:
        await eventlog.record(connection, "something", 1, now())
    async with database.begin() as connection:
        return int((await connection.execute(text("select max(id) from event"))).scalar_one())


async def route(database: Database, position: int) -> None:
    """The router has come this far."""
    async with database.begin() as connection:
        await connection.execute(
            text(
                "insert into log_cursor (reader, position) values ('router', :position) "
                "on conflict (reader) do update set position = excluded.position"
            ),
            {"position": position},
        )


async def test_an_empty_log_is_heard(database: Database) -> None:
    assert await Listening(database).listen(Listen()) == Listened(0, True)


async def test_waits_for_the_router_but_not_for_later_events(database: Database) -> None:
    first = await happen(database)
    ear = Listening(database)
    question = asyncio.create_task(ear.listen(Listen()))
    again = asyncio.create_task(ear.listen(Listen(first)))
    done, _ = await asyncio.wait([question, again], timeout=0.3)
    assert not done
    second = await happen(database)
    await route(database, first)
    assert await question == await again == Listened(first, True)
    assert await asyncio.wait_for(ear.listen(Listen(first)), 1) == Listened(first, True)
    await route(database, second)
    assert await ear.listen(Listen()) == Listened(second, True)


async def test_gives_up_for_now_when_the_router_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PATIENCE_SECONDS", 0.1)
    last = await happen(database)
    assert await Listening(database).listen(Listen()) == Listened(last, False)


async def test_a_lost_database_is_told_to_all_who_ask_and_a_lost_question_to_nobody(database: Database) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    ear = Listening(nowhere)
    failed = await asyncio.gather(*(ear.listen(Listen()) for _ in range(3)), return_exceptions=True)
    assert [isinstance(error, Unavailable) for error in failed] == [True] * 3
    await nowhere.close()
    await happen(database)
    ear = Listening(database)
    given_up, kept = (asyncio.create_task(ear.listen(Listen())) for _ in range(2))
    await asyncio.sleep(0)
    given_up.cancel()
    await route(database, 1_000)
    assert (await kept).heard
