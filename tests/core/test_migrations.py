"""The migrations make what core.schema describes, whoever starts them and however often."""

import asyncio

import pytest
from sqlalchemy import exc, text

from core import migrate
from core.database import Database
from core.errors import Conflict
from core.schema import partitions
from core.settings import Settings


async def test_models_equal_migrations(database: Database) -> None:
    async with database.begin() as connection:
        assert await connection.run_sync(migrate.differences) == []


async def test_a_column_that_no_migration_makes_is_noticed(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("alter table contact drop column language"))
        assert await connection.run_sync(migrate.differences) != []


async def test_migrating_at_the_same_time_and_again(empty_database: Database, settings: Settings) -> None:
    assert not await migrate.is_current(empty_database)
    await asyncio.gather(*(migrate.migrate(empty_database, settings) for _ in range(4)))
    await migrate.migrate(empty_database, settings)
    assert await migrate.is_current(empty_database)
    async with empty_database.begin() as connection:
        for table in partitions.PARTITIONED:
            assert len(await partitions.months(connection, table)) >= 4


async def test_a_database_of_a_newer_version_is_refused(database: Database, settings: Settings) -> None:
    async with database.begin() as connection:
        await connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(Conflict, match="newer version"):
        await migrate.migrate(database, settings)


@pytest.mark.parametrize("statement", ["update journey_version set source = ''", "delete from journey_version"])
async def test_published_versions_never_change(database: Database, statement: str) -> None:
    async with database.begin() as connection:
        await connection.execute(text("insert into journey (name, title) values ('a', 'A')"))
        await connection.execute(
            text("insert into journey_version (journey_id, number, source, plan) values (1, 1, 'x', '{}')")
        )
    with pytest.raises(exc.IntegrityError, match="never changes"):
        async with database.begin() as connection:
            await connection.execute(text(statement))
