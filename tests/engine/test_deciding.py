"""Splits that find out which arm is best, over the visits and outcomes in a real database."""

from datetime import timedelta

import pytest

from core.clock import now
from engine import winners
from engine.versions import Version
from engine.winners import Winners
from tests.engine.steps_world import World

JOURNEY = """
journey: ab
goal: {event: bought, outcome: bought}
steps:
  - id: halves
    split: {a: 1, b: 1}
    winner: {metric: goal, sample: 10, deadline: 2d}
  - wait: 30d
"""


async def arrive(world: World, version: Version, arm: str, count: int, bought: int, days: float = 0) -> None:
    """Contacts who were given an arm so many days ago; some of them have bought."""
    contacts = [await world.contact() for _ in range(count)]
    enrollments = await world.enroll(version, *contacts)
    rows = [(1, "entry"), (2, f"arm:{arm}")]
    for visit, via in rows:
        await world.run(
            "insert into step_visit (enrollment_id, visit, step, arrived_at, via, version_id) "
            "select id, :visit, :step, :at, :via, :version from unnest(cast(:ids as bigint[])) as id",
            ids=enrollments, visit=visit, step=visit - 1, via=via, version=version.id, at=now() - timedelta(days=days),
        )  # fmt: skip
    await world.run(
        "update enrollment set outcome = 'bought', state = 'finished', finished_at = now() where id = any(:ids)",
        ids=enrollments[:bought],
    )


async def test_at_its_deadline_the_arm_ahead_wins_and_who_comes_later_is_told_so(world: World) -> None:
    version = await world.publish(JOURNEY)
    await arrive(world, version, "a", 3, 1, days=1)
    await arrive(world, version, "b", 3, 2, days=1)
    assert await Winners(world.database, world.versions).decide() == 0
    await world.run("update step_visit set arrived_at = arrived_at - interval '1 day'")
    assert await Winners(world.database, world.versions).decide() == 1
    (row,) = await world.run("select arm, reason, figures from split_decision")
    assert (row.arm, row.reason, row.figures) == ("b", "deadline", {"a": [3, 1], "b": [3, 2]})
    late = await world.enroll(version, *[await world.contact() for _ in range(20)])
    acted = await world.act(version, "halves", [(one, 1) for one in late])
    assert {row[3] for row in acted.went} == {"won:b"}


async def test_looks_are_counted_and_few(world: World) -> None:
    version = await world.publish(JOURNEY)
    await arrive(world, version, "a", 20, 6)
    await arrive(world, version, "b", 20, 6)
    for _ in range(3):
        assert await Winners(world.database, world.versions).decide() == 0
    assert [tuple(row) for row in await world.run("select looks, successes from split_look")] == [(1, 12)]
    await arrive(world, version, "b", 60, 60)
    assert await Winners(world.database, world.versions).decide() == 1
    assert [tuple(row) for row in await world.run("select looks, successes from split_look")] == [(2, 72)]
    assert [row.arm for row in await world.run("select arm from split_decision")] == ["b"]


async def test_a_split_that_was_counted_just_now_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winners, "_REST", 1_000_000)
    version = await world.publish(JOURNEY)
    await arrive(world, version, "a", 20, 0)
    await arrive(world, version, "b", 20, 0)
    patient = Winners(world.database, world.versions)
    assert await patient.decide() == 0
    await world.run("update enrollment set outcome = 'bought' where id % 2 = 0 or id > 20")
    assert await patient.decide() == 0
    assert await Winners(world.database, world.versions).decide() == 1
