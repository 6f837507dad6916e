"""Limits on what a contact gets, whoever prepares and delivers at the same time, and whenever the rows were made."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import Item, Rules, byhand, caps
from channels.batches import Batch, Member
from channels.policy import Facts, Send, decide_all
from channels.provider import Letter, Outcome, Receipt
from core.clock import now
from core.ids import message_id
from tests.channels.world import World, accept

ONE = Rules(cap=1)
TWICE = Rules(duplicate_seconds=3600)


async def runs(world: World, number: int, contacts: int = 1) -> list[Item]:
    """Several enrollments of each of some contacts, contact by contact."""
    first = await world.enroll(contacts)
    made = []
    for item in first:
        more = await world.run(
            "insert into enrollment (contact_id, cohort_id, journey_id, version_id, exclusive) "
            "select contact_id, 1, journey_id, version_id, false from enrollment, generate_series(2, :n) "
            "where id = :first returning id",
            n=number, first=item.enrollment_id,
        )  # fmt: skip
        made += [item, *(Item(row.id, 1) for row in more)]
    return made


async def actions(world: World, items: list[Item], at: datetime, rules: Rules) -> list[str]:
    return sorted(verdict.action for verdict in await world.prepare(items, at, rules))


@pytest.mark.parametrize("rules", [ONE, TWICE])
async def test_two_runs_of_a_contact_in_one_batch(world: World, at: datetime, rules: Rules) -> None:
    items = await runs(world, 3)
    before = await world.prepare(items, at, rules)
    assert sorted(verdict.action for verdict in before) == ["deliver", "skip", "skip"]
    assert await world.prepare(items, at, rules) == before  # the activity was repeated
    assert sorted((await world.deliver(items, at, rules=rules)).states.values()) == ["accepted", "skipped", "skipped"]


@pytest.mark.parametrize("rules", [ONE, TWICE])
async def test_batches_at_the_same_time(world: World, at: datetime, rules: Rules) -> None:
    for _ in range(5):  # the first ones do not meet: a connection has to be opened
        items = await runs(world, 2, contacts=3)
        batches = (actions(world, items[number::2], at, rules) for number in range(2))
        first, second = await asyncio.gather(*batches)
        assert sorted(first + second) == ["deliver"] * 3 + ["skip"] * 3


async def test_everything_at_once_never_exceeds_the_cap(world: World, at: datetime) -> None:
    rules, visits = Rules(cap=2), count(1)
    items = await runs(world, 3, contacts=2)

    async def one_batch(number: int) -> None:
        batch = [Item(item.enrollment_id, next(visits)) for item in items[number % 2 :: 2]]
        moment = at - timedelta(seconds=number * 7)
        verdicts = await world.prepare(batch, moment, rules)
        going = {verdict.enrollment_id for verdict in verdicts if verdict.action == "deliver"}
        if going:
            await world.deliver([item for item in batch if item.enrollment_id in going], moment, rules=rules)

    await asyncio.gather(*(one_batch(number) for number in range(6)))
    assert sorted(Counter(letter.recipient for letter in world.recorder.letters).values()) == [2, 2]


async def test_a_late_batch_sees_what_was_sent_since(world: World, at: datetime) -> None:
    late, early = await runs(world, 2)
    assert await actions(world, [early], at, ONE) == ["deliver"]
    await world.deliver([early], at, rules=ONE)
    assert await actions(world, [late], at - timedelta(minutes=5), ONE) == ["skip"]


async def test_a_message_counts_from_when_it_was_sent(world: World, at: datetime) -> None:
    held, new = await runs(world, 2)
    long_ago = at - timedelta(days=3)
    await world.prepare([held], long_ago, ONE)
    await world.deliver([held], long_ago, rules=ONE)
    assert await actions(world, [new], at, ONE) == ["skip"]


async def test_a_message_that_waited_too_long_gives_way(world: World, at: datetime) -> None:
    held, new = await runs(world, 2)
    long_ago = at - timedelta(days=3)
    await world.prepare([held], long_ago, ONE)
    assert await actions(world, [new], at, ONE) == ["deliver"]
    assert (await world.deliver([held], long_ago, rules=ONE)).states == {held.enrollment_id: "skipped"}
    assert (await world.deliver([new], at, rules=ONE)).states == {new.enrollment_id: "accepted"}


async def failed_and_retried(world: World, failed: Item, at: datetime) -> None:
    async def refuse(letters: list[Letter]) -> list[Receipt]:
        return [Receipt(Outcome.REJECTED, reason="no") for _ in letters]

    world.recorder.behaviour = refuse  # type: ignore[assignment]
    await world.prepare([failed], at, ONE)
    await world.deliver([failed], at, rules=ONE)
    world.recorder.behaviour = accept
    world.recorder.letters.clear()


async def retry(world: World, item: Item) -> None:
    async with world.database.begin() as connection:
        await byhand.retry(connection, message_id(item.enrollment_id, item.visit), "anna", None)


async def test_sending_again_by_hand_keeps_the_cap(world: World, at: datetime) -> None:
    failed, sent = await runs(world, 2)
    await failed_and_retried(world, failed, at)
    later = at + timedelta(seconds=1)
    assert await actions(world, [sent], later, ONE) == ["deliver"]  # what failed does not count
    await world.deliver([sent], later, rules=ONE)
    await retry(world, failed)
    assert (await world.deliver([failed], at, rules=ONE)).states == {failed.enrollment_id: "skipped"}


async def test_of_two_that_wait_one_gives_way_and_not_both(world: World, at: datetime) -> None:
    one, other = await runs(world, 2)
    await world.prepare([one, other], at)

    async def count(connection: AsyncConnection, item: Item) -> int:
        number = item.enrollment_id
        batch, contact = Batch("email", "marketing", world.version_id, 0, at), await contact_of(world, item)
        members = [Member(number, message_id(number, item.visit), contact, "c@example.com", None)]
        return (await caps.counted(connection, batch, members, ONE, now(), reserve=False))[number].sent

    async def count_the_other() -> int:
        async with world.database.begin() as connection:
            return await count(connection, other)

    async with world.database.begin() as connection:
        assert await count(connection, one) == 1
        waiting = asyncio.create_task(count_the_other())
        await asyncio.wait([waiting], timeout=0.3)
        skip = text("update message set state = 15 where enrollment_id = :id")
        await connection.execute(skip, {"id": one.enrollment_id})
    assert await waiting == 0


async def contact_of(world: World, item: Item) -> int:
    [row] = await world.run("select contact_id from enrollment where id = :id", id=item.enrollment_id)
    return int(row.contact_id)


async def test_a_prepare_waits_for_one_that_waited_too_long_and_leaves_now(world: World, at: datetime) -> None:
    held, new = await runs(world, 2)
    long_ago = at - timedelta(days=3)
    await world.prepare([held], long_ago, ONE)
    leaving, may_go_on = asyncio.Event(), asyncio.Event()
    begin = world.delivery._workshop.write

    async def write_slowly(*given: Any) -> Any:
        leaving.set()
        await may_go_on.wait()
        return await begin(*given)

    object.__setattr__(world.delivery._workshop, "write", write_slowly)
    sending = asyncio.create_task(world.deliver([held], long_ago, rules=ONE))
    await leaving.wait()
    preparing = asyncio.create_task(actions(world, [new], at, ONE))
    await asyncio.wait([preparing], timeout=0.3)
    may_go_on.set()
    assert await preparing == ["skip"]
    assert (await sending).states == {held.enrollment_id: "accepted"}


async def test_a_prepare_waits_for_one_that_is_sent_again(world: World, at: datetime) -> None:
    failed, other = await runs(world, 2)
    await failed_and_retried(world, failed, at)
    async with world.database.begin() as connection:
        await byhand.retry(connection, message_id(failed.enrollment_id, failed.visit), "anna", None)
        waiting = asyncio.create_task(actions(world, [other], at + timedelta(seconds=1), ONE))
        await asyncio.wait([waiting], timeout=0.3)
        assert not waiting.done()
    assert await waiting == ["skip"]


async def test_consent_and_suppression_are_asked_when_the_letter_leaves(world: World, at: datetime) -> None:
    withdrawn, suppressed, good = await world.enroll(3)
    await world.prepare([withdrawn, suppressed, good], at)
    contact = "(select contact_id from enrollment where id = :id)"
    await world.run(f"update consent set granted = false where contact_id = {contact}", id=withdrawn.enrollment_id)
    await world.run(
        "insert into suppression (channel, address, reason) "
        f"select 'email', value, 'complained' from identity where contact_id = {contact}",
        id=suppressed.enrollment_id,
    )
    await world.deliver([withdrawn, suppressed, good], at)
    assert [row.reason for row in await world.rows()] == ["no_consent", "suppressed: complained", None]
    assert len(world.recorder.letters) == 1


def test_the_messages_of_a_batch_count_for_each_other_if_they_may_leave(at: datetime) -> None:
    good = Facts("email", "marketing", True, "ann@example.com", True)
    barred = Facts("email", "marketing", True, "ann@example.com", True, sender_barred="not in RU")
    other = Facts("email", "marketing", True, "ben@example.com", True)
    decided = decide_all([(1, barred), (1, good), (2, other), (1, good), (1, good)], at, Rules(cap=2))
    assert [isinstance(one, Send) for one in decided] == [False, True, True, True, False]


async def test_a_weekly_limit_and_a_cap_are_kept_together(world: World, at: datetime) -> None:
    items = await runs(world, 4)
    await world.run(
        "insert into frequency (contact_id, channel, per_week) select distinct contact_id, 'email', 2 from enrollment"
    )
    assert await actions(world, items, at, Rules(cap=3)) == ["deliver", "deliver", "skip", "skip"]
