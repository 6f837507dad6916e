"""What all tests share: one real PostgreSQL for the session, a fresh clone of a migrated database for each test."""

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from sqlalchemy.engine import make_url

from channels import providers
from core.database import Database
from core.migrate import migrate
from core.settings import Settings
from studio.stack.postgres import DATABASE, EmbeddedPostgres
from studio.stack.scratch import FORGETFUL, scratch_server

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slow` runs the tests that take minutes."""
    parser.addoption("--slow", action="store_true", help="run tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, visibly, what is slow unless it was asked for."""
    if not config.getoption("--slow"):
        # Minutes each: random crashes and cases by the hundred. A shorter run of each is among the other tests.
        skip = pytest.mark.skip(reason="slow: run it with --slow")
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    """Tests must not reach the installation that the developer's environment points at."""
    for name in list(os.environ):
        if name.startswith("KASKAD_") and name != "KASKAD_REQUIRE_PEERS":
            del os.environ[name]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[EmbeddedPostgres]:
    """The session's server, with a migrated template database in it."""
    async with scratch_server(FORGETFUL) as server:
        template = Database(server.url, pool=2)
        await migrate(template, Settings(data=server.data))
        await template.close()
        yield server


async def _as_superuser(server: EmbeddedPostgres, statement: sql.Composed) -> None:
    async with await psycopg.AsyncConnection.connect(server.superuser_url, autocommit=True) as connection:
        await connection.execute(statement)


@pytest_asyncio.fixture(loop_scope="session")
async def empty_database(postgres: EmbeddedPostgres) -> AsyncIterator[Database]:
    """A database of Kaskad's role with nothing in it."""
    async for database in _fresh(postgres, "template0"):
        yield database


@pytest_asyncio.fixture(loop_scope="session")
async def database(postgres: EmbeddedPostgres) -> AsyncIterator[Database]:
    """A database with the schema and this and the next months' partitions, dropped after the test."""
    async for database in _fresh(postgres, DATABASE):
        yield database


async def _fresh(server: EmbeddedPostgres, template: str) -> AsyncIterator[Database]:
    name = f"test_{next(_numbers)}"
    await _as_superuser(
        server,
        sql.SQL("create database {} template {} owner kaskad strategy file_copy").format(
            sql.Identifier(name), sql.Identifier(template)
        ),
    )
    url = make_url(server.url).set(database=name).render_as_string(hide_password=False)
    database = Database(url)
    try:
        yield database
    finally:
        await database.close()
        await _as_superuser(server, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest_asyncio.fixture(loop_scope="session")
async def email_provider(database: Database, settings: Settings) -> None:
    """Somebody who carries email, so that journeys which send it can be published."""
    async with database.begin() as connection:
        await providers.add(connection, settings, "hole", "blackhole://")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with everything at its default and the data folder in a temporary place."""
    return Settings(data=tmp_path / "data")
