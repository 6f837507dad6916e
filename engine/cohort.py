"""The cohort workflow: a thin, durable shell around the machine.

It keeps the tokens, lets `journeys.machine.advance` decide, performs each batch as one activity, and sleeps until the
next due time or the next news. It knows ids only.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy

with workflow.unsafe.imports_passed_through():
    from engine.wire import (
        Arrivals,
        Carried,
        CohortStart,
        Finishes,
        HandedOver,
        HandOver,
        Leftover,
        News,
        Places,
        Prepared,
        RecordRequest,
        StepRequest,
        Waits,
        provider_queue,
    )
    from journeys.machine import (
        Batch,
        Due,
        Finish,
        Heard,
        Held,
        Input,
        Join,
        Stop,
        Turn,
        Visit,
        Waiting,
        Went,
        advance,
        dump,
        restore,
    )
    from journeys.plan import Choose, Plan, Send, Update, Wait

# Work is retried until it succeeds: a contact is never dropped because a database was away.
_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), backoff_coefficient=2, maximum_interval=timedelta(seconds=10)
)
_Row = TypeVar("_Row", Visit, Waiting, Finish)
_Key = TypeVar("_Key")
_PRIORITY = {"alert": 1, "triggered": 3, "broadcast": 5}


@workflow.defn(name="cohort")
class CohortWorkflow:
    """Carries the contacts of one cohort through one version of a journey."""

    @workflow.init
    def __init__(self, start: CohortStart) -> None:
        self._start = start
        self._plan = Plan.model_validate(start.plan)
        carried = start.carried or Carried([], [], 0, start.control, start.state)
        self._tokens = restore(carried.tokens)
        self._members = dict.fromkeys(carried.members)
        self._position = carried.position
        self._control = carried.control
        self._state = carried.state
        self._inputs: list[Input] = []
        self._work: list[asyncio.Task[None]] = []
        self._unwritten = RecordRequest(start.cohort_id, start.version_id, [], [], [], over=False)
        self._writing: asyncio.Task[None] | None = None
        self._next_due: float | None = None
        self._told = False
        self._draining = False
        self._leftovers: list[Leftover] = []
        self._taken_along = carried.leftovers

    @workflow.signal
    def inform(self, news: News) -> None:
        """Take in newcomers, events and the journey's state. News that was heard before changes nothing."""
        for enrollment, seed in news.joins:
            if enrollment not in self._members:
                self._members[enrollment] = None
                self._inputs.append(Join(enrollment, seed))
        position = self._position
        for event, enrollment, subscription in news.heard:
            if event > position:
                self._inputs.append(Heard(enrollment, subscription))
                self._position = max(self._position, event)
        if news.control > self._control:
            self._control, self._state = news.control, news.state
        self._told = True

    @workflow.run
    async def run(self, start: CohortStart) -> None:
        """Live until the cohort is closed and nobody is left in it."""
        self._work = [asyncio.create_task(self._go_on(leftover)) for leftover in self._taken_along]
        while True:
            self._draining = workflow.info().is_continue_as_new_suggested()
            self._turn(self._draining)
            if not self._busy():
                if self._is_over():
                    await self._write(over=True)
                    if not self._inputs:
                        return
                elif self._draining:
                    workflow.continue_as_new(self._carry())
            await self._rest()
            self._reap()

    def _turn(self, draining: bool) -> None:
        self._told = False
        if self._state == "stopped":
            self._inputs.append(Stop("stopped"))
        inputs, self._inputs = self._inputs, []
        held = draining or self._state == "paused"
        turn = advance(self._plan, self._tokens, workflow.time(), inputs, paused=held)
        self._tokens = turn.tokens
        self._next_due = None if held else turn.next_due()
        for batch in turn.batches:
            self._work.append(asyncio.create_task(self._act(batch)))
        self._note(turn)
        if self._writing is None and (self._unwritten.visits or self._unwritten.waits or self._unwritten.finished):
            self._writing = asyncio.create_task(self._write(over=False))

    def _note(self, turn: Turn) -> None:
        unwritten = self._unwritten
        for (visit, step, at, via), ids in _grouped(turn.visits, lambda row: (row.visit, row.step, row.at, row.via)):
            unwritten.visits.append(Arrivals(visit, step, at, via, ids))
        for (visit, due), ids in _grouped(turn.waits, lambda row: (row.visit, row.due)):
            unwritten.waits.append(Waits(visit, due, ids))
        for (visit, at, outcome), ids in _grouped(turn.finished, lambda row: (row.visit, row.at, row.outcome)):
            unwritten.finished.append(Finishes(visit, at, outcome, ids))

    def _busy(self) -> bool:
        return bool(self._work or self._inputs or self._writing)

    def _is_over(self) -> bool:
        return not self._tokens and workflow.time() >= self._start.closes_at

    async def _rest(self) -> None:
        """Sleep until there is news, work has ended, or a time has come."""
        wake = self._next_due
        if not self._tokens and not self._busy():
            wake = self._start.closes_at
        timeout = None if wake is None else max(0.0, wake - workflow.time())
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(self._has_to_wake, timeout=timeout)

    def _has_to_wake(self) -> bool:
        tasks = [*self._work, self._writing] if self._writing else self._work
        return self._told or any(task.done() for task in tasks)

    def _reap(self) -> None:
        """Forget work that has ended. Work that failed for good is a defect: the workflow task fails and is retried
        until a mended worker takes over; the contacts stay where they are."""
        ended = [task for task in self._work if task.done()]
        self._work = [task for task in self._work if task not in ended]
        if self._writing is not None and self._writing.done():
            ended.append(self._writing)
            self._writing = None
        for task in ended:
            error = task.exception()
            if error is not None:
                raise RuntimeError("an activity failed for good") from error

    def _carry(self) -> CohortStart:
        carried = Carried(
            dump(self._tokens), list(self._members), self._position, self._control, self._state, self._leftovers
        )
        start = self._start
        return CohortStart(
            start.cohort_id,
            start.version_id,
            start.plan,
            start.closes_at,
            start.broadcast,
            self._control,
            self._state,
            carried,
        )

    async def _write(self, *, over: bool) -> None:
        request = self._unwritten
        self._unwritten = RecordRequest(request.cohort_id, request.version_id, [], [], [], over=False)
        request.over = over
        await self._call("record", request, None)

    async def _act(self, batch: Batch) -> None:
        step = self._plan.steps[batch.step]
        request = StepRequest(
            self._start.version_id, batch.step, workflow.time(), [list(member) for member in batch.members]
        )
        match step:
            case Send():
                await self._send(step, request)
            case Choose():
                places = await self._call("choose", request, Places)
                self._inputs.extend(Went(row[0], row[1], row[2], row[3]) for row in places.rows)
            case Update():
                await self._call("update", request, None)
                self._inputs.extend(Went(enrollment, visit, step.next) for enrollment, visit in batch.members)
            case Wait():
                places = await self._call("next_local", request, Places)
                self._inputs.extend(Due(row[0], row[1], row[2]) for row in places.rows)
            case _:
                raise TypeError(f"step {step.id} is not one that acts")

    async def _send(self, step: Send, request: StepRequest) -> None:
        prepared: Prepared = await self._call("prepare", request, Prepared)
        self._inputs.extend(Went(enrollment, visit, step.next) for enrollment, visit in prepared.skipped)
        self._inputs.extend(Held(enrollment, visit, until) for enrollment, visit, until in prepared.delayed)
        self._told = self._told or bool(prepared.skipped or prepared.delayed)  # they do not wait for the others
        routes: list[Coroutine[Any, Any, None]] = []
        for provider, members in prepared.deliver.items():
            repeat = step.repeat_in_doubt or step.priority == "alert"
            routes.append(self._deliver(step, request.step, HandOver(provider, request.at, members, repeat)))
        if routes:
            await asyncio.gather(*routes)

    async def _deliver(self, step: Send, number: int, hand_over: HandOver) -> None:
        """Hand over until every message has its final word. Who has it goes on, whatever the others wait for."""
        while True:
            handed: HandedOver = await workflow.execute_activity(
                "deliver",
                hand_over,
                result_type=HandedOver,
                task_queue=provider_queue(hand_over.provider),
                start_to_close_timeout=timedelta(minutes=10),
                heartbeat_timeout=timedelta(seconds=15),
                retry_policy=_RETRY,
                priority=self._priority(step),
            )
            rest = {enrollment for enrollment, _ in handed.rest}
            self._inputs.extend(
                Went(enrollment, visit, step.next) for enrollment, visit in hand_over.members if enrollment not in rest
            )
            if not handed.rest:
                return
            self._told = True
            hand_over = replace(hand_over, members=handed.rest, remainder=True)
            if not await self._wait_for(number, hand_over, workflow.time() + handed.wait):
                return

    async def _wait_for(self, number: int, hand_over: HandOver, at: float) -> bool:
        """Wait until a hand-over can be gone on with; False if the workflow will continue as new and take it along."""
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._draining, timeout=max(0.0, at - workflow.time()))
            self._leftovers.append(Leftover(number, hand_over, at))
            return False
        return True

    async def _go_on(self, leftover: Leftover) -> None:
        """Go on with what the run before left over."""
        step = self._plan.steps[leftover.step]
        if not isinstance(step, Send):
            raise TypeError(f"step {step.id} is not one that sends")
        if await self._wait_for(leftover.step, leftover.hand_over, leftover.at):
            await self._deliver(step, leftover.step, leftover.hand_over)

    def _priority(self, step: Send) -> Priority:
        urgency = "broadcast" if self._start.broadcast and step.priority == "triggered" else step.priority
        return Priority(priority_key=_PRIORITY[urgency])

    async def _call(self, name: str, request: StepRequest | RecordRequest, result: type | None) -> Any:
        return await workflow.execute_activity(
            name,
            request,
            result_type=result,
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=_RETRY,
            priority=Priority(priority_key=5 if self._start.broadcast else 3),
        )


def _grouped(rows: Iterable[_Row], key: Callable[[_Row], _Key]) -> list[tuple[_Key, list[int]]]:
    """The enrollments of rows that are the same in everything else, together."""
    groups: dict[_Key, list[int]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row.enrollment)
    return list(groups.items())
