"""The ledger and delivery on a real database: each letter once, whatever dies."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from channels import Item, attempt, claims, fates, ledger, providers, templates
from channels.policy import Rules
from channels.provider import Letter, NotNow, Outcome, Receipt
from channels.settling import Superseded
from contacts import erasure
from core.clock import now
from core.errors import DatabaseUnavailable
from core.ids import message_id
from core.schema.messages import MessageState as S
from tests.channels.world import Behaviour, World, accept


class Died(BaseException):
    """What kills a worker in the middle."""


async def die(_letters: Sequence[Letter]) -> list[Receipt]:
    raise Died


def answer(*outcomes: Outcome, wait: float | None = None) -> Behaviour:
    queue = list(outcomes)

    async def behave(letters: Sequence[Letter]) -> list[Receipt]:
        outcome = queue.pop(0) if len(queue) > 1 else queue[0]
        after = None if wait is None else timedelta(seconds=wait)
        return [Receipt(outcome, reason=f"said {outcome}", retry_after=after) for _ in letters]

    return behave


async def test_a_batch_goes_out_once(world: World, at: datetime) -> None:
    items = await world.enroll(25, first_name="Ann")
    verdicts = await world.prepare(items, at)
    assert {(v.action, v.provider) for v in verdicts} == {("deliver", "main")}
    done = await world.deliver(items, at)
    assert done.states == {item.enrollment_id: "accepted" for item in items}
    assert len(world.recorder.letters) == 25
    assert world.beats >= 3
    letter = world.recorder.letters[0]
    assert letter.subject == "Hi Ann"
    assert letter.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "/u/" in letter.headers["List-Unsubscribe"]
    row = (await world.rows())[0]
    assert (row.state, row.attempts, row.claim) == (S.ACCEPTED, 1, None)
    assert row.provider_message_id.startswith("id-")
    again = await world.deliver(items, at)
    assert again == done
    assert len(world.recorder.letters) == 25


async def test_a_repeated_prepare_makes_no_second_row(world: World, at: datetime) -> None:
    items = [*await world.enroll(3), *await world.enroll(2, consent=None)]
    first = await world.prepare(items, at)
    await world.run("delete from consent")
    second = await world.prepare(items, at)
    assert first == second
    assert [v.action for v in second] == ["deliver"] * 3 + ["skip"] * 2
    assert second[-1].reason == "no_consent"
    assert await world.states() == [S.QUEUED] * 3 + [S.SKIPPED] * 2


async def test_statements_do_not_grow_with_the_batch(
    world: World, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    original = psycopg.AsyncCursor.execute

    async def count(self: Any, query: Any, *given: Any, **named: Any) -> Any:
        statements.append(str(query))
        return await original(self, query, *given, **named)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", count)
    counts = []
    for size in (2, 1000):
        items = await world.enroll(size)
        statements.clear()
        await world.prepare(items, at)
        counts.append(len(statements))
    assert 4 <= counts[0] == counts[1] <= 12


async def test_transactional_needs_no_consent_and_has_no_unsubscribe_header(world: World, at: datetime) -> None:
    items = await world.enroll(1, consent=None)
    await world.prepare(items, at, purpose="transactional")
    await world.deliver(items, at)
    assert world.recorder.letters[0].headers == {}


async def test_a_crash_in_between_leaves_marketing_in_doubt(world: World, at: datetime) -> None:
    items = await world.enroll(15)
    await world.prepare(items, at)
    world.recorder.behaviour = die
    with pytest.raises(Died):
        await world.deliver(items, at)
    assert sorted(await world.states()) == [S.QUEUED] * 5 + [S.HANDING] * 10
    world.recorder.behaviour = accept
    done = await world.deliver(items, at)
    assert sorted(done.states.values()) == ["accepted"] * 5 + ["in_doubt"] * 10
    assert len(world.recorder.letters) == 15
    assert {row.reason for row in await world.rows() if row.state == S.IN_DOUBT} == {
        "the attempt that handed it over died before the answer"
    }


async def test_a_crash_in_between_repeats_what_may_be_repeated(world: World, at: datetime) -> None:
    items = await world.enroll(15)
    await world.prepare(items, at)
    world.recorder.behaviour = die
    with pytest.raises(Died):
        await world.deliver(items, at, repeat=True)
    world.recorder.behaviour = accept
    done = await world.deliver(items, at, repeat=True)
    assert set(done.states.values()) == {"accepted"}
    assert len(world.recorder.letters) == 25
    assert sorted(row.attempts for row in await world.rows()) == [1] * 5 + [2] * 10


async def test_a_cancelled_attempt_stops_its_provider_and_lets_go(world: World, at: datetime) -> None:
    items = await world.enroll(3)
    await world.prepare(items, at)
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def hang(_letters: Sequence[Letter]) -> list[Receipt]:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return []

    world.recorder.behaviour = hang
    task = asyncio.create_task(world.deliver(items, at))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()
    world.recorder.behaviour = accept
    assert set((await world.deliver(items, at)).states.values()) == {"in_doubt"}
    assert len(world.recorder.letters) == 3


async def test_two_attempts_at_once_send_each_letter_once(world: World, at: datetime) -> None:
    items = await world.enroll(100)
    await world.prepare(items, at)

    async def slowly(letters: Sequence[Letter]) -> list[Receipt]:
        await asyncio.sleep(0)
        return await accept(letters)

    world.recorder.behaviour = slowly
    results = await asyncio.gather(*(world.deliver(items, at) for _ in range(3)), return_exceptions=True)
    assert sorted(letter.message_id for letter in world.recorder.letters) == sorted(
        {letter.message_id for letter in world.recorder.letters}
    )
    assert len(world.recorder.letters) == 100
    for result in results:
        assert not isinstance(result, BaseException) or isinstance(result, NotNow)
    assert set(await world.states()) == {S.ACCEPTED}


@pytest.mark.parametrize("repeat", [False, True])
async def test_a_living_attempt_is_not_mistaken_for_a_dead_one(
    world: World, at: datetime, repeat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "PATIENCE", timedelta(seconds=0))
    items = await world.enroll(3)
    await world.prepare(items, at)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(letters: Sequence[Letter]) -> list[Receipt]:
        begun.set()
        await go_on.wait()
        return await accept(letters)

    world.recorder.behaviour = wait
    first = asyncio.create_task(world.deliver(items, at, repeat))
    await begun.wait()
    with pytest.raises(NotNow):
        await world.deliver(items, at, repeat)
    go_on.set()
    assert set((await first).states.values()) == {"accepted"}
    assert len(world.recorder.letters) == 3


@pytest.mark.parametrize("repeat", [False, True])
async def test_an_attempt_that_was_taken_over_stops(world: World, at: datetime, repeat: bool) -> None:
    items = await world.enroll(15)
    await world.prepare(items, at)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(letters: Sequence[Letter]) -> list[Receipt]:
        begun.set()
        await go_on.wait()
        return await accept(letters)

    world.recorder.behaviour = wait
    zombie = asyncio.create_task(world.deliver(items, at, repeat))
    await begun.wait()
    world.recorder.behaviour = accept
    # As long without a sign of life as the lease allows, and then some.
    await world.run("update message set claimed_at = claimed_at - interval '1 hour' where claim is not null")
    done = await world.deliver(items, at, repeat)
    assert sorted(done.states.values()) == (["accepted"] * 15 if repeat else ["accepted"] * 5 + ["in_doubt"] * 10)
    go_on.set()
    # Without repeating, the zombie knows what the successor could not: that its letters were taken.
    assert set((await zombie).states.values()) == {"accepted"}
    assert set(await world.states()) == {S.ACCEPTED}
    assert len(world.recorder.letters) == (25 if repeat else 15)


async def test_an_attempt_whose_rows_another_has_now_stops(world: World, at: datetime) -> None:
    items = await world.enroll(15)
    await world.prepare(items, at)

    async def be_taken_over(letters: Sequence[Letter]) -> list[Receipt]:
        await world.run("update message set claim = gen_random_uuid() where claim is not null")
        return await accept(letters)

    world.recorder.behaviour = be_taken_over
    with pytest.raises(Superseded):
        await world.deliver(items, at, repeat=True)
    assert sorted(await world.states()) == [S.QUEUED] * 5 + [S.HANDING] * 10


async def test_the_lease_is_renewed_while_a_provider_is_slow(
    world: World, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "RENEWAL", timedelta(milliseconds=1))
    items = await world.enroll(1)
    await world.prepare(items, at)
    renewed = asyncio.Event()
    original = claims.Claims.renew

    async def renew(self: claims.Claims, connection: object, ids: object) -> None:
        await original(self, connection, ids)  # type: ignore[arg-type]
        renewed.set()

    monkeypatch.setattr(claims.Claims, "renew", renew)
    before: list[datetime] = []

    async def wait(letters: Sequence[Letter]) -> list[Receipt]:
        before.extend(row[0] for row in await world.run("select claimed_at from message"))
        await renewed.wait()
        return await accept(letters)

    world.recorder.behaviour = wait
    assert set((await world.deliver(items, at)).states.values()) == {"accepted"}
    assert renewed.is_set()
    assert len(before) == 1


async def test_refused_letters_fail_with_the_reason(world: World, at: datetime) -> None:
    items = await world.enroll(2)
    await world.prepare(items, at)
    world.recorder.behaviour = answer(Outcome.REJECTED)
    assert set((await world.deliver(items, at)).states.values()) == {"failed"}
    assert [(row.state, row.reason) for row in await world.rows()] == [(S.FAILED, "said rejected")] * 2


async def test_deferred_letters_are_tried_again_inside(world: World, at: datetime) -> None:
    items = await world.enroll(2)
    await world.prepare(items, at)
    world.recorder.behaviour = answer(Outcome.DEFERRED, Outcome.DEFERRED, Outcome.ACCEPTED, wait=0.01)
    assert set((await world.deliver(items, at)).states.values()) == {"accepted"}
    assert [(row.attempts, row.reason) for row in await world.rows()] == [(3, None)] * 2


async def test_what_waits_long_hands_its_turn_back(world: World, at: datetime) -> None:
    items = await world.enroll(25)
    await world.prepare(items, at)
    world.recorder.behaviour = answer(Outcome.DEFERRED, wait=300)
    with pytest.raises(NotNow) as caught:
        await world.deliver(items, at)
    assert timedelta(seconds=290) < caught.value.retry_after <= timedelta(seconds=300)
    assert len(world.recorder.letters) == 10, "a provider that takes nothing is not asked about the rest"
    assert set(await world.states()) == {S.QUEUED}


async def test_deferred_letters_are_given_up_at_last(world: World) -> None:
    at = now() - timedelta(hours=25)
    await world.run("create table if not exists message_early partition of message default")
    items = await world.enroll(1)
    await world.prepare(items, at)
    world.recorder.behaviour = answer(Outcome.DEFERRED)
    assert set((await world.deliver(items, at)).states.values()) == {"failed"}
    assert [row.reason for row in await world.rows()] == ["given up after 1 attempts: said deferred"]


async def test_unknown_is_in_doubt_for_marketing_and_repeated_otherwise(world: World, at: datetime) -> None:
    one, other = [await world.enroll(1), await world.enroll(1)]
    await world.prepare(one + other, at)
    world.recorder.behaviour = answer(Outcome.UNKNOWN, wait=0.01)
    assert set((await world.deliver(one, at)).states.values()) == {"in_doubt"}
    world.recorder.behaviour = answer(Outcome.UNKNOWN, Outcome.ACCEPTED, wait=0.01)
    assert set((await world.deliver(other, at, repeat=True)).states.values()) == {"accepted"}
    assert len(world.recorder.letters) == 3


async def test_repeating_ends(world: World, at: datetime) -> None:
    items = await world.enroll(1)
    await world.prepare(items, at)
    world.recorder.behaviour = answer(Outcome.UNKNOWN, wait=0.001)
    assert set((await world.deliver(items, at, repeat=True)).states.values()) == {"in_doubt"}
    assert len(world.recorder.letters) == fates.REPEATS


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("update consent set granted = false", "no_consent"),
        (
            "insert into suppression (channel, address, reason) select 'email', value, 'bounced' from identity",
            "suppressed: bounced",
        ),
        ("delete from contact", "contact_gone"),
        ("delete from identity", "no_address"),
    ],
)
async def test_the_policy_is_asked_again_when_time_has_passed(
    world: World, hour_ago: datetime, change: str, reason: str
) -> None:
    items = await world.enroll(2)
    await world.prepare(items, hour_ago)
    await world.run(change)
    assert set((await world.deliver(items, hour_ago)).states.values()) == {"skipped"}
    assert {(row.state, row.reason, row.attempts) for row in await world.rows()} == {(S.SKIPPED, reason, 0)}
    assert world.recorder.letters == []


async def test_a_changed_address_is_used_and_written_down(world: World, hour_ago: datetime) -> None:
    items = await world.enroll(1)
    await world.prepare(items, hour_ago)
    await world.run("update identity set value = 'new@example.com'")
    await world.deliver(items, hour_ago)
    assert world.recorder.letters[0].recipient == "new@example.com"
    assert (await world.rows())[0].address == "new@example.com"


async def test_a_letter_in_doubt_is_not_repeated_against_the_policy(world: World, hour_ago: datetime) -> None:
    items = await world.enroll(1)
    await world.prepare(items, hour_ago)
    world.recorder.behaviour = die
    with pytest.raises(Died):
        await world.deliver(items, hour_ago, repeat=True)
    await world.run("update consent set granted = false")
    world.recorder.behaviour = accept
    assert set((await world.deliver(items, hour_ago, repeat=True)).states.values()) == {"in_doubt"}
    assert (await world.rows())[0].reason == "not repeated: no_consent"


async def test_a_missing_value_skips_the_letter_with_its_name(world: World, at: datetime) -> None:
    async with world.database.begin() as connection:
        source = "---\ntemplate: strict\nsubject: s\n---\n{{ event.application_id }}"
        await templates.publish(connection, source, "strict.html")
    items = await world.enroll(2)
    await world.run("insert into event_name (name) values ('application.saved')")
    await world.run(
        "with v as (insert into event (occurred_at, contact_id, name_id, properties) select :at, contact_id, "
        "(select id from event_name), '{\"application_id\": 17}' from enrollment where id = :id returning id) "
        "update enrollment set entry_event_id = (select id from v), entry_event_at = :at where id = :id",
        at=at, id=items[0].enrollment_id,
    )  # fmt: skip
    await world.prepare(items, at, template="strict")
    done = await world.deliver(items, at)
    assert [done.states[item.enrollment_id] for item in items] == ["accepted", "skipped"]
    assert "17" in world.recorder.letters[0].html
    assert (await world.rows())[1].reason == "missing_value: event.application_id"


async def test_quiet_hours_delay_at_both_moments(world: World) -> None:
    at = now()
    quiet = Rules(
        quiet_from=(at - timedelta(hours=1)).strftime("%H:%M"), quiet_to=(at + timedelta(hours=1)).strftime("%H:%M")
    )
    items = await world.enroll(1)
    [verdict] = await world.prepare(items, at, quiet)
    assert verdict.action == "delay"
    assert verdict.until is not None
    assert timedelta(0) < verdict.until - at <= timedelta(hours=1)
    assert await world.states() == []
    await world.prepare(items, at)
    with pytest.raises(NotNow):
        await world.deliver(items, at, rules=quiet)
    assert [(row.state, row.attempts) for row in await world.rows()] == [(S.QUEUED, 0)]
    # The row is there: a repeated prepare says deliver, though the policy would now say delay.
    assert (await world.prepare(items, at, quiet))[0].action == "deliver"


async def test_caps_and_duplicates_look_at_the_ledger(world: World, at: datetime) -> None:
    items = await world.enroll(1)
    earlier = at - timedelta(seconds=30)
    await world.prepare(items, earlier)
    again = [Item(items[0].enrollment_id, 2)]
    assert (await world.prepare(again, at, Rules(cap=1)))[0].reason == "frequency_cap: 1 in 1 day, 0:00:00"
    third = [Item(items[0].enrollment_id, 3)]
    assert (await world.prepare(third, at, Rules(duplicate_seconds=60)))[0].reason == "duplicate"
    fourth = [Item(items[0].enrollment_id, 4)]
    assert (await world.prepare(fourth, at, Rules(duplicate_seconds=10)))[0].action == "deliver"


async def test_a_paused_provider_waits(world: World, at: datetime) -> None:
    items = await world.enroll(1)
    await world.prepare(items, at)
    async with world.database.begin() as connection:
        await providers.set_state(connection, "main", "paused")
    with pytest.raises(NotNow, match="paused"):
        await world.deliver(items, at)
    assert world.recorder.letters == []


async def test_outcomes_are_written_when_the_database_comes_back(
    world: World, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = await world.enroll(3)
    await world.prepare(items, at)
    original, failures = claims.Claims.release, iter([True, True, False])

    async def fail_twice(self: claims.Claims, connection: object, ids: object) -> None:
        if next(failures):
            raise DatabaseUnavailable("gone")
        await original(self, connection, ids)  # type: ignore[arg-type]

    async def accept_then_lose(letters: Sequence[Letter]) -> list[Receipt]:
        monkeypatch.setattr(claims.Claims, "release", fail_twice)
        return await accept(letters)

    world.recorder.behaviour = accept_then_lose
    assert set((await world.deliver(items, at)).states.values()) == {"accepted"}
    assert len(world.recorder.letters) == 3


async def test_rows_of_an_attempt_that_lost_the_database_before_sending_are_put_back(
    world: World, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = await world.enroll(3)
    await world.prepare(items, at)
    original = attempt.Attempt._claim_once

    async def commit_unheard(self: attempt.Attempt, ids: Sequence[object]) -> object:
        await original(self, ids)  # type: ignore[arg-type]
        raise DatabaseUnavailable("the answer to the commit was lost")

    monkeypatch.setattr(attempt.Attempt, "_claim_once", commit_unheard)
    with pytest.raises(DatabaseUnavailable):
        await world.deliver(items, at)
    assert [(row.state, row.attempts) for row in await world.rows()] == [(S.QUEUED, 0)] * 3


async def test_rows_only_move_forward(world: World, at: datetime) -> None:
    items = await world.enroll(1)
    await world.prepare(items, at)
    row = message_id(items[0].enrollment_id, 1)
    for before in S:
        for after in S:
            await world.run("update message set state = :state, claim = null", state=int(before))
            async with world.database.begin() as connection:
                moved = await ledger.advance(connection, at, [ledger.Step(row, after)])
            allowed = after > before and before is not S.HANDING
            assert (moved == {row}) is allowed, (before, after)
            assert await world.states() == [after if allowed else before]


async def test_erasure_in_between_leaves_nothing_behind(world: World, at: datetime) -> None:
    items = await world.enroll(12)
    await world.prepare(items, at)
    contacts = [row.contact_id for row in await world.run("select contact_id from enrollment order by id")]

    async def erase_and_refuse(letters: Sequence[Letter]) -> list[Receipt]:
        async with world.database.begin() as connection:
            for contact in contacts:
                await erasure.erase(connection, contact)
        return [Receipt(Outcome.REJECTED, reason=f"no such user {letter.recipient}") for letter in letters]

    world.recorder.behaviour = erase_and_refuse
    done = await world.deliver(items, at)
    assert sorted(done.states.values()) == ["failed"] * 10 + ["skipped"] * 2
    assert {(row.address, row.provider_message_id, row.reason) for row in await world.rows()} == {
        (None, None, "erased")
    }
