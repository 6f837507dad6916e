"""A pause reaches every cohort, also one that is just being started, on real servers."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import text
from temporalio.api.enums.v1 import EventType
from temporalio.testing import WorkflowEnvironment

from core.clock import now
from core.database import Database
from core.payloads import data_converter
from core.settings import Settings
from engine import broadcasts
from engine.cohorts import Cohorts
from engine.entries import Placed
from engine.versions import Versions
from engine.wire import News, cohort_workflow_id
from journeys import store


class Overtaken(Cohorts):
    """Whoever starts cohorts, overtaken by a pause between their rows' commit and their workflows' start."""

    async def join(self, database: Database, placed: Sequence[Placed]) -> None:
        """Start them after the pause was spread."""
        async with database.begin() as connection:
            await store.set_state(connection, "j", "paused")
        assert await self.spread_control(database) == 0
        await super().join(database, placed)


@pytest.fixture
async def entered(database: Database) -> Database:
    """A contact about to enter a journey."""
    async with database.begin() as connection:
        await connection.execute(text("insert into contact (id) overriding system value values (1)"))
        await store.publish(connection, "journey: j\nsteps: [{wait: 1h}]\n")
        number = int(now().timestamp() * 1000)  # workflow ids come from cohort numbers, and tests share the server
        await connection.execute(text("select setval(pg_get_serial_sequence('cohort', 'id'), :at)"), {"at": number})
        await broadcasts.start(connection, "j", occasion="x", contact_ids=[1])
    return database


async def _told(environment: WorkflowEnvironment, cohort: int) -> list[tuple[int, str]]:
    """What a cohort was told of its journey's state."""
    handle = environment.client.get_workflow_handle(cohort_workflow_id(cohort))
    news: list[tuple[int, str]] = []
    async for event in handle.fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            payloads = event.workflow_execution_signaled_event_attributes.input
            (one,) = await data_converter.decode(payloads.payloads, [News])
            news.append((one.control, one.state))
    return news


async def test_a_pause_while_a_cohort_is_being_started_is_told_to_it(
    entered: Database, settings: Settings, brief_histories: WorkflowEnvironment
) -> None:
    cohorts = Overtaken(brief_histories.client, settings)
    await broadcasts.next_page(entered, settings, cohorts, Versions())
    for _ in range(200):
        if await cohorts.spread_control(entered):
            break
        await asyncio.sleep(0.05)
    async with entered.begin() as connection:
        row = (
            await connection.execute(text("select c.id, c.control, j.control as wanted from cohort c, journey j"))
        ).one()
    assert row.control == row.wanted
    assert await _told(brief_histories, row.id) == [(row.wanted - 1, "active"), (row.wanted, "paused")]
    assert await cohorts.spread_control(entered) == 0
