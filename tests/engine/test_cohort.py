"""The cohort workflow on real Temporal servers; its activities keep what they were asked in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from engine.cohort import CohortWorkflow
from engine.wire import (
    LOG_QUEUE,
    MAIN_QUEUE,
    Acted,
    CohortStart,
    HandedOver,
    HandOver,
    Listen,
    Listened,
    News,
    Order,
    Places,
    Prepared,
    RecordRequest,
    Shift,
    StepRequest,
    Withdrawal,
)
from journeys import moving
from journeys.plan import ANY_EVENT, Ending, Endings, EventFilter, Plan, Send, Subscription, Wait
from tests.journeys.test_machine import REFERENCE

HOUR = 3600.0
WATCHED = REFERENCE.model_copy(
    update={
        "subscriptions": (*REFERENCE.subscriptions, Subscription(role="watch", filter=EventFilter(event=ANY_EVENT))),
        "endings": Endings(rules=(Ending(role="exit", criteria=0, outcome="met"),), subscription=2),
    }
)


class Bench:
    """Activities that remember what they were asked; every contact's condition holds."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []
        self.withdrawn: list[tuple[int, int, bool]] = []
        self.visits: list[tuple[int, int]] = []
        self.outcomes: dict[int, str] = {}
        self.requests: list[RecordRequest] = []
        self.over = False
        self.failures = 0
        self.slow: dict[int, float] = {}
        self.log_end = self.routed = 0
        self.questions: list[int | None] = []
        self.caught_up = asyncio.Event()
        self.gate, self.prepared = asyncio.Event(), asyncio.Event()
        self.looked, self.looked_anew = asyncio.Event(), asyncio.Event()
        for one in (self.gate, self.prepared, self.looked, self.looked_anew):
            one.set()
        self.asked: list[int] = []
        self.meets: set[int] = set()

    @activity.defn
    async def record(self, request: RecordRequest) -> None:
        """Remember visits and ends."""
        self.requests.append(request)
        self.visits += [(one, group.step) for group in request.visits for one in group.enrollments]
        self.outcomes |= {one: group.outcome for group in request.finished for one in group.enrollments}
        self.over = self.over or request.over

    @activity.defn
    async def prepare(self, request: StepRequest) -> Prepared:
        """Everybody gets the message, once that is to be known."""
        await self.prepared.wait()
        if self.failures:
            self.failures -= 1
            raise OSError("the database is away")
        return Prepared({"main": request.members}, [], [])

    @activity.defn
    async def deliver(self, request: HandOver) -> HandedOver:
        """Remember who was sent what, once the gate is open; those in `slow` have to wait once, for so many seconds."""
        await self.gate.wait()
        slow, self.slow = self.slow, {}
        rest = [member for member in request.members if member[0] in slow]
        self.sent += [(enrollment, visit) for enrollment, visit in request.members if enrollment not in slow]
        return HandedOver(rest, max(slow.values(), default=0.0))

    @activity.defn
    async def withdraw(self, request: Withdrawal) -> None:
        """Remember whose message was taken back, and whether because of a stop."""
        self.withdrawn += [(enrollment, visit, request.stopped) for enrollment, visit in request.members]

    @activity.defn
    async def listen(self, request: Listen) -> Listened:
        """The log ends at `log_end` and is routed up to `routed`, which may be about to change."""
        self.questions.append(request.end)
        end = self.log_end if request.end is None else request.end
        if self.routed < end:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.caught_up.wait(), 0.2)
        return Listened(end, self.routed >= end)

    @activity.defn
    async def choose(self, request: StepRequest) -> Places:
        """The first branch holds."""
        return Places([[enrollment, visit, 3, "branch:1"] for enrollment, visit in request.members])

    @activity.defn
    async def leave(self, request: StepRequest) -> Acted:
        """Those in `meets` meet the criteria, once that is to be known, of the first version or of another one."""
        await (self.looked if request.version_id == 1 else self.looked_anew).wait()
        self.asked.append(request.version_id)
        return Acted(ended=[[one, 0, "met"] for one in sorted({one for one, _ in request.members} & self.meets)])

    @asynccontextmanager
    async def at_work(self, client: Client) -> AsyncIterator[None]:
        """Serve the queues of the workflow and of its provider."""
        activities: list[Callable[..., object]] = [self.record, self.prepare, self.choose]
        activities += [self.leave, self.withdraw]
        async with (
            Worker(client, task_queue=MAIN_QUEUE, workflows=[CohortWorkflow], activities=activities),
            Worker(client, task_queue=LOG_QUEUE, activities=[self.listen]),
            Worker(client, task_queue="provider-main", activities=[self.deliver]),
        ):
            yield


async def start(
    environment: WorkflowEnvironment,
    joins: int,
    plan: Plan = REFERENCE,
    closes_in: float = HOUR,
    state: str = "active",
    patience: float = 900.0,
) -> WorkflowHandle[CohortWorkflow, None]:
    """A cohort with enrollments 1 to `joins`."""
    now = (await environment.get_current_time()).timestamp()
    return await environment.client.start_workflow(
        CohortWorkflow.run,
        CohortStart(1, 1, plan.model_dump(mode="json"), now + closes_in, False, 1, state, patience=patience),
        id=f"cohort-{uuid4()}",
        task_queue=MAIN_QUEUE,
        start_signal="inform",
        start_signal_args=[News(joins=[[number, number] for number in range(1, joins + 1)])],
    )


async def until(condition: Callable[[], bool], tick: Callable[[], Awaitable[object]]) -> None:
    """Let time go on until a condition holds."""
    for _ in range(400):
        if condition():
            return
        await tick()
    raise AssertionError("it never came to that")


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_time_out_goes_on_to_the_second_letter_and_the_end(skipping: WorkflowEnvironment, bench: Bench) -> None:
    async with bench.at_work(skipping.client):
        await (await start(skipping, 3)).result()
    assert sorted(bench.sent) == [(1, 1), (1, 4), (2, 1), (2, 4), (3, 1), (3, 4)]
    assert bench.outcomes == {1: "silent", 2: "silent", 3: "silent"}
    assert [step for enrollment, step in bench.visits if enrollment == 2] == [0, 1, 2, 3, 4]
    assert bench.over


async def test_news_ends_waits_once_and_repeated_news_changes_nothing(
    skipping: WorkflowEnvironment, bench: Bench
) -> None:
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 3)
        await until(lambda: len(bench.sent) == 3, lambda: skipping.sleep(1))
        for _ in range(2):
            await handle.signal(CohortWorkflow.inform, News(heard=[[10, 1, 0, 1], [11, 2, 1, 1]]))
            await handle.signal(CohortWorkflow.inform, News(joins=[[1, 1], [2, 2]]))
        await handle.result()
    assert bench.outcomes == {1: "returned", 2: "submitted", 3: "silent"}
    assert len([sent for sent in bench.sent if sent[0] in {1, 2}]) == 2


async def test_time_out_waits_until_everything_was_heard(skipping: WorkflowEnvironment, bench: Bench) -> None:
    bench.log_end, bench.routed = 5, 3
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 3)
        await until(lambda: len(bench.questions) > 2, lambda: skipping.sleep(60))
        assert bench.outcomes == {}
        assert bench.questions == [None, *[5] * (len(bench.questions) - 1)]  # it does not run after a log that grows
        await handle.signal(CohortWorkflow.inform, News(heard=[[4, 1, 0, 1], [5, 2, 1, 1]]))
        bench.log_end, bench.routed = 9, 5
        bench.caught_up.set()
        await handle.result()
    assert bench.outcomes == {1: "returned", 2: "submitted", 3: "silent"}
    assert sorted(bench.sent) == [(1, 1), (2, 1), (3, 1), (3, 4)]


async def test_continue_as_new_while_waits_have_run_out(brief_histories: WorkflowEnvironment, bench: Bench) -> None:
    async def tick() -> None:
        await asyncio.sleep(0.05)

    bench.log_end, bench.routed = 5, 3
    steps = [step.model_copy(update={"seconds": 0.5}) if isinstance(step, Wait) else step for step in REFERENCE.steps]
    async with bench.at_work(brief_histories.client):
        handle = await start(brief_histories, 2, REFERENCE.model_copy(update={"steps": tuple(steps)}), closes_in=0)
        await until(lambda: bench.questions.count(None) > 1, tick)  # a new run asks anew
        bench.routed = 5
        bench.caught_up.set()
        await handle.result()
    assert bench.outcomes == {1: "silent", 2: "silent"}


async def test_work_that_fails_is_tried_again_until_it_succeeds(skipping: WorkflowEnvironment, bench: Bench) -> None:
    bench.failures = 5
    async with bench.at_work(skipping.client):
        await (await start(skipping, 1)).result()
    assert bench.outcomes == {1: "silent"}
    assert len(bench.sent) == 2


async def test_letter_that_has_to_wait_keeps_nobody_else(skipping: WorkflowEnvironment, bench: Bench) -> None:
    bench.slow = {2: 10 * HOUR}
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 3)
        await until(lambda: len(bench.outcomes) == 2, lambda: skipping.sleep(60))
        assert sorted(bench.sent) == [(1, 1), (1, 4), (3, 1), (3, 4)]
        await handle.result()
    assert bench.outcomes == {1: "silent", 2: "silent", 3: "silent"}
    assert sorted(bench.sent) == [(1, 1), (1, 4), (2, 1), (2, 4), (3, 1), (3, 4)]


@pytest.mark.parametrize("slow", [{1: 8.0}, {1: 8.0, 2: 8.0}], ids=["some", "all"])
async def test_continue_as_new_takes_along_what_is_left_over(
    brief_histories: WorkflowEnvironment, bench: Bench, slow: dict[int, float]
) -> None:
    async def tick() -> None:
        await asyncio.sleep(0.05)

    bench.slow, left_over = dict(slow), len(slow)
    async with bench.at_work(brief_histories.client):
        handle = await start(brief_histories, 2, closes_in=0)
        first_run = (await handle.describe()).run_id
        latest = brief_histories.client.get_workflow_handle(handle.id)
        await until(lambda: not bench.slow and len(bench.sent) == 2 - left_over, tick)
        event = 0
        while (await latest.describe()).run_id == first_run:
            event += 1
            await latest.signal(CohortWorkflow.inform, News(heard=[[event, 10_000, 1, 1]]))
            await tick()
        assert len(bench.sent) == 2 - left_over
        await until(lambda: len(bench.sent) == 2, tick)
        await latest.signal(CohortWorkflow.inform, News(heard=[[event + 1, 1, 1, 1], [event + 2, 2, 1, 1]]))
        await latest.result()
    assert sorted(bench.sent) == [(1, 1), (2, 1)]
    assert bench.outcomes == {1: "submitted", 2: "submitted"}


async def test_pause_holds_and_resume_goes_on(skipping: WorkflowEnvironment, bench: Bench) -> None:
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 1, state="paused")
        await until(lambda: len(bench.visits) == 1, lambda: skipping.sleep(1))
        await skipping.sleep(timedelta(days=2))
        assert bench.sent == []
        await handle.signal(CohortWorkflow.inform, News(control=2, state="active"))
        await handle.result()
    assert len(bench.sent) == 2


@pytest.mark.parametrize(
    ("if_overdue", "away", "letters"), [("skip", 48, [1]), ("skip", 0.5, [1, 4]), ("send", 48, [1, 4])]
)
async def test_a_message_that_a_pause_made_overdue_may_be_left_out(
    skipping: WorkflowEnvironment, bench: Bench, if_overdue: str, away: float, letters: list[int]
) -> None:
    """The wait ends in the pause; its journey is resumed `away` hours later."""
    steps = list(REFERENCE.steps)
    steps[3] = steps[3].model_copy(update={"if_overdue": if_overdue})
    wait = steps[1]
    assert isinstance(wait, Wait)
    assert wait.seconds is not None
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 1, REFERENCE.model_copy(update={"steps": tuple(steps)}), closes_in=0)
        await until(lambda: len(bench.visits) == 2, lambda: skipping.sleep(1))
        await handle.signal(CohortWorkflow.inform, News(control=2, state="paused"))
        await skipping.sleep(timedelta(seconds=wait.seconds, hours=away))
        await handle.signal(CohortWorkflow.inform, News(control=3, state="active"))
        await handle.result()
    assert bench.sent == [(1, visit) for visit in letters]
    assert bench.outcomes == {1: "silent"}


async def held_up(
    environment: WorkflowEnvironment, bench: Bench, plan: Plan = REFERENCE
) -> WorkflowHandle[CohortWorkflow, None]:
    """A cohort of two, whose first letters have to wait an hour for their provider."""
    bench.slow = {1: HOUR, 2: HOUR}
    handle = await start(environment, 2, plan)
    await until(lambda: not bench.slow, lambda: environment.sleep(1))
    return handle


async def test_pause_holds_what_waits_for_its_provider(skipping: WorkflowEnvironment, bench: Bench) -> None:
    async with bench.at_work(skipping.client):
        handle = await held_up(skipping, bench)
        await handle.signal(CohortWorkflow.inform, News(control=2, state="paused"))
        await skipping.sleep(timedelta(days=2))
        assert bench.sent == []
        await handle.signal(CohortWorkflow.inform, News(control=3, state="active"))
        await handle.result()
    assert sorted(bench.sent) == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert bench.withdrawn == []


async def test_what_is_paid_for_leaves_when_the_budget_is_spent(skipping: WorkflowEnvironment, bench: Bench) -> None:
    async with bench.at_work(skipping.client):
        handle = await held_up(skipping, bench)
        await handle.signal(CohortWorkflow.inform, News(control=2, state="spent"))
        await skipping.sleep(timedelta(days=2))
        assert sorted(bench.sent) == [(1, 1), (2, 1)]
        await handle.signal(CohortWorkflow.inform, News(control=3, state="active"))
        await handle.result()
    assert sorted(bench.sent) == [(1, 1), (1, 4), (2, 1), (2, 4)]


async def test_pause_while_a_letter_is_prepared_holds_it(skipping: WorkflowEnvironment, bench: Bench) -> None:
    bench.prepared.clear()
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 1)
        await until(lambda: len(bench.visits) == 1, lambda: skipping.sleep(1))
        await handle.signal(CohortWorkflow.inform, News(control=2, state="paused"))
        bench.prepared.set()
        await skipping.sleep(timedelta(hours=2))
        assert bench.sent == []
        await handle.signal(CohortWorkflow.inform, News(control=3, state="active"))
        await handle.result()
    assert bench.sent == [(1, 1), (1, 4)]


async def test_what_waits_for_its_provider_is_withdrawn_by_a_stop(skipping: WorkflowEnvironment, bench: Bench) -> None:
    async with bench.at_work(skipping.client):
        handle = await held_up(skipping, bench)
        await handle.signal(CohortWorkflow.inform, News(control=2, state="stopped"))
        await handle.result()
    assert bench.sent == []
    assert bench.withdrawn == [(1, 1, True), (2, 1, True)]
    assert bench.outcomes == {1: "stopped", 2: "stopped"}


async def test_what_waits_for_its_provider_is_withdrawn_from_those_who_leave(
    skipping: WorkflowEnvironment, bench: Bench
) -> None:
    async with bench.at_work(skipping.client):
        handle = await held_up(skipping, bench)
        await handle.signal(CohortWorkflow.inform, News(heard=[[7, 1, 1, 1]]))  # the goal
        await until(lambda: bool(bench.withdrawn), lambda: skipping.sleep(1))
        await handle.signal(CohortWorkflow.inform, News(orders=[Order(1, 2, None, "refunded")]))
        await handle.result()
    assert bench.sent == []
    assert bench.withdrawn == [(1, 1, False), (2, 1, False)]
    assert bench.outcomes == {1: "submitted", 2: "refunded"}


async def test_who_meets_the_criteria_that_end_the_journey_gets_no_letter(
    skipping: WorkflowEnvironment, bench: Bench
) -> None:
    bench.meets = {1}
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 2, plan=WATCHED)
        await until(lambda: len(bench.sent) == 1, lambda: skipping.sleep(1))
        assert bench.outcomes == {1: "met"}
        bench.meets = {2}
        await handle.signal(CohortWorkflow.inform, News(heard=[[7, 2, 2, 1]]))
        await handle.result()
    assert bench.sent == [(2, 1)]
    assert bench.outcomes == {1: "met", 2: "met"}
    assert [group.met for request in bench.requests for group in request.finished] == [True, True]


async def test_a_letter_that_waits_for_its_provider_is_withdrawn_from_who_meets_the_criteria(
    skipping: WorkflowEnvironment, bench: Bench
) -> None:
    async with bench.at_work(skipping.client):
        handle = await held_up(skipping, bench, plan=WATCHED)
        bench.meets = {1}
        await handle.signal(CohortWorkflow.inform, News(heard=[[7, 1, 2, 1]]))
        await until(lambda: bool(bench.withdrawn), lambda: skipping.sleep(1))
        await handle.signal(CohortWorkflow.inform, News(orders=[Order(1, 2, None, "refunded")]))
        await handle.result()
    assert bench.withdrawn[0] == (1, 1, False)
    assert bench.outcomes == {1: "met", 2: "refunded"}


async def test_continue_as_new_takes_along_what_a_pause_holds(
    brief_histories: WorkflowEnvironment, bench: Bench
) -> None:
    async def tick() -> None:
        await asyncio.sleep(0.05)

    bench.slow = {1: 4.0, 2: 4.0}
    async with bench.at_work(brief_histories.client):
        handle = await start(brief_histories, 2, closes_in=0)
        first_run = (await handle.describe()).run_id
        await until(lambda: not bench.slow, tick)
        await handle.signal(CohortWorkflow.inform, News(control=2, state="paused"))
        latest = brief_histories.client.get_workflow_handle(handle.id)
        event = 0
        while (await latest.describe()).run_id == first_run:
            event += 1
            await latest.signal(CohortWorkflow.inform, News(heard=[[event, 10_000, 1, 1]]))
            await tick()
        await latest.signal(CohortWorkflow.inform, News(heard=[[event + 1, 1, 1, 1]]))
        await until(lambda: bool(bench.withdrawn), tick)
        assert bench.sent == []
        await latest.signal(CohortWorkflow.inform, News(control=3, state="active"))
        await until(lambda: bool(bench.sent), tick)
        await latest.signal(CohortWorkflow.inform, News(heard=[[event + 2, 2, 1, 1]]))
        await latest.result()
    assert (bench.sent, bench.withdrawn) == ([(2, 1)], [(1, 1, False)])
    assert bench.outcomes == {1: "submitted", 2: "submitted"}


async def test_stop_ends_everybody(skipping: WorkflowEnvironment, bench: Bench) -> None:
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 2)
        await until(lambda: len(bench.sent) == 2, lambda: skipping.sleep(1))
        await handle.signal(CohortWorkflow.inform, News(control=2, state="stopped"))
        await handle.signal(CohortWorkflow.inform, News(control=1, state="active"))
        await handle.result()
    assert bench.outcomes == {1: "stopped", 2: "stopped"}


async def test_newcomers_may_join_until_the_cohort_closes(skipping: WorkflowEnvironment, bench: Bench) -> None:
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 1, closes_in=10 * HOUR)
        await until(lambda: 1 in bench.outcomes, lambda: skipping.sleep(60))
        await handle.signal(CohortWorkflow.inform, News(joins=[[2, 2]]))
        await handle.result()
    assert bench.outcomes == {1: "silent", 2: "silent"}


async def test_continue_as_new_keeps_tokens_and_what_was_heard(
    brief_histories: WorkflowEnvironment, bench: Bench
) -> None:
    async def tick() -> None:
        await asyncio.sleep(0.05)

    async with bench.at_work(brief_histories.client):
        handle = await start(brief_histories, 2, closes_in=0)
        first_run = (await handle.describe()).run_id
        for event in range(1, 40):
            await handle.signal(CohortWorkflow.inform, News(joins=[[event + 2, 1]], heard=[[event, 10_000, 1, 1]]))
            await asyncio.sleep(0.02)
        latest = brief_histories.client.get_workflow_handle(handle.id)
        # An event from before the new run, told again, must not count; one from after must.
        await until(lambda: len(bench.sent) == 41, tick)
        await latest.signal(CohortWorkflow.inform, News(heard=[[39, 2, 1, 1]]))
        await latest.signal(CohortWorkflow.inform, News(heard=[[50 + n, n, 1, 1] for n in range(1, 42) if n != 2]))
        await until(lambda: len(bench.outcomes) == 40, tick)
        description = await latest.describe()
        assert description.run_id != first_run
        assert description.status == WorkflowExecutionStatus.RUNNING
        await latest.signal(CohortWorkflow.inform, News(heard=[[99, 2, 1, 1]]))
        await latest.result()
    assert len(bench.sent) == len(set(bench.sent)) == 41
    assert set(bench.outcomes.values()) == {"submitted"}


async def test_continue_as_new_waits_for_work_under_way(brief_histories: WorkflowEnvironment, bench: Bench) -> None:
    async def tick() -> None:
        await asyncio.sleep(0.05)

    bench.gate.clear()
    async with bench.at_work(brief_histories.client):
        handle = await start(brief_histories, 1, closes_in=0)
        for event in range(1, 40):
            await handle.signal(CohortWorkflow.inform, News(heard=[[event, 10_000, 1, 1]]))
        bench.gate.set()
        await until(lambda: bool(bench.sent), tick)
        latest = brief_histories.client.get_workflow_handle(handle.id)
        await latest.signal(CohortWorkflow.inform, News(heard=[[99, 1, 1, 1]]))
        await latest.result()
    assert bench.sent == [(1, 1)]
    assert bench.outcomes == {1: "submitted"}


@pytest.mark.parametrize("stuck", ["prepared", "gate", "looked"], ids=["prepare", "deliver", "leave"])
async def test_work_that_never_ends_does_not_keep_a_cohort_from_continuing_as_new(
    brief_histories: WorkflowEnvironment, bench: Bench, stuck: str
) -> None:
    async def tick() -> None:
        await asyncio.sleep(0.05)

    blocked: asyncio.Event = getattr(bench, stuck)
    blocked.clear()
    async with bench.at_work(brief_histories.client):
        plan = WATCHED if stuck == "looked" else REFERENCE
        handle = await start(brief_histories, 2, plan, closes_in=0, patience=0.5)
        first_run = (await handle.describe()).run_id
        latest = brief_histories.client.get_workflow_handle(handle.id)
        await until(lambda: len(bench.visits) == 2, tick)
        event = 0
        while (await latest.describe()).run_id == first_run:
            event += 1
            await latest.signal(CohortWorkflow.inform, News(heard=[[event, 10_000, 1, 1]]))
            await tick()
        assert bench.sent == []
        blocked.set()
        await until(lambda: len(bench.sent) >= 2, tick)
        await latest.signal(CohortWorkflow.inform, News(heard=[[event + 1, 1, 1, 1], [event + 2, 2, 1, 1]]))
        await latest.result()
    assert set(bench.sent) == {(1, 1), (2, 1)}
    assert bench.outcomes == {1: "submitted", 2: "submitted"}


# Live edits

SHORTER = REFERENCE.model_copy(
    update={
        "steps": (
            REFERENCE.steps[0],
            REFERENCE.steps[1].model_copy(update={"seconds": 40.0, "next": 2}),
            Send(id="instead", channel="email", template="instead", next=3),
            *REFERENCE.steps[4:],
        ),
        "subscriptions": (
            Subscription(role="goal", filter=EventFilter(event="other"), outcome="other"),
            *REFERENCE.subscriptions,
        ),
    }
)
SHORTER = SHORTER.model_copy(
    update={
        "steps": tuple(
            step.model_copy(update={"until": (step.until[0].model_copy(update={"subscription": 1, "next": 4}),)})
            if isinstance(step, Wait)
            else step
            for step in SHORTER.steps
        )
    }
)


def shift(old: Plan, new: Plan, from_version: int, to_version: int, placement: dict[str, str] | None = None) -> News:
    """What the router tells a cohort that is to go on in another version."""
    ways = moving.ways(old, new, placement or {})
    steps = {step: (way.to, way.anew) for step, way in ways.items()}
    return News(shift=Shift(from_version, to_version, new.model_dump(mode="json"), steps))


async def test_a_cohort_goes_on_in_another_version_once(skipping: WorkflowEnvironment, bench: Bench) -> None:
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 3)
        await until(lambda: len(bench.sent) == 3, lambda: skipping.sleep(1))
        for _ in range(2):
            await handle.signal(CohortWorkflow.inform, shift(REFERENCE, SHORTER, 1, 2))
        # Routed by the version that the cohort was on until just now, and by the present one.
        await handle.signal(CohortWorkflow.inform, News(heard=[[10, 1, 0, 1], [11, 2, 2, 2]]))
        await handle.result()
    assert bench.outcomes == {1: "returned", 2: "submitted", 3: "silent"}
    assert sorted(bench.sent) == [(1, 1), (2, 1), (3, 1), (3, 3)]
    moves = [request for request in bench.requests if request.moved is not None]
    assert [(one.version_id, sorted(row[:2] for row in one.moved or ())) for one in moves] == [
        (2, [[1, 1], [2, 1], [3, 1]])
    ]
    assert all(request.version_id == 2 for request in bench.requests[bench.requests.index(moves[0]) :])


async def test_a_letter_under_way_while_the_version_changes_is_sent_once(
    skipping: WorkflowEnvironment, bench: Bench
) -> None:
    renamed = REFERENCE.model_copy(
        update={"steps": (REFERENCE.steps[0].model_copy(update={"id": "epistle"}), *REFERENCE.steps[1:])}
    )
    bench.gate.clear()
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 2)
        await until(lambda: len(bench.visits) == 2, lambda: skipping.sleep(1))
        await handle.signal(CohortWorkflow.inform, shift(REFERENCE, renamed, 1, 2, {"letter": "epistle"}))
        await handle.signal(CohortWorkflow.inform, shift(renamed, SHORTER, 2, 3, {"epistle": "wait"}))
        await until(lambda: any(one.version_id == 3 for one in bench.requests), lambda: skipping.sleep(1))
        bench.gate.set()
        await handle.result()
    assert sorted(bench.sent) == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert bench.outcomes == {1: "silent", 2: "silent"}


async def test_what_was_found_of_the_criteria_of_another_version_lets_nobody_through(
    skipping: WorkflowEnvironment, bench: Bench
) -> None:
    bench.looked.clear()
    bench.looked_anew.clear()
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 1, WATCHED)
        await until(lambda: len(bench.visits) == 1, lambda: skipping.sleep(1))
        await handle.signal(CohortWorkflow.inform, shift(WATCHED, WATCHED, 1, 2))
        await until(lambda: any(one.version_id == 2 for one in bench.requests), lambda: skipping.sleep(1))
        bench.looked.set()
        await until(lambda: 1 in bench.asked, lambda: skipping.sleep(1))
        await skipping.sleep(2)  # real seconds while an activity runs: in them a letter would have been sent
        assert bench.sent == []
        bench.meets = {1}
        bench.looked_anew.set()
        await handle.result()
    assert (bench.sent, bench.outcomes) == ([], {1: "met"})


async def test_contacts_are_moved_and_taken_out_by_hand_once(skipping: WorkflowEnvironment, bench: Bench) -> None:
    async with bench.at_work(skipping.client):
        handle = await start(skipping, 2)
        await until(lambda: len(bench.sent) == 2, lambda: skipping.sleep(1))
        orders = [
            Order(1, 1, "second", ""),
            Order(2, 2, None, "refunded"),
            Order(3, 2, "second", ""),
            Order(4, 1, "no", ""),
        ]
        for _ in range(2):
            await handle.signal(CohortWorkflow.inform, News(orders=orders))
        await handle.result()
    assert sorted(bench.sent) == [(1, 1), (1, 3), (2, 1)]
    assert bench.outcomes == {1: "silent", 2: "refunded"}
    answers = [tuple(answer) for request in bench.requests for answer in request.orders]
    assert answers == [(1, None), (2, None), (3, "the enrollment had ended"), (4, "its version has no step no")]


async def test_the_version_outlives_the_run(brief_histories: WorkflowEnvironment, bench: Bench) -> None:
    async def tick() -> None:
        await asyncio.sleep(0.05)

    async with bench.at_work(brief_histories.client):
        handle = await start(brief_histories, 1, closes_in=0)
        first_run = (await handle.describe()).run_id
        await until(lambda: bool(bench.sent), tick)
        steps = [
            step.model_copy(update={"seconds": 400.0}) if isinstance(step, Wait) else step for step in SHORTER.steps
        ]
        patient = SHORTER.model_copy(update={"steps": tuple(steps)})
        await handle.signal(CohortWorkflow.inform, shift(REFERENCE, patient, 1, 2))
        latest = brief_histories.client.get_workflow_handle(handle.id)
        for event in range(1, 40):
            await latest.signal(CohortWorkflow.inform, News(heard=[[event, 10_000, 0, 1]]))
            await asyncio.sleep(0.02)
        assert (await latest.describe()).run_id != first_run
        await latest.signal(CohortWorkflow.inform, shift(REFERENCE, SHORTER, 1, 2))  # told again, and late
        await latest.signal(CohortWorkflow.inform, News(heard=[[99, 1, 1, 1]]))  # the goal, as version 1 calls it
        await latest.result()
    assert bench.outcomes == {1: "submitted"}
    assert bench.sent == [(1, 1)]
