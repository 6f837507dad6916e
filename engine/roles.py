"""What the worker and the router processes do until they are told to stop."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta

import structlog
from prometheus_client import Counter
from sqlalchemy import text
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from channels import Delivery, byhand, undelivered
from channels.email.inbound import receiving_mail
from channels.providers import ensure_default
from contacts import merging
from core.clock import now
from core.database import Database
from core.errors import KaskadError
from core.maintenance import maintain
from core.periodic import Duty, repeat, repeating
from core.settings import Settings
from engine import almanac, backfill, broadcasts, comings, confirming, schedules, winners
from engine.activities import Activities
from engine.cohort import CohortWorkflow
from engine.cohorts import Cohorts
from engine.listening import Listening
from engine.moves import Moves
from engine.router import Router
from engine.scheduled import ScheduledBroadcast
from engine.versions import Versions
from engine.wire import LOG_QUEUE, MAIN_QUEUE, provider_queue
from segments import growth

log = structlog.get_logger()

_ROUTER_LOCK = 0x6B61736C
_LOOK_FOR_PROVIDERS = 2.0
_IDLE_SECONDS = 0.05
_MAINTENANCE_SECONDS = 3600.0
_STANDBY_SECONDS = 2.0
_WINNERS_SECONDS = 10.0
_COUNT_SECONDS = 300.0
_LOOK_SECONDS = 0.1
"""How long segments' members may lag behind the log while nothing is happening."""
_RETRIES_SECONDS = 2.0

FAILURES = Counter("kaskad_duty_failures_total", "Turns of a duty of the router or a worker that failed", ["duty"])


async def run_worker(settings: Settings, database: Database, client: Client, stop: asyncio.Event) -> None:
    """Carry cohorts and hand messages over until `stop` is set; work in hand is finished or returned."""
    delivery = Delivery(database, settings)
    versions = Versions()
    activities = Activities(database, settings, delivery, versions)
    async with database.begin() as connection:
        await ensure_default(connection, settings)
    main = Worker(
        client,
        task_queue=MAIN_QUEUE,
        workflows=[CohortWorkflow, ScheduledBroadcast],
        activities=[
            activities.record,
            activities.prepare,
            activities.choose,
            activities.act,
            activities.leave,
            activities.withdraw,
            schedules.ScheduleActivities(database).start_broadcast,
        ],
        max_concurrent_activities=settings.database_pool,
        # The sandbox, which guards against workflow code that is not deterministic, costs a worker a tenth of its time.
        # The tests run in it and replay stored histories.
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    ear = Worker(client, task_queue=LOG_QUEUE, activities=[Listening(database).listen], max_concurrent_activities=1000)

    async def send_again() -> float:
        async with database.begin() as connection:
            late = await undelivered.pass_on(connection, settings)
        return 0.0 if await byhand.send_again(database, delivery, activities.rules_of) or late else _RETRIES_SECONDS

    try:
        async with main, ear, receiving_mail(settings, database), repeating(_counted(send_again), 0.0, stop=stop):
            log.info("worker ready", queue=MAIN_QUEUE)
            await _serve_providers(database, client, activities, stop)
    finally:
        await activities.close()
        await delivery.close()


async def _serve_providers(database: Database, client: Client, activities: Activities, stop: asyncio.Event) -> None:
    """Poll the queue of every provider, also of those that are added meanwhile."""
    async with contextlib.AsyncExitStack() as stack:
        served: set[str] = set()

        async def serve_providers() -> None:
            async with database.begin() as connection:
                names = set((await connection.execute(text("select name from provider"))).scalars())
            for name in names - served:
                worker = Worker(
                    client,
                    task_queue=provider_queue(name),
                    activities=[activities.deliver],
                    max_concurrent_activities=8,
                )
                await stack.enter_async_context(worker)
                served.add(name)
                log.info("serving provider", provider=name)

        await repeat(_counted(serve_providers), _LOOK_FOR_PROVIDERS, stop=stop)


async def run_router(settings: Settings, database: Database, client: Client, stop: asyncio.Event) -> None:
    """Route events, let broadcasts in and keep house until `stop` is set. Of several routers one works; the others
    stand by."""
    versions = Versions()
    cohorts = Cohorts(client, settings)
    router = Router(database, settings, cohorts, versions)
    timetable = schedules.Timetable(database, client)
    moves = Moves(database, cohorts, versions)
    tracker = comings.Tracker(database, versions)
    calendar = almanac.Almanac(database, versions)
    judge = winners.Winners(database, versions)

    async def route() -> float:
        begun = asyncio.get_running_loop().time()
        if not await router.round():
            return _IDLE_SECONDS
        return settings.entry_window_ms / 1000 - (asyncio.get_running_loop().time() - begun)

    async def broadcast() -> float:
        return 0.0 if await broadcasts.next_page(database, settings, cohorts, versions) is not None else 0.5

    async def control() -> float:
        return 0.0 if await cohorts.spread_control(database) else 0.5

    async def move() -> float:
        return 0.0 if await moves.spread() else 0.5

    async def track() -> float:
        return 0.0 if await tracker.track() else _LOOK_SECONDS

    async def count_segments() -> float:
        async with database.begin() as connection:
            return 0.1 if await growth.count_next(connection) else _COUNT_SECONDS

    async def sweep() -> float:
        return 0.0 if await tracker.sweep() else 1.0

    async def let_in() -> float:
        await backfill.let_members_in(database)
        await calendar.turn()
        return 1.0

    async def retell() -> float:
        return 10.0 if not await cohorts.retell(database, versions) else 1.0

    async def crown() -> float:
        await judge.decide()
        return _WINNERS_SECONDS

    async def settle() -> float:
        async with database.begin() as connection:
            return 0.2 if await merging.settle(connection) else 0.5

    async def schedule() -> float:
        await timetable.reconcile()
        return 2.0

    async def keep_house() -> float:
        await maintain(database, settings)
        await confirming.lapse(database, now())
        return _MAINTENANCE_SECONDS

    async def ask_consents() -> float:
        return await confirming.ask(database)

    while not stop.is_set():
        try:
            async with _only_one(database) as mine:
                if not mine:
                    await _pause(stop, _STANDBY_SECONDS)
                    continue
                # Whoever was the router before is gone, and may have died between writing and telling.
                await cohorts.retell(database, versions, older_than=timedelta())
                log.info("router ready")
                duties = [
                    *(route, broadcast, control, move, track, sweep, count_segments, let_in, retell, crown),
                    *(settle, schedule, keep_house, ask_consents),
                ]
                await _until_lost(stop, mine, duties)
        except KaskadError as error:
            log.warning("the router begins anew", error=str(error))
            await _pause(stop, 1.0)
        except Exception as error:
            log.error("the router begins anew", exc_info=error)
            await _pause(stop, 1.0)


class _Lock:
    """The router's lock: held as long as the database session that took it lives."""

    def __init__(self, check: Callable[[], Awaitable[None]]) -> None:
        self.check = check


@contextlib.asynccontextmanager
async def _only_one(database: Database) -> AsyncIterator[_Lock | None]:
    """Be the one router: yields a lock, or None when another process holds it."""
    async with database.session() as connection:
        got = await connection.execute(text("select pg_try_advisory_lock(:lock)"), {"lock": _ROUTER_LOCK})

        async def check() -> None:
            await connection.execute(text("select 1"))

        yield _Lock(check) if got.scalar() else None


async def _until_lost(stop: asyncio.Event, lock: _Lock, duties: Sequence[Duty]) -> None:
    """Do the duties side by side until `stop`, or until the lock is lost. A duty that fails is tried again."""

    async def hold_lock() -> None:
        while not stop.is_set():
            await lock.check()
            await _pause(stop, 1.0)

    lost: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(hold_lock())
            for duty in duties:
                group.create_task(repeat(_counted(duty), 0.0, stop=stop))
    except* Exception as failed:  # noqa: BLE001 - only the lock's, which is raised below
        lost = failed.exceptions[0]
    if lost is not None:  # raised in the clause above it would come out wrapped, which Python 3.11.2 does
        raise lost


def _counted(duty: Duty) -> Duty:
    """The duty, with its failures counted."""
    name = getattr(duty, "__name__", "duty")

    @functools.wraps(duty)
    async def turn() -> float | None:
        try:
            return await duty()
        except Exception:  # whatever it is: it is only counted here
            FAILURES.labels(name).inc()
            raise

    return turn


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
