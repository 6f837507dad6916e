"""The API over a test's database, called without a network."""

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from fastapi import FastAPI

from core import access
from core.database import Database
from core.settings import Settings
from studio.api import create_app


async def make_key(database: Database, *scopes: str) -> str:
    """A new API key."""
    async with database.begin() as connection:
        return await access.create(connection, "test", scopes)


@pytest_asyncio.fixture(loop_scope="session")
async def app(database: Database, settings: Settings) -> AsyncIterator[FastAPI]:
    """The whole API app; its shutdown, which writes what waits, comes before the database goes."""
    made = create_app(settings, database)
    async with made.router.lifespan_context(made):
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def client(app: FastAPI, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key that may send events and nothing else."""
    key = await make_key(database, "events:write")
    headers = {"Authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://kaskad", headers=headers) as made:
        yield made
