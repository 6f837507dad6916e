"""Telling cohort workflows what happened, starting them where need be."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import text
from temporalio.client import Client
from temporalio.common import Priority, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from core import ids
from core.database import Database
from core.settings import Settings
from engine import urgency
from engine.cohort import CohortWorkflow
from engine.entries import CLOSING_MARGIN, Cohort, Placed
from engine.rests import Rests
from engine.versions import Version, Versions
from engine.wire import MAIN_QUEUE, CohortStart, News, cohort_workflow_id

_AT_ONCE = 50
_EVENTS_A_SIGNAL = 2000
_RETELL_AFTER = timedelta(seconds=20)
_RETELL_LIMIT = 20_000
_UNSTARTED_SECONDS = 0.25


class Cohorts:
    """The cohort workflows, seen from outside."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._told_again = Rests(_RETELL_AFTER.total_seconds())
        self._unstarted = Rests(_UNSTARTED_SECONDS)

    async def join(self, database: Database, placed: Sequence[Placed]) -> None:
        """Tell cohorts of their newcomers, starting those that do not run yet."""
        await asyncio.gather(*(self._join(database, one) for one in placed))

    async def _join(self, database: Database, placed: Placed) -> None:
        try:
            await self._tell(placed, WorkflowIDReusePolicy.REJECT_DUPLICATE)
        except WorkflowAlreadyStartedError:
            # The workflow has run and ended. It knew those newcomers who are not `entering` any more: it writes
            # everything down before it ends. To begin with them anew would send their letters again.
            rest = await _still_entering(database, placed)
            if rest.joins:
                await self._tell(rest, WorkflowIDReusePolicy.ALLOW_DUPLICATE)

    async def _tell(self, placed: Placed, reuse: WorkflowIDReusePolicy) -> None:
        cohort = placed.cohort
        opened = cohort.opened_at.timestamp()
        closes_at = (
            opened
            if cohort.broadcast
            else (opened + self._settings.cohort_open_seconds + CLOSING_MARGIN.total_seconds())
        )
        start = CohortStart(
            cohort.id,
            placed.version.id,
            placed.version.data,
            closes_at,
            cohort.broadcast,
            cohort.control,
            cohort.state,
        )
        async with self._gate:
            await self._client.start_workflow(
                CohortWorkflow.run,
                start,
                id=cohort_workflow_id(cohort.id),
                id_reuse_policy=reuse,
                task_queue=MAIN_QUEUE,
                priority=priority_of(cohort, placed.version),
                start_signal="inform",
                # With the journey's state: who enters after a pause must not be a step ahead of the news of it.
                start_signal_args=[News(placed.joins, control=cohort.control, state=cohort.state)],
            )

    async def hear(self, cohort_id: int, heard: Sequence[tuple[int, int, int, int]]) -> None:
        """Tell a cohort of events, given as (event id, enrollment, subscription, version) in the order of the log."""
        for chunk in _chunks(heard):
            if not await self.inform(cohort_id, News(heard=[list(one) for one in chunk])):
                return

    async def inform(self, cohort_id: int, news: News) -> bool:
        """Send news to a cohort; False when its workflow has ended, and so nobody is left to hear it."""
        handle = self._client.get_workflow_handle(cohort_workflow_id(cohort_id))
        try:
            async with self._gate:
                await handle.signal(CohortWorkflow.inform, news)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    async def retell(
        self,
        database: Database,
        versions: Versions,
        enrollments: Sequence[int] | None = None,
        older_than: timedelta = _RETELL_AFTER,
    ) -> int:
        """Tell cohorts again of enrollments that are still `entering`: a process may have died after writing them.

        Usually it is the worker that is away, and the cohorts were told. So each is left alone for twice as long every
        time: what is told is kept in the workflow's history, and Temporal ends a workflow whose history is too large.

        Args:
            database: Where the enrollments are.
            versions: The versions they run on.
            enrollments: Which ones; without it, all that have been entering for long.
            older_than: How long that is.

        Returns:
            How many enrollments.
        """
        async with database.begin() as connection:
            rows = (
                await connection.execute(
                    text(
                        "select e.id, coalesce(e.merged_from, e.contact_id) as contact_id, e.cohort_id, "
                        "c.version_id, c.opened_at, c.broadcast, j.control, j.state "
                        "from enrollment e join cohort c on c.id = e.cohort_id "
                        "join journey j on j.id = e.journey_id where e.state = 'entering' "
                        "and case when cast(:ids as bigint[]) is null "
                        "then e.entered_at < now() - cast(:age as interval) and e.cohort_id <> all(:resting) "
                        "else e.id = any(:ids) end "
                        "order by e.cohort_id limit :limit"
                    ),
                    {
                        "age": older_than,
                        "limit": _RETELL_LIMIT,
                        "ids": enrollments,
                        "resting": [] if enrollments else self._told_again.now(),
                    },
                )
            ).all()
            known = await versions.get_all(connection, sorted({row.version_id for row in rows}))
        joins: dict[Cohort, list[list[int]]] = defaultdict(list)
        for row in rows:
            cohort = Cohort(row.cohort_id, row.version_id, row.opened_at, row.broadcast, row.control, row.state)
            joins[cohort].append([row.id, ids.seed(row.contact_id)])
        placed = [Placed(cohort, known[cohort.version_id], members) for cohort, members in joins.items()]
        await self.join(database, placed)
        if enrollments is None:
            for cohort in joins:
                self._told_again.give(cohort.id)
        return len(rows)

    async def spread_control(self, database: Database) -> int:
        """Tell cohorts of a pause, a resume or a stop that they have not heard of.

        Returns:
            How many cohorts were told.
        """
        async with database.begin() as connection:
            rows = (
                await connection.execute(
                    text(
                        "select c.id, j.control, j.state from cohort c join journey_version v on v.id = c.version_id "
                        "join journey j on j.id = v.journey_id "
                        "where c.state <> 'finished' and c.control < j.control and c.id <> all(:resting) limit 500"
                    ),
                    {"resting": self._unstarted.now()},
                )
            ).all()
        if not rows:
            return 0
        told = await asyncio.gather(*(self.inform(row.id, News(control=row.control, state=row.state)) for row in rows))
        heard = []
        for row, was_there in zip(rows, told, strict=True):
            if was_there:
                heard.append(row)
            else:  # its workflow is only about to start, with what was true before
                self._unstarted.give(row.id)
        async with database.begin() as connection:
            await connection.execute(
                text(
                    "update cohort c set control = greatest(c.control, u.control) "
                    "from unnest(cast(:ids as bigint[]), cast(:controls as int[])) as u(id, control) where c.id = u.id"
                ),
                {"ids": [row.id for row in heard], "controls": [row.control for row in heard]},
            )
        return len(heard)


def priority_of(cohort: Cohort, version: Version) -> Priority:
    """A cohort's turn at the task queues: after those in a hurry, and then every journey gets its share, however many
    contacts another has in the queue. Its activities inherit it."""
    key = urgency.of_plan(version.plan, broadcast=cohort.broadcast)
    return Priority(priority_key=key, fairness_key=f"journey-{version.journey_id}")


async def _still_entering(database: Database, placed: Placed) -> Placed:
    """Those of the newcomers whom no workflow has written down; their cohort, which had finished, lives again and has
    to hear of pauses, also of those that its earlier workflow has heard of."""
    async with database.begin() as connection:
        rows = await connection.execute(
            text("select id from enrollment where id = any(:ids) and state = 'entering'"),
            {"ids": [enrollment for enrollment, _ in placed.joins]},
        )
        waiting = set(rows.scalars())
        if waiting:
            await connection.execute(
                text(
                    "update cohort set state = case when state = 'finished' then 'closed' else state end, "
                    "control = least(control, :control) where id = :id"
                ),
                {"id": placed.cohort.id, "control": placed.cohort.control},
            )
    return replace(placed, joins=[join for join in placed.joins if join[0] in waiting])


def _chunks(heard: Sequence[tuple[int, int, int, int]]) -> list[list[tuple[int, int, int, int]]]:
    """Cut into signals of a bearable size, never between two rows of one event: a cohort that has heard of an event
    ignores what comes later for the same one."""
    chunks: list[list[tuple[int, int, int, int]]] = [[]]
    for row in heard:
        if len(chunks[-1]) >= _EVENTS_A_SIGNAL and chunks[-1][-1][0] != row[0]:
            chunks.append([])
        chunks[-1].append(row)
    return chunks
