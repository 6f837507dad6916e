"""Limits of a provider: a second's and a day's, for all who hand messages over."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from channels import NotNow, pacing, providers
from channels.options import Options
from channels.provider import Letter, Outcome, Receipt
from channels.providers import Provider
from core.clock import now
from core.database import Database
from core.errors import InvalidInput
from core.schema.messages import MessageState as S
from tests.channels.world import Recorder, World


@dataclass(frozen=True)
class Text:
    """A short message on the bill as several."""

    message_id: UUID
    parts: int


class Taker:
    """Takes everything and notes when."""

    def __init__(self) -> None:
        self.times: list[float] = []

    async def hand_over(self, messages: Sequence[Any]) -> list[Receipt]:
        """Accept all."""
        self.times += [asyncio.get_running_loop().time()] * sum(one.parts for one in messages)
        return [Receipt(Outcome.ACCEPTED, str(one.message_id)) for one in messages]

    async def check(self) -> None:
        """Always fine."""

    async def close(self) -> None:
        """Nothing to give back."""


def _texts(count: int, parts: int = 1) -> list[Text]:
    return [Text(uuid4(), parts) for _ in range(count)]


def _limited(per_second: float) -> Provider:
    return Provider(1, "texts", "sms", "active", Options(per_second=per_second), "test://")


async def test_the_parts_of_messages_count_and_receipts_keep_their_order(database: Database) -> None:
    taker, texts = Taker(), _texts(10, parts=3)
    receipts = await pacing.hand_over(database, _limited(60), taker, texts)
    assert [receipt.provider_message_id for receipt in receipts] == [str(one.message_id) for one in texts]
    # Thirty parts at sixty a second; two messages leave together.
    assert 0.35 < taker.times[-1] - taker.times[0] < 2


async def test_what_has_to_wait_long_comes_back_as_held_by_us(database: Database) -> None:
    taker = Taker()
    receipts = await pacing.hand_over(database, _limited(0.4), taker, _texts(20))
    taken = len(taker.times)
    assert taken == 1
    assert [one.outcome for one in receipts] == [Outcome.ACCEPTED] * taken + [Outcome.DEFERRED] * (20 - taken)
    assert all(one.held and one.retry_after for one in receipts[taken:])


async def test_a_message_of_more_parts_than_patience_leaves_all_the_same(database: Database) -> None:
    receipts = await pacing.hand_over(database, _limited(2), Taker(), _texts(1, parts=6))
    assert [one.outcome for one in receipts] == [Outcome.ACCEPTED]


async def test_who_takes_nothing_any_more_is_cancelled(database: Database) -> None:
    class Broken(Taker):
        async def hand_over(self, messages: Sequence[Any]) -> list[Receipt]:
            raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        await pacing.hand_over(database, _limited(1000), Broken(), _texts(100))


def _letters(count: int, domain: str) -> list[Letter]:
    return [Letter(uuid4(), "a@export.example", f"anna@{domain}", "Hi", "", "") for _ in range(count)]


class Post(Taker):
    """Takes letters and notes when, and to which domain."""

    def __init__(self) -> None:
        super().__init__()
        self.by_domain: dict[str, list[float]] = {}

    async def hand_over(self, messages: Sequence[Any]) -> list[Receipt]:
        """Accept all."""
        for one in messages:
            times = self.by_domain.setdefault(one.recipient.partition("@")[2], [])
            times.append(asyncio.get_running_loop().time())
        return await super().hand_over(messages)


async def test_the_limit_of_a_domain_holds_for_all_workers_and_is_its_own(database: Database) -> None:
    slow = Provider(1, "main", "email", "active", Options(domain_per_second=20), "test://")
    post, other = Post(), Database(database.url, pool=1)
    letters = [*_letters(20, "busy.example"), *_letters(3, "quiet.example"), *_letters(20, "BUSY.example")]
    async with other.begin():
        pass
    halves = await asyncio.gather(*(pacing.hand_over(one, slow, post, letters) for one in (database, other)))
    await other.close()
    for half in halves:
        assert [one.provider_message_id or one.outcome for one in half] == [
            str(letter.message_id) if one.outcome is Outcome.ACCEPTED else Outcome.DEFERRED
            for letter, one in zip(letters, half, strict=True)
        ]
        assert all(one.held and one.retry_after for one in half if one.outcome is Outcome.DEFERRED)
        assert [one.outcome for one in half[20:23]] == [Outcome.ACCEPTED] * 3
    busy = sorted(post.by_domain["busy.example"] + post.by_domain.get("BUSY.example", []))
    # Of eighty letters those leave that have a turn within two seconds: one at once, and twenty a second.
    assert 41 <= len(busy) <= 60
    assert busy[-1] - busy[0] > 1.5


async def test_both_limits_hold_at_once(database: Database) -> None:
    slow = Provider(1, "main", "email", "active", Options(domain_per_second=0.4, per_second=2), "test://")
    post = Post()
    letters = [*_letters(2, "a.example"), *_letters(1, "b.example"), *_letters(1, "c.example")]
    receipts = await pacing.hand_over(database, slow, post, letters)
    kept = Outcome.DEFERRED  # its domain's turn is two and a half seconds away
    assert [one.outcome for one in receipts] == [Outcome.ACCEPTED, kept, Outcome.ACCEPTED, Outcome.ACCEPTED]
    assert max(post.times) - min(post.times) > 0.8


@pytest.mark.parametrize(
    ("url", "fits"), [("sendgrid://key@", True), ("smtp://127.0.0.1", True), ("webhook://", False)]
)
async def test_every_kind_of_email_provider_takes_a_limit_for_domains(world: World, url: str, fits: bool) -> None:
    async with world.database.begin() as connection:
        if fits:
            made = await providers.add(connection, world.settings, "new", url, {"domain_per_second": "2.5"})
            assert made.options.domain_per_second == 2.5
        else:
            with pytest.raises(InvalidInput, match="only letters go to domains"):
                await providers.add(connection, world.settings, "new", url, {"domain_per_second": "2.5"})


async def _set(world: World, **options: object) -> None:
    given = {name: str(value) for name, value in options.items()}
    async with world.database.begin() as connection:
        await providers.change(connection, world.settings, "main", given)


@pytest.mark.parametrize("limit", ["per_second", "domain_per_second"])
async def test_messages_held_by_our_limit_do_not_count_as_tried_or_against_the_provider(
    world: World, spare: Recorder, hour_ago: datetime, limit: str
) -> None:
    async with world.database.begin() as connection:
        await providers.add(connection, world.settings, "second", "spare://")
    await _set(world, **{limit: 0.05})
    items = await world.enroll(3)
    await world.prepare(items, hour_ago)
    with pytest.raises(NotNow) as caught:
        await world.deliver(items, hour_ago)
    assert len(caught.value.settled) == 1
    assert not caught.value.moved  # a limit of ours is no reason to pay another provider
    assert timedelta(seconds=5) < caught.value.retry_after <= timedelta(seconds=40)
    assert sorted((row.state, row.attempts) for row in await world.rows()) == [(S.QUEUED, 0)] * 2 + [(S.ACCEPTED, 1)]
    [minute] = await world.run("select sum(failed) as failed, sum(accepted) as accepted from provider_minute")
    assert tuple(minute) == (0, 1)


async def test_a_warm_up_ends_the_day_at_its_number(world: World, at: datetime) -> None:
    await _set(world, warm_up=12)
    items = await world.enroll(30)
    await world.prepare(items, at)
    halves = await asyncio.gather(*(world.deliver(half, at) for half in (items[:15], items[15:])),
                                  return_exceptions=True)  # fmt: skip
    assert all(isinstance(half, NotNow) for half in halves)
    midnight = datetime.combine(now().date() + timedelta(days=1), datetime.min.time(), UTC)
    for half in halves:
        assert isinstance(half, NotNow)
        assert abs((now() + half.retry_after - midnight).total_seconds()) < 60
    assert len(world.recorder.letters) == 12
    await world.run("update provider_day set day = day - 1")
    await _set(world, warm_up=12, warm_up_from=(now() - timedelta(days=1)).date())
    await asyncio.gather(*(world.deliver(half, at) for half in (items[:15], items[15:])), return_exceptions=True)
    assert len(world.recorder.letters) == 30  # eighteen on the second day


async def test_what_is_too_much_for_a_warm_up_goes_to_another(world: World, spare: Recorder, at: datetime) -> None:
    async with world.database.begin() as connection:
        await providers.add(connection, world.settings, "second", "spare://")
    await _set(world, warm_up=4)
    items = await world.enroll(9)
    await world.prepare(items, at)
    done = await world.deliver(items, at)
    assert (len(done.states), len(done.moved["second"])) == (4, 5)


async def test_what_was_not_handed_over_is_given_back(world: World, at: datetime) -> None:
    await _set(world, warm_up=5)
    items = await world.enroll(5)
    await world.prepare(items, at)

    async def busy(letters: Sequence[Any]) -> list[Receipt]:
        return [Receipt(Outcome.DEFERRED, reason="busy", retry_after=timedelta(hours=1))] * len(letters)

    world.recorder.behaviour = busy
    with pytest.raises(NotNow):
        await world.deliver(items, at)
    [row] = await world.run("select taken from provider_day")
    assert row.taken == 0
