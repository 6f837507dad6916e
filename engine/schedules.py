"""Journeys that begin by the clock: one Temporal Schedule each, kept equal to what is published."""

from datetime import timedelta

from sqlalchemy import text
from temporalio import activity, workflow
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import RetryPolicy
from temporalio.service import RPCError, RPCStatusCode

with workflow.unsafe.imports_passed_through():
    from core.database import Database
    from core.errors import Conflict, NotFound
    from engine import broadcasts
    from engine.wire import MAIN_QUEUE

_PREFIX = "journey-"
_CATCH_UP = timedelta(hours=24)
"""A run that was missed because we were down is made up for within this time."""


@workflow.defn(name="scheduled-broadcast")
class ScheduledBroadcast:
    """Begins a broadcast when a schedule fires; the time it was due makes the occasion."""

    @workflow.run
    async def run(self, journey: str) -> None:
        """Ask for the broadcast of `journey` that belongs to this run's scheduled time."""
        await workflow.execute_activity(
            "start_broadcast",
            args=[journey, workflow.info().workflow_id],
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=30)),
        )


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


async def reconcile(database: Database, client: Client) -> None:
    """Make Temporal's schedules equal to the published journeys: create, change, pause and delete as needed."""
    async with database.begin() as connection:
        rows = await connection.execute(
            text(
                "select j.name, j.state, v.plan -> 'entry' ->> 'cron' as cron, v.plan -> 'entry' ->> 'zone' as zone "
                "from journey j join journey_version v on v.id = j.version_id where j.state <> 'stopped'"
            )
        )
        wanted = {f"{_PREFIX}{row.name}": row for row in rows if row.cron}
    existing: set[str] = set()
    async for entry in await client.list_schedules():
        if entry.id.startswith(_PREFIX):
            existing.add(entry.id)
    for schedule_id in existing - wanted.keys():
        await _delete(client, schedule_id)
    for schedule_id, row in wanted.items():
        await _put(client, schedule_id, _schedule(schedule_id, row.name, row.cron, row.zone, row.state == "paused"))


def _schedule(schedule_id: str, journey: str, cron: str, zone: str | None, paused: bool) -> Schedule:
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            ScheduledBroadcast.run, journey, id=f"broadcast-{schedule_id}", task_queue=MAIN_QUEUE
        ),
        spec=ScheduleSpec(cron_expressions=[cron], time_zone_name=zone or "UTC"),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL, catchup_window=_CATCH_UP),
    )
    schedule.state.paused = paused
    return schedule


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
