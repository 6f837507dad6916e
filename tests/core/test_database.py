"""Connections lent past the pool, and lists written for PostgreSQL."""

import asyncio

import psycopg
import pytest

from core.database import Database, array, driver
from core.errors import DatabaseUnavailable
from studio.stack.postgres import EmbeddedPostgres


async def backend(database: Database) -> int:
    async with database.direct() as connection:
        return connection.info.backend_pid


async def test_a_direct_connection_is_kept_for_the_next(database: Database) -> None:
    assert await backend(database) == await backend(database)


async def test_what_fails_on_a_direct_connection_is_rolled_back(database: Database) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        async with database.direct() as connection, connection.pipeline():
            await connection.execute("begin")
            await connection.execute("insert into event_name (name) values ('half.done')")
            await connection.execute("select 1 / 0")
            await connection.execute("commit")
    async with database.direct() as connection:
        cursor = await connection.execute("select count(*) from event_name where name = 'half.done'")
        assert await cursor.fetchall() == [(0,)]


async def test_a_direct_connection_that_was_cut_while_idle_is_replaced(
    database: Database, postgres: EmbeddedPostgres
) -> None:
    first = await backend(database)
    async with await psycopg.AsyncConnection.connect(postgres.superuser_url, autocommit=True) as admin:
        await admin.execute("select pg_terminate_backend(%s, 5000)", (first,))
    assert await backend(database) != first


async def test_a_direct_connection_given_up_in_the_middle_is_not_lent_again(database: Database) -> None:
    first = await backend(database)
    with pytest.raises(asyncio.CancelledError):
        async with database.direct() as connection:
            await connection.execute("begin")
            raise asyncio.CancelledError
    assert await backend(database) != first


async def test_a_direct_connection_lost_after_an_error_leaves_that_error_to_be_told(
    database: Database, postgres: EmbeddedPostgres
) -> None:
    first = await backend(database)
    with pytest.raises(psycopg.errors.DivisionByZero):
        async with database.direct() as connection:
            await connection.execute("begin")
            try:
                await connection.execute("select 1 / 0")
            finally:
                async with await psycopg.AsyncConnection.connect(postgres.superuser_url, autocommit=True) as admin:
                    await admin.execute("select pg_terminate_backend(%s, 5000)", (first,))
    assert connection.closed
    assert await backend(database) != first


async def test_a_full_disk_is_called_by_its_name(database: Database) -> None:
    full = "do $$ begin raise 'could not extend file: No space left on device' using errcode = '53100'; end $$"
    with pytest.raises(DatabaseUnavailable, match="the database's disk is full: free space"):
        async with database.begin() as sqlalchemy:
            await sqlalchemy.exec_driver_sql(full)
    with pytest.raises(DatabaseUnavailable, match="the database's disk is full: free space"):
        async with database.begin() as sqlalchemy:
            await (await driver(sqlalchemy)).execute(full)
    with pytest.raises(DatabaseUnavailable, match="the database's disk is full: free space"):
        async with database.direct() as direct:
            await direct.execute(full)


async def test_no_direct_connection_without_a_server() -> None:
    nowhere = Database("postgresql://kaskad@127.0.0.1:1/kaskad")
    with pytest.raises(DatabaseUnavailable):
        async with nowhere.direct():
            pass
    await nowhere.close()


async def test_lists_arrive_as_they_are(database: Database) -> None:
    texts = [
        "",
        "null",
        "NULL",
        None,
        'a"b',
        "a\\b",
        "{a,b}",
        " a ",
        "a\nb\tc\x01",
        "ё😀",
        "'; drop table event --",
        "a,b",
    ]
    async with database.direct() as connection:
        cursor = await connection.execute("select %s::text[]", (array(texts),))
        assert await cursor.fetchall() == [(texts,)]
        cursor = await connection.execute("select %s::text[]", (array([]),))
        assert await cursor.fetchall() == [([],)]


async def test_a_direct_connection_that_is_lent_when_all_are_closed_closes_when_it_comes_back(
    database: Database,
) -> None:
    async with database.direct() as connection:
        await database.close()
        await connection.execute("select 1")
    assert connection.closed
