"""The group commit, on a real database: each event once, in order, and no neighbour suffers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import text

from core.clock import now
from core.database import Database
from core.errors import DatabaseUnavailable, Problem
from core.schema.partitions import month_start, months
from core.settings import Settings
from studio.stack.postgres import EmbeddedPostgres
from tracker import Busy, Duplicate, Incoming, Intake, Stored
from tracker.ingest import SEARCHES


def incoming(number: int = 0, **changes: Any) -> Incoming:
    base = Incoming(
        index=number,
        id=f"e-{number}",
        name="page.viewed",
        kind="external_id",
        identity=f"u-{number}",
        at=now(),
        value=None,
        properties=msgspec.json.encode({"n": number}),
    )
    return msgspec.structs.replace(base, **changes)


@pytest_asyncio.fixture(loop_scope="session")
async def intake(database: Database, settings: Settings) -> AsyncIterator[Intake]:
    made = Intake(database, settings)
    yield made
    await made.close()


async def rows(database: Database, query: str) -> Sequence[Any]:
    async with database.begin() as connection:
        return list((await connection.execute(text(query))).all())


async def numbers(database: Database) -> list[int]:
    """The property `n` of all events in the order of the log."""
    return [n for (n,) in await rows(database, "select cast(properties->>'n' as int) from event order by id")]


async def test_an_event_is_written_with_its_contact(intake: Intake, database: Database) -> None:
    at = now() - timedelta(minutes=3)
    event = incoming(1, at=at, value=2.5, properties=rb'{"n":1,"t":"back\\slash \"quote\" \n tab\t \u00e9"}')
    assert await intake.take([event], 1) == [Stored()]
    query = """select e.occurred_at, e.value, e.properties, n.name, i.kind, i.value
        from event e join event_name n on n.id = e.name_id join identity i on i.contact_id = e.contact_id"""
    properties = {"n": 1, "t": 'back\\slash "quote" \n tab\t é'}
    assert await rows(database, query) == [(at, 2.5, properties, "page.viewed", "external_id", "u-1")]


async def test_an_id_is_stored_once_however_it_comes_again(intake: Intake, database: Database) -> None:
    twice = [incoming(1), incoming(2), incoming(1)]
    assert await intake.take(twice, 1) == [Stored(), Stored(), Duplicate()]
    assert await intake.take(twice, 1) == [Duplicate()] * 3
    together = await asyncio.gather(*(intake.take([incoming(3)], 1) for _ in range(20)))
    assert sorted(str(fate) for (fate,) in together) == ["Duplicate()"] * 19 + ["Stored()"]
    assert await numbers(database) == [1, 2, 3]


async def test_an_id_counts_within_its_sender(intake: Intake, database: Database) -> None:
    assert await intake.take([incoming(1)], 1) == [Stored()]
    assert await intake.take([incoming(1)], 2) == [Stored()]
    assert await intake.take([incoming(1, id=None), incoming(1, id=None)], 1) == [Stored(), Stored()]
    assert len(await numbers(database)) == 4


async def test_requests_that_come_together_commit_together(intake: Intake, database: Database) -> None:
    fates = await asyncio.gather(*(intake.take([incoming(n)], 1) for n in range(300)))
    assert all(fate == [Stored()] for fate in fates)
    assert await numbers(database) == list(range(300))
    ((transactions,),) = await rows(database, "select count(distinct xmin::text) from event")
    assert transactions <= 3


async def test_two_processes_store_the_same_ids_once(database: Database, settings: Settings) -> None:
    intakes = [Intake(database, settings) for _ in range(2)]
    events = [incoming(n) for n in range(200)]
    one, two = await asyncio.gather(
        *(
            asyncio.gather(*(one.take([event], 1) for event in order))
            for one, order in zip(intakes, (events, events[::-1]), strict=True)
        )
    )
    assert len([fates for fates in (*one, *two) if fates == [Stored()]]) == 200
    assert sorted(await numbers(database)) == list(range(200))
    for one_intake in intakes:
        await one_intake.close()


REFUSE = """
create function refuse() returns trigger language plpgsql as $$ begin
  if new.properties ? 'poison' then raise exception 'no poison here' using errcode = '22000'; end if;
  return new; end $$;
create trigger refuse before insert on event for each row execute function refuse();
"""


async def test_poison_is_answered_alone(intake: Intake, database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text(REFUSE))
    poison = {13: b'{"poison":1}', 64: b'{"poison":2}'}
    events = [incoming(n, **({"properties": poison[n]} if n in poison else {})) for n in range(100)]
    fates = await asyncio.gather(intake.take(events[:50], 1), intake.take(events[50:], 1))
    flat = [fate for parcel in fates for fate in parcel]
    refused = {n: fate for n, fate in enumerate(flat) if isinstance(fate, Problem)}
    assert refused.keys() == poison.keys()
    assert "no poison here" in refused[13].message
    assert await numbers(database) == [n for n in range(100) if n not in poison]
    # Its id was not used up: mended, the event is taken.
    assert await intake.take([incoming(13)], 1) == [Stored()]


async def test_one_request_full_of_poison_is_searched_so_far_and_no_further(intake: Intake, database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text(REFUSE + "create sequence tried"))
        await connection.execute(
            text("create or replace function refuse() returns trigger language plpgsql as " + COUNT)
        )
    rotten = [incoming(n, id=None, properties=b'{"poison":1}') for n in range(1000)]
    good = [incoming(n) for n in range(3)]
    fates, neighbour = await asyncio.gather(intake.take([*rotten, good[0]], 1), intake.take(good[1:], 1))
    assert all(isinstance(fate, Problem) for fate in fates[:-1])
    assert any("not tried" in str(fate) for fate in fates)
    assert neighbour == [Stored(), Stored()]
    ((tried,),) = await rows(database, "select last_value from tried")
    assert tried <= SEARCHES + 8


COUNT = """$$ begin perform nextval('tried');
  if new.properties ? 'poison' then raise exception 'no poison here' using errcode = '22000'; end if; return new; end $$
"""


async def test_a_server_that_only_reads_is_no_events_fault(
    intake: Intake, database: Database, postgres: EmbeddedPostgres
) -> None:
    """As after a failover: what comes meanwhile may be sent again, and is not called unfit."""
    assert await intake.take([incoming(1)], 1) == [Stored()]
    name = database.engine.url.database
    async with await psycopg.AsyncConnection.connect(postgres.superuser_url, autocommit=True) as admin:
        await admin.execute(f'alter database "{name}" set default_transaction_read_only = on')
        await database.close()
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await intake.take([incoming(2), incoming(3)], 1)
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await intake.take([incoming(4, name="never.seen")], 1)
        await admin.execute(f'alter database "{name}" reset default_transaction_read_only')
    await database.close()
    assert await intake.take([incoming(2), incoming(3)], 1) == [Stored(), Stored()]


async def test_a_flood_of_names_beyond_the_limit_asks_the_database_once(database: Database, settings: Settings) -> None:
    intake = Intake(database, settings.model_copy(update={"event_names_limit": 1}))
    assert [type(fate) for fate in await intake.take([incoming(1), incoming(2, name="z")], 1)] == [Stored, Problem]
    async with database.begin() as holder:
        await holder.execute(text("lock table event_name in access exclusive mode"))
        async with asyncio.timeout(5):
            fates = await intake.take([incoming(3), incoming(4, name="c"), incoming(5, name="z")], 1)
        assert [type(fate) for fate in fates] == [Stored, Problem, Problem]
    await intake.close()


async def test_names_are_bounded(database: Database, settings: Settings) -> None:
    intake = Intake(database, settings.model_copy(update={"event_names_limit": 2}))
    fates = await intake.take([incoming(n, name=name) for n, name in enumerate(["a", "b", "c", "a"])], 1)
    assert [type(fate) for fate in fates] == [Stored, Stored, Problem, Stored]
    assert "'c' would be one name of an event more than the 2 allowed" in str(fates[2])
    assert await numbers(database) == [0, 1, 3]
    await intake.close()


async def test_months_without_a_partition_get_one(intake: Intake, database: Database) -> None:
    old = now() - timedelta(days=400)
    assert await intake.take([incoming(1, at=old), incoming(2)], 1) == [Stored(), Stored()]
    async with database.begin() as connection:
        assert month_start(old) in await months(connection, "event")
        await connection.execute(text(f"drop table event_{old:%Y_%m}"))
    assert await intake.take([incoming(3, at=old)], 1) == [Stored()]
    assert sorted(await numbers(database)) == [2, 3]


async def test_the_month_is_that_of_utc(intake: Intake, database: Database) -> None:
    at = datetime(2025, 6, 30, 23, 59, 59, 999999, tzinfo=UTC)
    assert await intake.take([incoming(1, at=at), incoming(2, at=at + timedelta(microseconds=1))], 1) == [Stored()] * 2
    assert await rows(database, "select tableoid::regclass::text from event order by id") == [
        ("event_2025_06",),
        ("event_2025_07",),
    ]


async def test_a_full_queue_refuses_and_recovers(database: Database, settings: Settings) -> None:
    intake = Intake(database, settings.model_copy(update={"event_queue_limit": 10}))
    first = asyncio.ensure_future(intake.take([incoming(n) for n in range(8)], 1))
    await asyncio.sleep(0)
    with pytest.raises(Busy, match="try again"):
        await intake.take([incoming(n) for n in range(8, 16)], 1)
    assert await first == [Stored()] * 8
    # A request larger than the queue is still taken when nothing else waits.
    assert await intake.take([incoming(n) for n in range(8, 30)], 1) == [Stored()] * 22
    await intake.close()


async def test_closing_writes_what_waits_and_takes_no_more(database: Database, settings: Settings) -> None:
    intake = Intake(database, settings)
    waiting = [asyncio.ensure_future(intake.take([incoming(n)], 1)) for n in range(50)]
    await asyncio.sleep(0)
    await intake.close()
    assert [fate for future in waiting for fate in await future] == [Stored()] * 50
    assert len(await numbers(database)) == 50
    with pytest.raises(Busy):
        await intake.take([incoming(99)], 1)


async def test_a_request_given_up_harms_nobody(intake: Intake, database: Database) -> None:
    given_up = asyncio.ensure_future(intake.take([incoming(1)], 1))
    kept = asyncio.ensure_future(intake.take([incoming(2)], 1))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await kept == [Stored()]
    assert await numbers(database) == [1, 2]


async def test_a_lost_connection_is_told_and_got_over(
    intake: Intake, database: Database, postgres: EmbeddedPostgres
) -> None:
    """The flush is caught while it waits for the log's lock, and its connection is cut."""
    await intake.take([incoming(1)], 1)
    async with database.begin() as holder:
        await holder.execute(text("lock table event in access exclusive mode"))
        caught = asyncio.ensure_future(intake.take([incoming(2)], 1))
        async with await psycopg.AsyncConnection.connect(postgres.superuser_url, autocommit=True) as admin:
            cut = 0
            while not cut:
                cursor = await admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where wait_event_type = 'Lock' and datname = %s",
                    (database.engine.url.database,),
                )
                cut = len(await cursor.fetchall())
                await asyncio.sleep(0.01)
        with pytest.raises(DatabaseUnavailable):
            await caught
    assert await intake.take([incoming(2)], 1) == [Stored()]
    assert await numbers(database) == [1, 2]


async def test_no_database_is_told_at_once(settings: Settings) -> None:
    nowhere = Database("postgresql://kaskad@127.0.0.1:1/kaskad")
    intake = Intake(nowhere, settings)
    with pytest.raises(DatabaseUnavailable):
        await intake.take([incoming(1)], 1)
    await intake.close()
    await nowhere.close()
