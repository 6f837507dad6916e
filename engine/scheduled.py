"""The workflow that a schedule starts, in a module of its own: Temporal's sandbox loads it anew for each run."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy


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
