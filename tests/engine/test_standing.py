"""Contacts who are at several steps at the same time are shown at each of them, on the real database and servers."""

from datetime import timedelta

import journeys
import segments
from engine import history, moves
from journeys import edits, store
from segments.criteria import parse
from studio import status
from tests.engine.test_live_edits import spread_until
from tests.engine.test_running import Installation, here

__all__ = ["here"]  # a fixture

_BRANCHES = """
journey: both
steps:
  - parallel:
      letters: [{id: pause, wait: 1d}, {send: email, template: letter}]
      answers: [{id: answer, wait: 2d, until: {event: answered}}, {id: calm, wait: 3d}]
  - {id: after, wait: 4d}
"""


def _here(page: status.JourneyPage) -> dict[str, int]:
    """The newest version's steps that somebody stands on."""
    return {step.id: step.here for step in page.versions[0].steps if step.here}


async def test_each_branch_is_counted_where_it_stands(here: Installation) -> None:
    await here.publish(_BRANCHES)
    anna, berta = await here.contact(), await here.contact()
    await here.enter("both", anna, berta)
    await here.until("select 1 from enrollment having count(*) filter (where branch_steps is not null) = 2")
    await here.happen("answered", anna)
    await here.until("select 1 from step_visit where enrollment_id = 1 having max(visit) = 4")
    edited = journeys.compile(journeys.load(_BRANCHES.replace("{id: answer, wait: 2d", "{id: reply, wait: 2d")))
    everybody = parse({"journey": {"name": "both", "state": "running", "step": "pause"}})
    async with here.database.begin() as connection:
        page = await status.journey(connection, "both")
        assert _here(page) == {
            "pause": 2,
            "answer": 1,
            "calm": 1,
        }
        (line,) = (await status.overview(connection)).journeys
        assert (line.running, dict(line.standing)) == (2, {"pause": 2, "answer": 1, "calm": 1})
        standing = await edits.standing(connection, 1, edited, {})
        assert {one.step: (one.contacts, one.to) for one in standing if one.contacts} == {
            "pause": (2, "pause"),
            "answer": (1, None),
            "calm": (1, "calm"),
        }
        assert await segments.matching(connection, everybody, [anna, berta]) == {anna, berta}
        (told,) = await history.of_contact(connection, anna)
        until = {wait.step: wait.until for wait in told.waits if wait.until is not None}
        assert until.keys() == {"pause", "calm"}
        assert timedelta(days=1.9) < until["calm"] - until["pause"] < timedelta(days=2.1)


async def test_a_new_version_and_an_order_take_the_branches_along(here: Installation) -> None:
    await here.publish(_BRANCHES)
    anna, berta = await here.contact(), await here.contact()
    await here.enter("both", anna, berta)
    await here.until("select 1 from enrollment having count(*) filter (where branch_steps is not null) = 2")
    async with here.database.begin() as connection:
        newer = _BRANCHES.replace("steps:", "steps:\n  - {tag: early}\n  - {tag: bird}", 1)
        assert (await store.publish(connection, newer, move=True)).moving == 2
    await spread_until(here, "select 1 from enrollment having count(*) filter (where version_id = 2) = 2")
    async with here.database.begin() as connection:
        page = await status.journey(connection, "both")
        assert _here(page) == {"pause": 2, "answer": 2}
        await moves.order(connection, 2, step="after")
    await spread_until(here, "select 1 from enrollment where id = 2 and branch_steps is null")
    async with here.database.begin() as connection:
        page = await status.journey(connection, "both")
        assert _here(page) == {
            "pause": 1, "answer": 1, "after": 1,
        }  # fmt: skip
        (told,) = await history.of_contact(connection, berta)
        assert [wait.step for wait in told.waits] == ["after"]


async def test_where_branches_have_met_one_step_is_left(here: Installation) -> None:
    await here.publish(
        "journey: brief\nsteps:\n  - parallel: {one: [{wait: 1s}], two: [{tag: seen}, {wait: 2s}]}\n"
        "  - {id: after, wait: 4d}\n"
    )
    anna = await here.contact()
    await here.enter("brief", anna)
    found = await here.until("select branch_steps, branch_ends from enrollment where due_at > now() + '3 days'")
    assert [(row.branch_steps, row.branch_ends) for row in found] == [(None, None)]
    async with here.database.begin() as connection:
        page = await status.journey(connection, "brief")
    assert [step.id for step in page.versions[0].steps if step.here] == ["after"]
