"""The cohort workflow: a thin, durable shell around the machine.

It keeps the tokens, lets `journeys.machine.advance` decide, performs each batch as one activity, and sleeps until the
next due time or the next news. It knows ids only.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter
from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError
from temporalio.workflow import ActivityHandle

with workflow.unsafe.imports_passed_through():
    from engine import urgency
    from engine.course import Change, Course
    from engine.wire import (
        ENDINGS,
        LOG_QUEUE,
        Acted,
        Carried,
        CohortStart,
        HandedOver,
        HandOver,
        Leftover,
        Listen,
        Listened,
        News,
        Order,
        Places,
        Prepared,
        RecordRequest,
        Shift,
        StepRequest,
        Unfinished,
        Withdrawal,
        provider_queue,
    )
    from journeys.machine import advance
    from journeys.plan import Act, Choose, Notify, Send, Step
    from journeys.tokens import Batch, Due, Ended, Held, Input, Join, Met, Stop, Turn, Unmet, Went, dump, restore

# Work is retried until it succeeds: a contact is never dropped because a database was away.
_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), backoff_coefficient=2, maximum_interval=timedelta(seconds=10)
)


_step: TypeAdapter[Step] = TypeAdapter(Step)


class _GivenUp(Exception):
    """Work was not finished before the workflow has to continue as new."""


@workflow.defn(name="cohort")
class CohortWorkflow:
    """Carries the contacts of one cohort through one version of a journey."""

    @workflow.init
    def __init__(self, start: CohortStart) -> None:
        self._start = start
        carried = start.carried or Carried([], [], 0, start.control, start.state)
        self._course = Course(start, carried)
        self._tokens = restore(carried.tokens)
        self._members = dict.fromkeys(carried.members)
        self._position = carried.position
        self._control = carried.control
        self._state = carried.state
        self._inputs: list[Input | Shift | Order] = []
        self._work: list[asyncio.Task[None]] = []
        self._unwritten = [self._page()]
        self._writing: asyncio.Task[None] | None = None
        self._next_due: float | None = None
        self._told = False
        self._draining = False
        self._heard_until = 0.0
        self._listening: asyncio.Task[None] | None = None
        self._leftovers: list[Leftover] = []
        self._unfinished: list[Unfinished] = []
        self._taken_along, self._to_finish = carried.leftovers, carried.unfinished
        self._give_up_at: float | None = None

    @workflow.signal
    def inform(self, news: News) -> None:
        """Take in newcomers, events and the journey's state. News that was heard before changes nothing."""
        for enrollment, seed in news.joins:
            if enrollment not in self._members:
                self._members[enrollment] = None
                self._inputs.append(Join(enrollment, seed))
        position = self._position
        for event, enrollment, subscription, version_id in news.heard:
            if event > position:
                self._inputs.extend(self._course.hear(event, enrollment, subscription, version_id))
                self._position = max(self._position, event)
        self._inputs.extend(self._course.take(news))
        if news.control > self._control:
            self._control, self._state = news.control, news.state
        self._told = True

    @workflow.run
    async def run(self, start: CohortStart) -> None:
        """Live until the cohort is closed and nobody is left in it."""
        self._work = [asyncio.create_task(self._deliver(leftover)) for leftover in self._taken_along]
        self._work += [asyncio.create_task(self._finish(unfinished)) for unfinished in self._to_finish]
        while True:
            self._draining = workflow.info().is_continue_as_new_suggested()
            if self._draining and self._give_up_at is None:
                self._give_up_at = workflow.time() + self._start.patience
            self._turn(self._draining)
            if not self._busy():
                if self._is_over():
                    await self._write(over=True)
                    if not self._inputs:
                        return
                    self._unwritten[-1].again = True
                elif self._draining:
                    workflow.continue_as_new(self._carry())
            await self._rest()
            self._reap()

    def _turn(self, draining: bool) -> None:
        self._told = False
        if self._state == "stopped":
            self._inputs.append(Stop("stopped"))
        held = draining or self._state in {"paused", "spent"}
        turn = self._advance(self._changed(), paused=held)
        self._next_due = None if held else turn.next_due()
        if turn.unheard and self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        for batch in turn.batches:
            self._work.append(asyncio.create_task(self._act(batch)))
        if turn.looks:
            self._work.append(asyncio.create_task(self._act(Batch(ENDINGS, tuple(turn.looks)))))
        if self._writing is None and (len(self._unwritten) > 1 or self._unwritten[0].says_something()):
            self._writing = asyncio.create_task(self._write(over=False))

    def _changed(self) -> list[Input]:
        """Carry out the shifts and orders among the inputs, each after what came before it; gives what came after."""
        inputs: list[Input] = []
        queue, self._inputs = self._inputs, []
        for item in queue:
            if isinstance(item, Shift | Order):
                self._advance(inputs, paused=True)
                inputs = []
                self._note_change(self._course.change(item, self._tokens, workflow.time()))
            else:
                inputs.append(item)
        return inputs

    def _advance(self, inputs: list[Input], *, paused: bool) -> Turn:
        landed = self._course.land(self._tokens, inputs)
        now = workflow.time()
        turn = advance(self._course.plan, self._tokens, now, landed, paused=paused, heard_until=self._heard_until)
        self._tokens = turn.tokens
        self._unwritten[-1].note(turn.visits, turn.waits, turn.finished, turn.branched)
        return turn

    def _note_change(self, change: Change) -> None:
        self._tokens = change.tokens
        if change.moved is not None:
            self._unwritten.append(self._page(change.moved))
        page = self._unwritten[-1]
        page.note(change.visits, [], change.finished, change.branched)
        page.orders.extend(change.orders)

    def _page(self, moved: list[list[Any]] | None = None) -> RecordRequest:
        """An empty request to write down what happens in the present version."""
        return RecordRequest(self._start.cohort_id, self._course.version_id, [], [], [], over=False, moved=moved)

    def _busy(self) -> bool:
        return bool(self._work or self._inputs or self._writing or self._listening)

    def _is_over(self) -> bool:
        return not self._tokens and workflow.time() >= self._start.closes_at

    async def _rest(self) -> None:
        """Sleep until there is news, work has ended, or a time has come."""
        wake = self._next_due
        if not self._tokens and not self._busy():
            wake = self._start.closes_at
        if self._work and not self._gives_up():
            wake = self._give_up_at if wake is None else wake
        timeout = None if wake is None else max(0.0, wake - workflow.time())
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(self._has_to_wake, timeout=timeout)

    def _has_to_wake(self) -> bool:
        tasks = [*self._work, self._writing, self._listening]
        return self._told or any(task.done() for task in tasks if task is not None)

    def _reap(self) -> None:
        """Forget work that has ended. Work that failed for good is a defect: the workflow task fails and is retried
        until a mended worker takes over; the contacts stay where they are."""
        ended = [task for task in self._work if task.done()]
        self._work = [task for task in self._work if task not in ended]
        if self._writing is not None and self._writing.done():
            ended.append(self._writing)
            self._writing = None
        if self._listening is not None and self._listening.done():
            ended.append(self._listening)
            self._listening = None
        for task in ended:
            error = task.exception()
            if error is not None:
                raise RuntimeError("an activity failed for good") from error

    def _carry(self) -> CohortStart:
        carried = Carried(
            dump(self._tokens),
            list(self._members),
            self._position,
            self._control,
            self._state,
            leftovers=self._leftovers,
            unfinished=self._unfinished,
        )
        self._course.carry(carried)
        start = self._start
        return CohortStart(
            start.cohort_id,
            self._course.version_id,
            self._course.data,
            start.closes_at,
            start.broadcast,
            self._control,
            self._state,
            carried,
            start.patience,
        )

    async def _write(self, *, over: bool) -> None:
        requests, self._unwritten = self._unwritten, [self._page()]
        requests[-1].over = over
        for request in requests:
            await self._call("record", request, None)

    async def _listen(self) -> None:
        """Find out that everything was told that was in the log when waits ran out. Until then they do not end."""
        asked, listen = workflow.time(), Listen()
        while not workflow.info().is_continue_as_new_suggested():  # the run that follows asks anew
            listened: Listened = await workflow.execute_activity(
                "listen",
                listen,
                result_type=Listened,
                task_queue=LOG_QUEUE,
                start_to_close_timeout=timedelta(seconds=15),
                retry_policy=_RETRY,
                priority=self._priority(),
            )
            if listened.heard:
                self._heard_until = asked
                return
            listen = Listen(listened.end)

    async def _act(self, batch: Batch) -> None:
        members = [list(member) for member in batch.members]
        request = StepRequest(self._course.version_id, batch.step, workflow.time(), members)
        await self._do(None if batch.step == ENDINGS else self._course.plan.steps[batch.step], request)

    async def _finish(self, unfinished: Unfinished) -> None:
        """Begin again with what the run before did not finish."""
        step = None if unfinished.step is None else _step.validate_python(unfinished.step)
        await self._do(step, unfinished.request)

    async def _do(self, step: Step | None, request: StepRequest) -> None:
        try:
            await self._do_once(step, request)
        except _GivenUp:
            kept = None if step is None else step.model_dump(mode="json")
            self._unfinished.append(Unfinished(request, kept))

    async def _do_once(self, step: Step | None, request: StepRequest) -> None:
        match step:
            case None:
                await self._ask(request)
            case Send():
                await self._send(step, request)
            case Choose():
                places = await self._call("choose", request, Places)
                self._inputs.extend(Went(row[0], row[1], row[2], row[3]) for row in places.rows)
            case Notify():
                await self._send(step, request)
            case _:
                acted = await self._call("act", request, Acted, long=isinstance(step, Act) and step.long)
                self._inputs.extend(_results(acted))  # not in one: the list may be another one after the wait

    async def _ask(self, request: StepRequest) -> None:
        """Find out who meets the criteria that end the journey."""
        acted: Acted = await self._call("leave", request, Acted)
        if request.version_id != self._course.version_id:
            return  # everybody has been moved meanwhile, and is asked about anew
        self._inputs.extend(Met(enrollment, outcome) for enrollment, _, outcome in acted.ended)
        left = {enrollment for enrollment, _, _ in acted.ended}
        stay = [member for member in request.members if member[0] not in left]
        self._inputs.extend(Unmet(enrollment, visit) for enrollment, visit in stay if visit)

    async def _send(self, step: Send | Notify, request: StepRequest) -> None:
        priority = urgency.of_step(step, broadcast=self._start.broadcast)
        prepared: Prepared = await self._call("prepare", request, Prepared, priority=priority)
        self._inputs.extend(Went(enrollment, visit, step.next) for enrollment, visit in prepared.skipped)
        self._inputs.extend(Held(enrollment, visit, until) for enrollment, visit, until in prepared.delayed)
        self._told = self._told or bool(prepared.skipped or prepared.delayed)  # they do not wait for the others
        routes: list[Coroutine[Any, Any, None]] = []
        for provider, members in prepared.deliver.items():
            repeat = isinstance(step, Notify) or step.repeat_in_doubt or step.priority == "alert"
            hand_over = HandOver(provider, request.at, members, repeat, request.version_id, request.step)
            routes.append(self._deliver(Leftover(step.next, priority, hand_over, request.at)))
        if routes:
            await asyncio.gather(*routes)

    async def _deliver(self, leftover: Leftover) -> None:
        """Hand over until every message has its final word. Who has it goes on, whatever the others wait for."""
        try:
            while await self._may_leave(leftover):
                await self._hand_over(leftover)
        except _GivenUp:
            self._leftovers.append(leftover)

    async def _hand_over(self, leftover: Leftover) -> None:
        hand_over = leftover.hand_over
        activity: ActivityHandle[HandedOver] = workflow.start_activity(
            "deliver",
            hand_over,
            result_type=HandedOver,
            task_queue=provider_queue(hand_over.provider),
            start_to_close_timeout=timedelta(minutes=10),
            heartbeat_timeout=timedelta(seconds=15),
            retry_policy=_RETRY,
            priority=Priority(priority_key=leftover.priority),
        )
        handed: HandedOver = await self._until_given_up(activity)
        open_ = [*handed.rest, *(member for members in handed.moved.values() for member in members)]
        waiting = {enrollment for enrollment, _ in open_}
        self._inputs.extend(
            Went(enrollment, visit, leftover.next)
            for enrollment, visit in hand_over.members
            if enrollment not in waiting
        )
        self._told = True
        for provider, members in handed.moved.items():
            onward = replace(leftover, hand_over=replace(hand_over, provider=provider, members=members))
            self._work.append(asyncio.create_task(self._deliver(onward)))
        leftover.hand_over = replace(hand_over, members=handed.rest)
        leftover.at = workflow.time() + handed.wait

    async def _may_leave(self, leftover: Leftover) -> bool:
        """Wait until a hand-over can be gone on with: its time has come, and the journey is not paused. The messages
        of those who leave the journey meanwhile are withdrawn.

        Returns:
            False if nothing is left of it, or if the workflow will continue as new and take it along.
        """
        while leftover.hand_over.members:
            await self._take_in_news()
            gone = self._gone(leftover)
            if gone:
                await self._withdraw(leftover, gone)
                continue
            if self._draining:
                self._leftovers.append(leftover)
                return False
            paused, wait = self._state == "paused", leftover.at - workflow.time()
            if not paused and wait <= 0:
                return True
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda paused=paused: (  # type: ignore[misc]
                        self._draining or (self._state == "paused") != paused or bool(self._gone(leftover))
                    ),
                    timeout=None if paused else wait,
                )
        return False

    async def _take_in_news(self) -> None:
        """Let what was told come to the tokens before anything is decided by them."""
        self._told = self._told or bool(self._inputs)
        await workflow.wait_condition(lambda: not self._told and not self._inputs)

    def _gone(self, leftover: Leftover) -> list[list[int]]:
        """Those of a hand-over who are not in the journey any more."""
        return [member for member in leftover.hand_over.members if (member[0], 0) not in self._tokens]

    async def _withdraw(self, leftover: Leftover, gone: list[list[int]]) -> None:
        hand_over = leftover.hand_over
        await self._call("withdraw", Withdrawal(hand_over.at, gone, self._state == "stopped"), None)
        enrollments = {enrollment for enrollment, _ in gone}
        left = [member for member in hand_over.members if member[0] not in enrollments]
        leftover.hand_over = replace(hand_over, members=left)

    def _priority(self, of_step: int | None = None) -> Priority:
        """A step's own turn at the task queues; without it, the turn of the cohort's other work."""
        return Priority(priority_key=of_step or urgency.of_plan(self._course.plan, broadcast=self._start.broadcast))

    async def _call(
        self,
        name: str,
        request: StepRequest | RecordRequest | Withdrawal,
        result: type | None,
        *,
        long: bool = False,
        priority: int | None = None,
    ) -> Any:
        activity = workflow.start_activity(
            name,
            request,
            result_type=result,
            start_to_close_timeout=timedelta(minutes=30) if long else timedelta(seconds=30),
            heartbeat_timeout=timedelta(minutes=2) if long else None,
            retry_policy=_RETRY,
            priority=self._priority(priority),
        )
        return await (activity if name == "record" else self._until_given_up(activity))

    def _gives_up(self) -> bool:
        return self._give_up_at is not None and workflow.time() >= self._give_up_at

    async def _until_given_up(self, activity: ActivityHandle[Any]) -> Any:
        """What an activity comes to. One that fails again and again must not keep the workflow from continuing as new:
        its history would grow by what it is told, and Temporal ends a workflow whose history is too large.

        Raises:
            _GivenUp: the next run has to begin the work again.
        """
        await workflow.wait_condition(lambda: activity.done() or self._gives_up())
        if not activity.done():
            activity.cancel()
            with contextlib.suppress(ActivityError):
                await activity
            raise _GivenUp
        return await activity


def _results(acted: Acted) -> list[Input]:
    """What became of a batch, as the machine takes it."""
    return [
        *(Went(*row) for row in acted.went),
        *(Due(*row) for row in acted.due),
        *(Held(*row) for row in acted.held),
        *(Ended(*row) for row in acted.ended),
    ]
