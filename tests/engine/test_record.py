"""Writing down what happened to tokens: every visit, and the last that is known of each enrollment."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from channels import Delivery
from core.clock import now
from core.database import Database
from core.settings import Settings
from engine.activities import Activities
from engine.versions import Versions
from engine.wire import Arrivals, Finishes, RecordRequest, Waits

NOW = now().timestamp() // 1


async def enroll(database: Database, *ids: int) -> None:
    async with database.begin() as connection:
        for number in ids:
            await connection.execute(
                text(
                    "insert into enrollment (id, contact_id, cohort_id, journey_id, version_id, exclusive) "
                    "values (:id, :id, 1, 1, 1, true)"
                ),
                {"id": number},
            )


@pytest.fixture
async def activities(database: Database, settings: Settings) -> Activities:
    return Activities(database, settings, Delivery(database, settings), Versions())


async def state(database: Database, number: int) -> dict[str, Any]:
    async with database.begin() as connection:
        row = await connection.execute(
            text("select state, step, visit, due_at, outcome, finished_at from enrollment where id = :id"),
            {"id": number},
        )
        return dict(row.mappings().one())


async def test_each_enrollment_comes_to_its_last_visit(database: Database, activities: Activities) -> None:
    await enroll(database, 1, 2, 3)
    request = RecordRequest(
        1,
        1,
        visits=[
            Arrivals(1, 0, NOW, "entry", [1, 2, 3]),
            Arrivals(2, 1, NOW + 1, "next", [1, 2]),
            Arrivals(3, 4, NOW + 2, "event", [2]),
        ],
        waits=[Waits(2, NOW + 60, [1, 2])],
        finished=[Finishes(3, NOW + 3, "done", [2])],
        over=False,
    )
    await activities.record(request)
    await activities.record(request)
    due = datetime.fromtimestamp(NOW + 60, UTC)
    end = datetime.fromtimestamp(NOW + 3, UTC)
    plain = {"due_at": None, "outcome": None, "finished_at": None}
    assert await state(database, 1) == {**plain, "state": "active", "step": 1, "visit": 2, "due_at": due}
    assert await state(database, 2) == {
        **plain,
        "state": "finished",
        "step": 4,
        "visit": 3,
        "outcome": "done",
        "finished_at": end,
    }
    assert await state(database, 3) == {**plain, "state": "active", "step": 0, "visit": 1}
    async with database.begin() as connection:
        rows = await connection.execute(
            text("select enrollment_id, visit, step, via from step_visit order by enrollment_id, visit")
        )
        assert [tuple(row) for row in rows] == [
            (1, 1, 0, "entry"), (1, 2, 1, "next"),
            (2, 1, 0, "entry"), (2, 2, 1, "next"), (2, 3, 4, "event"),
            (3, 1, 0, "entry"),
        ]  # fmt: skip


async def test_the_later_of_two_waits_of_one_visit_holds(database: Database, activities: Activities) -> None:
    await enroll(database, 1)
    waits = [Waits(1, NOW + 10, [1]), Waits(1, NOW + 5, [1])]
    await activities.record(RecordRequest(1, 1, [Arrivals(1, 0, NOW, "entry", [1])], waits, [], over=False))
    assert (await state(database, 1))["due_at"] == datetime.fromtimestamp(NOW + 5, UTC)


async def test_criteria_that_ended_a_run_close_it(database: Database, activities: Activities) -> None:
    await enroll(database, 1, 2, 3)
    async with database.begin() as connection:
        await connection.execute(text("update enrollment set closed_by = 7 where id = 2"))
    finished = [Finishes(1, NOW, "met", [1, 2], met=True), Finishes(1, NOW, "done", [3])]
    for _ in range(2):
        await activities.record(RecordRequest(1, 1, [], [], finished, over=False))
    async with database.begin() as connection:
        rows = await connection.execute(text("select id, closed_by, outcome from enrollment order by id"))
        assert [tuple(row) for row in rows] == [(1, 0, "met"), (2, 7, "met"), (3, None, "done")]


async def test_late_repeat_does_not_bring_an_enrollment_back(database: Database, activities: Activities) -> None:
    await enroll(database, 1)
    first = RecordRequest(1, 1, [Arrivals(1, 0, NOW, "entry", [1])], [], [], over=False)
    last = RecordRequest(1, 1, [Arrivals(2, 1, NOW, "next", [1])], [], [Finishes(2, NOW, "done", [1])], over=False)
    for request in (first, last, first):
        await activities.record(request)
    assert (await state(database, 1))["state"] == "finished"
