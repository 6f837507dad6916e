"""What one provider surely did not take goes to another; what it may have taken does not."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
import pytest_asyncio

from channels import Item, NotNow, attempt, carriers, failover, providers, settling
from channels.failover import asks_for_another
from channels.options import Options
from channels.provider import Letter, Outcome, Receipt
from channels.providers import Provider
from core.clock import now
from core.errors import DatabaseUnavailable
from core.ids import message_id
from core.schema.messages import MessageState as S
from tests.channels.world import Behaviour, Recorder, World, accept

AFTER = Provider(1, "main", "email", "active", Options(failover_after=60), "test://")
REFUSED = Receipt(Outcome.REJECTED, reason="no credit", elsewhere=True)
BUSY = Receipt(Outcome.DEFERRED, reason="busy")


@pytest.mark.parametrize(
    ("receipt", "repeated", "age", "ill", "asks"),
    [
        (REFUSED, False, 0, False, True),
        (REFUSED, True, 0, False, False),  # an earlier attempt may have handed it over
        (Receipt(Outcome.REJECTED, reason="no such user"), False, 0, False, False),
        (BUSY, False, 59, False, False),
        (BUSY, False, 61, False, True),
        (BUSY, True, 61, True, False),
        (BUSY, False, 0, True, True),
        (Receipt(Outcome.DEFERRED, retry_after=timedelta(hours=1)), False, 0, False, True),
        (Receipt(Outcome.DEFERRED, held=True, retry_after=timedelta(hours=1)), False, 900, True, False),
        (Receipt(Outcome.UNKNOWN), False, 900, True, False),
        (Receipt(Outcome.ACCEPTED), False, 900, True, False),
    ],
)
def test_who_asks_for_another(receipt: Receipt, repeated: bool, age: float, ill: bool, asks: bool) -> None:
    assert asks_for_another(AFTER, receipt, repeated, age, ill) is asks


def always(receipt: Receipt) -> Behaviour:
    async def behave(letters: Sequence[Letter]) -> list[Receipt]:
        return [receipt] * len(letters)

    return behave


@pytest_asyncio.fixture(loop_scope="session")
async def two(world: World, spare: Recorder) -> World:
    """Two providers; new messages go to the first."""
    async with world.database.begin() as connection:
        await providers.add(connection, world.settings, "second", "spare://")
    return world


async def _where(world: World) -> list[tuple[int, str, list[int] | None]]:
    rows = await world.run(
        "select m.state, p.name, m.tried from message m join provider p on p.id = m.provider_id order by enrollment_id"
    )
    return [tuple(row) for row in rows]


def _ids(items: Sequence[Item]) -> list[int]:
    return [item.enrollment_id for item in items]


async def test_a_refusal_of_its_own_goes_to_the_next(two: World, spare: Recorder, at: datetime) -> None:
    items = await two.enroll(15)
    await two.prepare(items, at)
    two.recorder.behaviour = always(REFUSED)
    done = await two.deliver(items, at)
    assert done.states == {}
    assert sorted(done.moved["second"]) == _ids(items)
    assert await _where(two) == [(S.QUEUED, "second", [1])] * 15
    assert [row.reason for row in await two.rows()] == ["main: no credit"] * 15
    done = await two.deliver(items, at, provider="second")
    assert set(done.states.values()) == {"accepted"}
    assert len(spare.letters) == 15
    assert await _where(two) == [(S.ACCEPTED, "second", [1])] * 15


async def test_a_refusal_of_the_address_goes_nowhere(two: World, at: datetime) -> None:
    items = await two.enroll(2)
    await two.prepare(items, at)
    two.recorder.behaviour = always(Receipt(Outcome.REJECTED, reason="no such user"))
    done = await two.deliver(items, at)
    assert (set(done.states.values()), done.moved) == ({"failed"}, {})


async def test_the_last_refusal_is_final(two: World, spare: Recorder, at: datetime) -> None:
    items = await two.enroll(1)
    await two.prepare(items, at)
    two.recorder.behaviour = spare.behaviour = always(REFUSED)
    await two.deliver(items, at)
    done = await two.deliver(items, at, provider="second")
    assert (list(done.states.values()), done.moved) == (["failed"], {})
    assert await _where(two) == [(S.FAILED, "second", [1])]


async def test_what_waits_too_long_goes_on_with_all_that_was_not_tried(
    two: World, spare: Recorder, hour_ago: datetime
) -> None:
    items = await two.enroll(25)
    await two.prepare(items, hour_ago)
    two.recorder.behaviour = always(BUSY)
    done = await two.deliver(items, hour_ago)
    assert sorted(done.moved["second"]) == _ids(items)
    assert len(two.recorder.letters) == 10  # one chunk showed that it takes nothing
    assert set((await two.deliver(items, hour_ago, provider="second")).states.values()) == {"accepted"}


async def test_a_short_delay_is_waited_for(two: World, at: datetime) -> None:
    items = await two.enroll(1)
    await two.prepare(items, at)
    two.recorder.behaviour = always(Receipt(Outcome.DEFERRED, reason="busy", retry_after=timedelta(seconds=30)))
    with pytest.raises(NotNow) as caught:
        await two.deliver(items, at)
    assert not caught.value.moved
    assert await _where(two) == [(S.QUEUED, "main", None)]


async def test_a_provider_that_fails_loses_its_messages_at_once(two: World, at: datetime) -> None:
    items = await two.enroll(60)
    await two.prepare(items, at)
    two.recorder.behaviour = always(Receipt(Outcome.DEFERRED, reason="down", retry_after=timedelta(seconds=0.01)))
    done = await two.deliver(items, at)
    assert len(done.moved["second"]) == 60
    assert len(two.recorder.letters) < 70  # fifty showed that it is ill


async def test_messages_of_a_late_provider_do_not_go_to_one_that_is_paused(two: World, hour_ago: datetime) -> None:
    items = await two.enroll(1)
    await two.prepare(items, hour_ago)
    async with two.database.begin() as connection:
        await providers.set_state(connection, "second", "paused")
    two.recorder.behaviour = always(Receipt(Outcome.DEFERRED, retry_after=timedelta(hours=1)))
    with pytest.raises(NotNow):
        await two.deliver(items, hour_ago)
    assert await _where(two) == [(S.QUEUED, "main", None)]


async def test_what_is_in_doubt_stays(two: World, spare: Recorder, at: datetime) -> None:
    items = await two.enroll(3)
    await two.prepare(items, at)
    two.recorder.behaviour = always(Receipt(Outcome.UNKNOWN, reason="hung up"))
    assert set((await two.deliver(items, at)).states.values()) == {"in_doubt"}
    again = await two.deliver(items, at, provider="second")
    assert spare.letters == []
    assert set(again.states.values()) == {"in_doubt"}


async def test_an_attempt_that_died_in_between_is_taken_for_what_it_is(
    two: World, spare: Recorder, at: datetime
) -> None:
    """The first provider may have these letters: whoever comes next, the second never gets them."""

    class Died(BaseException):
        pass

    async def die(_letters: Sequence[Letter]) -> list[Receipt]:
        raise Died

    items = await two.enroll(3)
    await two.prepare(items, at)
    two.recorder.behaviour = die
    with pytest.raises(Died):
        await two.deliver(items, at)
    assert set((await two.deliver(items, at)).states.values()) == {"in_doubt"}
    await two.deliver(items, at, provider="second")
    assert spare.letters == []


async def test_rows_moved_by_an_attempt_that_died_before_it_could_say_so(
    two: World, spare: Recorder, at: datetime
) -> None:
    items = await two.enroll(3)
    await two.prepare(items, at)
    two.recorder.behaviour = always(REFUSED)
    first = await two.deliver(items, at)
    two.recorder.behaviour = accept
    again = await two.deliver(items, at)  # its activity is repeated
    assert again == first
    assert len(two.recorder.letters) == 3
    async with two.database.begin() as connection:  # even if the provider is gone by then
        await providers.set_state(connection, "main", "removed")
    assert await two.deliver(items, at) == first


async def test_a_zombie_of_the_first_provider_changes_nothing(two: World, spare: Recorder, at: datetime) -> None:
    """Its claim died, the letters were in doubt and are to be repeated: by the same provider only."""
    items = await two.enroll(2)
    await two.prepare(items, at)

    async def be_moved(letters: Sequence[Letter]) -> list[Receipt]:
        await two.run("update message set provider_id = 2, tried = '{1}', state = 10, claim = null")
        return [Receipt(Outcome.REJECTED, reason="no such user")] * len(letters)

    two.recorder.behaviour = be_moved
    done = await two.deliver(items, at)
    assert sorted(done.moved["second"]) == _ids(items)
    assert await _where(two) == [(S.QUEUED, "second", [1])] * 2


async def test_a_move_whose_commit_was_not_heard_of_is_not_made_twice(
    two: World, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = await two.enroll(2)
    await two.prepare(items, at)
    two.recorder.behaviour = always(REFUSED)
    original = settling.settle
    failures: list[int] = []

    async def settle(connection: object, *args: object) -> settling.Settled:
        if not failures:
            failures.append(1)
            async with two.database.begin() as own:
                await original(own, *args)  # type: ignore[arg-type]
            raise DatabaseUnavailable("the answer to the commit was lost")
        return await original(connection, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(attempt, "settle", settle)
    done = await two.deliver(items, at)
    assert sorted(done.moved["second"]) == _ids(items)
    assert await _where(two) == [(S.QUEUED, "second", [1])] * 2


async def test_moved_rows_carry_the_price_of_their_new_provider(two: World, at: datetime) -> None:
    await two.run("insert into price (provider_id, amount, currency) values (1, 0.01, 'EUR'), (2, 0.04, 'EUR')")
    items = await two.enroll(1)
    await two.prepare(items, at)
    two.recorder.behaviour = always(REFUSED)
    await two.deliver(items, at)
    [row] = await two.run("select cost from message")
    assert str(row.cost) == "0.040000"


async def test_of_rows_that_another_attempt_has_none_moves(two: World, at: datetime) -> None:
    items = await two.enroll(2)
    await two.prepare(items, at)
    await two.run("update message set state = 20, claim = gen_random_uuid(), claimed_at = now()")
    async with two.database.begin() as connection:
        main = await providers.find(connection, two.settings, "main")
        known = await carriers.load(connection, "email")
        rows = {message_id(item.enrollment_id, item.visit): None for item in items}
        nobody = message_id(0, 0)
        moved = await failover.pass_on(connection, main, at, nobody, rows, failover.others(main, known, True), now())
    assert moved == {}


async def test_a_dearer_provider_is_charged_the_difference(two: World, at: datetime) -> None:
    await two.run(
        "insert into price (provider_id, amount, currency) select id, case name when 'main' then 2 else 5 end, 'EUR' "
        "from provider"
    )
    await two.run(
        "insert into journey_spending (journey_id, spent) select journey_id, 4 from journey_version where id = :id",
        id=two.version_id,
    )
    items = await two.enroll(2)
    await two.prepare(items, at)
    two.recorder.behaviour = always(REFUSED)
    await two.deliver(items, at)
    [row] = await two.run("select spent from journey_spending")
    assert row.spent == 10
