"""Live edits on the real database, router and Temporal server: contacts stand on every kind of place while a new
version comes, and each gets each letter once.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from channels.provider import Letter, Receipt
from core.errors import Conflict
from engine import entering, history, moves
from journeys import store
from tests.channels.world import accept
from tests.engine.test_running import Installation, here

__all__ = ["here"]  # a fixture

FIRST = """
journey: long
steps:
  - {id: hello, send: email, template: letter}
  - {id: pause, wait: 1h}
  - {id: last, send: email, template: letter}
  - {end: done}
"""
# Somebody is being sent `hello`, which has another name now; somebody waits at `pause`, which is gone.
SECOND = """
journey: long
steps:
  - {id: greeting, send: email, template: letter}
  - {id: patience, wait: 1s, until: {event: paid}, then: [{end: paid}]}
  - {id: last, send: email, template: letter}
  - {end: done}
"""


async def _move(here: Installation, source: str, placement: dict[str, str]) -> None:
    async with here.database.begin() as connection:
        await store.publish(connection, source, move=True, placement=placement)


async def spread_until(here: Installation, statement: str) -> None:
    """Let the router's duty work until a query gives rows."""
    duty = moves.Moves(here.database, here.router._cohorts, here.versions)
    for _ in range(400):
        await duty.spread()
        await here.router.round()
        if await here.run(statement):
            return
        await asyncio.sleep(0.03)
    raise AssertionError(f"it never came to that: {statement}")


def _letters(here: Installation) -> dict[str, int]:
    """Address to how many different letters went there; each of them was handed over once."""
    ids = [letter.message_id for letter in here.recorder.letters]
    assert len(ids) == len(set(ids))
    return dict(Counter(letter.recipient for letter in here.recorder.letters))


async def test_a_new_version_comes_while_contacts_wait_and_while_a_letter_is_under_way(here: Installation) -> None:
    await here.publish(FIRST)
    waiting = [await here.contact() for _ in range(3)]
    await here.enter("long", *waiting)
    await here.until("select 1 from enrollment where step = 1 having count(*) = 3")
    gate = asyncio.Event()

    async def slow(letters: Sequence[Letter]) -> list[Receipt]:
        await gate.wait()
        return await accept(letters)

    here.recorder.behaviour = slow
    sending = await here.contact()
    await here.enter("long", sending)
    while len(here.recorder.letters) < 4:
        await here.router.round()
        await asyncio.sleep(0.02)
    await _move(here, SECOND, {"hello": "greeting", "pause": "patience"})
    await spread_until(here, "select 1 from enrollment e join journey j on j.id = e.journey_id "
                        "where e.version_id = j.version_id having count(*) = 4")  # fmt: skip
    gate.set()
    for contact in (*waiting, sending):
        assert await here.outcome("long", contact) == "done"
    assert _letters(here) == {f"c{contact}@example.com": 2 for contact in (*waiting, sending)}
    versions = await here.run("select distinct version_id from cohort")
    assert len(versions) == 1


async def test_those_who_are_moved_hear_what_the_new_version_listens_to(here: Installation) -> None:
    await here.publish(FIRST)
    anna = await here.contact()
    await here.enter("long", anna)
    await here.until("select 1 from enrollment where step = 1")
    await _move(here, SECOND.replace("1s", "2h"), {"pause": "patience"})
    await spread_until(here, "select 1 from enrollment e join journey j using (version_id)")
    await here.happen("paid", anna)
    assert await here.outcome("long", anna) == "paid"
    (enrollment,) = await here.run("select id from enrollment")
    async with here.database.begin() as connection:
        told = await history.of_enrollment(connection, enrollment.id)
    assert [one.step for one in told.moments][:2] == ["hello", "pause"]
    assert told.version == 2


async def test_by_hand(here: Installation) -> None:
    await here.publish(FIRST)
    anna, boris = await here.contact(), await here.contact()
    await here.enter("long", anna, boris)
    rows = await here.until(
        "select array_agg(id order by contact_id) as ids from enrollment where step = 1 having count(*) = 2"
    )
    first, second = rows[0].ids
    async with here.database.begin() as connection:
        await moves.order(connection, first, step="last")
        await moves.order(connection, second, outcome="refunded")
    await spread_until(here, "select 1 from enrollment_order where done_at is not null having count(*) = 2")
    assert await here.outcome("long", anna) == "done"
    assert await here.outcome("long", boris) == "refunded"
    assert _letters(here) == {f"c{anna}@example.com": 2, f"c{boris}@example.com": 1}


async def test_stopping_with_finishing_lets_those_inside_go_on(here: Installation) -> None:
    await here.publish(FIRST.replace("1h", "1s"))
    anna, boris = await here.contact(), await here.contact()
    await here.enter("long", anna)
    await here.until("select 1 from enrollment")
    async with here.database.begin() as connection:
        await store.set_state(connection, "long", "finishing")
    await here.router._cohorts.spread_control(here.database)
    async with here.database.begin() as connection:
        with pytest.raises(Conflict, match="the journey long is finishing"):
            await entering.enter(connection, "long", [boris])
    assert await here.outcome("long", anna) == "done"
    assert _letters(here) == {f"c{anna}@example.com": 2}
