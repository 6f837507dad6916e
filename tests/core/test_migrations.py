"""The migrations make what core.schema describes, whoever starts them and however often."""

import asyncio

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, exc, text

from core import migrate
from core.clock import now
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


def test_the_migrations_are_one_line_without_gaps() -> None:
    """Two branches that each wrote the next migration are noticed when they meet."""
    scripts = ScriptDirectory.from_config(migrate._config(None))
    assert len(scripts.get_heads()) == 1
    line = list(reversed(list(scripts.walk_revisions())))
    assert [one.revision for one in line] == [f"{number:04}" for number in range(1, len(line) + 1)]
    assert all(one.path.rpartition("/")[2].startswith(f"{one.revision}_") for one in line)


# Written for the tables as 0001 made them, which is frozen: these statements need never follow the models.
_DATA_OF_0001 = (
    "insert into contact (id, language, tags, attributes) overriding system value"
    " values (7, 'ru', '{vip}', '{\"plan\": \"gold\"}')",
    "insert into identity (kind, value, contact_id) values ('email', 'anna@example.com', 7)",
    "insert into journey (id, name, title) overriding system value values (1, 'welcome', 'Welcome')",
    "insert into journey_version (id, journey_id, number, source, plan) overriding system value"
    " values (1, 1, 1, 'journey: welcome', '{}')",
    "insert into cohort (id, version_id, size) overriding system value values (1, 1, 1)",
    "insert into enrollment (contact_id, cohort_id, journey_id, version_id, exclusive, state)"
    " values (7, 1, 1, 1, true, 'active')",
    "insert into event (occurred_at, contact_id, name_id, value, properties) values (now(), 7, 1, 2.5, '{\"a\": 1}')",
    "insert into message (id, created_at, contact_id, state, channel, purpose, address)"
    " values (gen_random_uuid(), now(), 7, 3, 'email', 'marketing', 'anna@example.com')",
)
_KEPT = {
    "select i.value, c.language, c.tags, c.attributes from contact c join identity i on i.contact_id = c.id": [
        ("anna@example.com", "ru", ["vip"], {"plan": "gold"})
    ],
    "select source from journey_version": [("journey: welcome",)],
    "select contact_id, state from enrollment": [(7, "active")],
    "select contact_id, value, properties from event": [(7, 2.5, {"a": 1})],
    "select contact_id, state, address from message": [(7, 3, "anna@example.com")],
}


def _first(connection: Connection) -> None:
    migrate.upgrade(connection, "0001")


async def test_a_database_of_the_first_revision_is_taken_along_with_its_data(
    empty_database: Database, settings: Settings
) -> None:
    async with empty_database.begin() as connection:
        await connection.run_sync(_first)
        for table in ("event", "message"):
            await partitions.ensure(connection, table, now(), now())
        for statement in _DATA_OF_0001:
            await connection.exec_driver_sql(statement)
    assert not await migrate.is_current(empty_database)

    await migrate.migrate(empty_database, settings)

    assert await migrate.is_current(empty_database)
    async with empty_database.begin() as connection:
        assert await connection.run_sync(migrate.differences) == []
        for query, rows in _KEPT.items():
            assert [tuple(row) for row in await connection.execute(text(query))] == rows
