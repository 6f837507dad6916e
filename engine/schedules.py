"""Journeys that begin by the clock: one Temporal Schedule each, kept equal to what is published."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text
from temporalio import activity
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from core.database import Database
from core.errors import Conflict, NotFound
from engine import broadcasts
from engine.scheduled import ScheduledBroadcast
from engine.wire import MAIN_QUEUE

_PREFIX = "journey-"
_CATCH_UP = timedelta(hours=24)
"""A run that was missed because we were down is made up for within this time."""


class ScheduleActivities:
    """The activity behind `ScheduledBroadcast`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @activity.defn
    async def start_broadcast(self, journey: str, occasion: str) -> None:
        """Write the broadcast's row; once for an occasion."""
        try:
            async with self._database.begin() as connection:
                await broadcasts.start(connection, journey, occasion=occasion)
        except (NotFound, Conflict) as reason:
            activity.logger.warning("scheduled run left out: %s", reason)


@dataclass(frozen=True)
class _Run:
    """When a journey begins by itself."""

    journey: str
    cron: str
    zone: str
    paused: bool


class Timetable:
    """Temporal's schedules, kept equal to the published journeys."""

    def __init__(self, database: Database, client: Client) -> None:
        self._database = database
        self._client = client
        self._applied: dict[str, _Run] | None = None

    async def reconcile(self) -> None:
        """Create, change, pause and delete schedules as needed; asks Temporal only when a journey has changed."""
        wanted = await self._wanted()
        if wanted == self._applied:
            return
        async for entry in await self._client.list_schedules():
            if entry.id.startswith(_PREFIX) and entry.id not in wanted:
                await _delete(self._client, entry.id)
        for schedule_id, run in wanted.items():
            if self._applied is None or self._applied.get(schedule_id) != run:
                await _put(self._client, schedule_id, _schedule(schedule_id, run))
        self._applied = wanted

    async def _wanted(self) -> dict[str, _Run]:
        async with self._database.begin() as connection:
            rows = await connection.execute(
                text(
                    "select j.name, j.state, v.plan -> 'entry' ->> 'cron' as cron, "
                    "v.plan -> 'entry' ->> 'zone' as zone from journey j "
                    "join journey_version v on v.id = j.version_id where j.state in ('active', 'paused')"
                )
            )
            return {
                f"{_PREFIX}{row.name}": _Run(row.name, row.cron, row.zone or "UTC", row.state == "paused")
                for row in rows
                if row.cron
            }


def _schedule(schedule_id: str, run: _Run) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            ScheduledBroadcast.run, run.journey, id=f"broadcast-{schedule_id}", task_queue=MAIN_QUEUE
        ),
        spec=ScheduleSpec(cron_expressions=[run.cron], time_zone_name=run.zone),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL, catchup_window=_CATCH_UP),
        state=ScheduleState(paused=run.paused),
    )


async def _put(client: Client, schedule_id: str, schedule: Schedule) -> None:
    try:
        await client.create_schedule(schedule_id, schedule)
    except ScheduleAlreadyRunningError:
        handle = client.get_schedule_handle(schedule_id)

        async def change(_: ScheduleUpdateInput) -> ScheduleUpdate:
            return ScheduleUpdate(schedule=schedule)

        await handle.update(change)


async def _delete(client: Client, schedule_id: str) -> None:
    try:
        await client.get_schedule_handle(schedule_id).delete()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
