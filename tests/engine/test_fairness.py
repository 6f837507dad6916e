"""A journey with many contacts in the queue leaves others their share, on the embedded Temporal server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from core import temporal
from core.clock import now
from core.database import Database
from core.settings import Settings
from engine.cohort import CohortWorkflow
from engine.cohorts import Cohorts
from engine.entries import Cohort, Placed
from engine.versions import Version
from engine.wire import MAIN_QUEUE, HandedOver, HandOver, Prepared, RecordRequest, StepRequest, cohort_workflow_id
from journeys.plan import Plan, Send
from studio.stack.process import free_port
from studio.stack.temporal import EmbeddedTemporal, plain
from tests.journeys.test_machine import REFERENCE

MANY, FEW = 100, 5


class Queue:
    """Activities that remember in which order they were asked to hand over."""

    def __init__(self) -> None:
        self.handed: list[int] = []
        self.prepared: list[int] = []
        self.wanted = 0
        self.done, self.all_prepared = asyncio.Event(), asyncio.Event()

    @activity.defn
    async def record(self, request: RecordRequest) -> None:
        """Nobody looks at it."""

    @activity.defn
    async def prepare(self, request: StepRequest) -> Prepared:
        """Everybody gets the message."""
        self.prepared += [enrollment for enrollment, _ in request.members]
        if len(self.prepared) == self.wanted:
            self.all_prepared.set()
        return Prepared({"main": request.members}, [], [])

    @activity.defn
    async def deliver(self, request: HandOver) -> HandedOver:
        """Remember who was served."""
        self.handed += [enrollment for enrollment, _ in request.members]
        if len(self.handed) == MANY + FEW:
            self.done.set()
        return HandedOver([], 0.0)


@pytest_asyncio.fixture(loop_scope="session")
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    server = EmbeddedTemporal(tmp_path, free_port(), tmp_path / "temporal.log")
    await server.start()
    try:
        yield await temporal.connect(plain("default"), server.address)
    finally:
        await server.stop()


async def _until_queued(client: Client, cohorts: range, what: str = "deliver") -> None:
    """Wait until each cohort's letter is in the queue of those who hand it over, or prepare it."""
    for cohort in cohorts:
        handle = client.get_workflow_handle(cohort_workflow_id(cohort))
        for _ in range(600):
            pending = (await handle.describe()).raw_description.pending_activities
            if any(one.activity_type.name == what for one in pending):
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError(f"the cohort {cohort} never came to its letter")


def _placed(journey: int, numbers: range, plan: Plan, *, broadcast: bool = False) -> list[Placed]:
    """A cohort of one contact for each number."""
    version = Version(journey, journey, "reference", plan, plan.model_dump(mode="json"))
    return [
        Placed(Cohort(number, journey, now(), broadcast, 1, "active"), version, [[number, number]])
        for number in numbers
    ]


def _with_priority(priority: str) -> Plan:
    steps = [
        step.model_copy(update={"priority": priority}) if isinstance(step, Send) else step for step in REFERENCE.steps
    ]
    return REFERENCE.model_copy(update={"steps": tuple(steps)})


async def test_alerts_go_before_triggered_messages_before_broadcasts_in_every_queue(
    client: Client, database: Database, settings: Settings
) -> None:
    """Their work waits in one queue, the least urgent first, for a worker with room for one thing at a time."""
    cohorts, queue = Cohorts(client, settings), Queue()
    queue.wanted = 30
    await cohorts.join(database, _placed(1, range(1, 11), REFERENCE, broadcast=True))
    await cohorts.join(database, _placed(2, range(11, 21), REFERENCE))
    await cohorts.join(database, _placed(3, range(21, 31), _with_priority("alert")))
    workflows = Worker(client, task_queue=MAIN_QUEUE, workflows=[CohortWorkflow])
    async with workflows:
        await _until_queued(client, range(1, 31), "prepare")
    narrow = Worker(
        client,
        task_queue=MAIN_QUEUE,
        workflows=[CohortWorkflow],
        activities=[queue.record, queue.prepare],
        max_concurrent_activities=1,
    )
    async with narrow, asyncio.timeout(60):
        await queue.all_prepared.wait()
    ranks = [("broadcast", "triggered", "alert")[(number - 1) // 10] for number in queue.prepared]
    assert ranks[:10] == ["alert"] * 10
    assert ranks[10:20] == ["triggered"] * 10


async def test_a_journey_of_many_does_not_hold_up_a_journey_of_few(
    client: Client, database: Database, settings: Settings
) -> None:
    cohorts, queue = Cohorts(client, settings), Queue()

    async def enter(journey: int, numbers: range) -> None:
        await cohorts.join(database, _placed(journey, numbers, REFERENCE))
        await _until_queued(client, numbers)

    shell = Worker(client, task_queue=MAIN_QUEUE, workflows=[CohortWorkflow], activities=[queue.record, queue.prepare])
    async with shell:
        await enter(1, range(1, MANY + 1))
        await enter(2, range(MANY + 1, MANY + FEW + 1))
        provider = Worker(client, task_queue="provider-main", activities=[queue.deliver], max_concurrent_activities=1)
        async with provider, asyncio.timeout(60):
            await queue.done.wait()
    places = sorted(queue.handed.index(number) for number in range(MANY + 1, MANY + FEW + 1))
    assert places[-1] < 4 * FEW, places
