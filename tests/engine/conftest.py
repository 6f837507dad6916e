"""Temporal servers for the engine's tests."""

import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from core.database import Database
from core.payloads import data_converter
from core.settings import Settings
from engine.acting import Acting
from tests.engine.steps_world import World


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server whose clock jumps over the time in which nothing happens."""
    server = Path(sysconfig.get_path("scripts")) / "temporal-test-server"
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(server), data_converter=data_converter
    ) as environment:
        yield environment


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def brief_histories() -> AsyncIterator[WorkflowEnvironment]:
    """A dev server that suggests to continue as new after few events."""
    server = Path(sysconfig.get_path("scripts")) / "temporal"
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(server),
        dev_server_log_level="error",
        data_converter=data_converter,
        dev_server_extra_args=["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=30"],
    ) as environment:
        yield environment


@pytest_asyncio.fixture(loop_scope="session")
async def world(database: Database, settings: Settings) -> AsyncIterator[World]:
    """An installation in which steps can be done."""
    acting = Acting(database, settings)
    yield World(database, settings, acting)
    await acting.close()
