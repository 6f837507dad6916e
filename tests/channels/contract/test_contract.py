"""The contract of providers: what every kind answers to each misbehaviour of the other side.

The rule behind all of it: a message that the other side may have is ACCEPTED or UNKNOWN, never something that would
make delivery send it again or through somebody else.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from channels import reports
from channels.provider import EmailProvider, Forged, Hook, Outcome, Receipt, Report, ReportKind
from channels.registry import SCHEMES, scheme_of
from core.clock import now
from core.errors import InvalidInput, Unavailable
from core.ids import message_id
from core.schema.messages import MessageState
from core.settings import Settings
from tests.channels.contract.adapter import TAKES, Adapter, Hooks, Mood, Server
from tests.channels.contract.adapters import ADAPTERS
from tests.channels.world import World

INTERNAL = {"blackhole", "mailbox"}
"""Nothing of theirs leaves the machine."""
TEST_ONLY = {"test", "spare"}
BOUND = 10.0
"""Seconds in which a provider with timeouts of a second has answered."""
ALLOWED = {
    Mood.ACCEPT: {Outcome.ACCEPTED},
    Mood.REJECT: {Outcome.REJECTED},
    Mood.THROTTLE: {Outcome.DEFERRED},
    Mood.REFUSE: {Outcome.DEFERRED},
    Mood.UNREACHABLE: {Outcome.DEFERRED},
    # Who cannot tell whether a request was read before the connection went away says that nobody knows.
    Mood.SILENT: {Outcome.DEFERRED, Outcome.UNKNOWN},
    Mood.DROP: {Outcome.DEFERRED, Outcome.UNKNOWN},
    Mood.HANG: {Outcome.UNKNOWN, Outcome.DEFERRED},  # DEFERRED: those that were not tried after the first ones hung
    Mood.HALF_CLOSE: {Outcome.UNKNOWN, Outcome.DEFERRED},
    Mood.HANG_UP: {Outcome.UNKNOWN, Outcome.DEFERRED},
    Mood.GARBAGE: {Outcome.UNKNOWN, Outcome.DEFERRED},
}
every_kind = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda one: one.schemes[0])
reporting = pytest.mark.parametrize(
    "adapter", [one for one in ADAPTERS if one.hooks] or [None], ids=lambda one: one.schemes[0] if one else "none yet"
)


def test_every_kind_that_carries_messages_is_under_the_contract() -> None:
    covered = {name for adapter in ADAPTERS for name in adapter.schemes}
    assert covered == set(SCHEMES) - INTERNAL - TEST_ONLY


def test_every_kind_that_reports_shows_how() -> None:
    for adapter in ADAPTERS:
        for name in adapter.schemes:
            assert (SCHEMES[name].reports is not None) == (adapter.hooks is not None), name


@asynccontextmanager
async def opened(server: Server, settings: Settings) -> AsyncIterator[EmailProvider]:
    provider = scheme_of(server.url).open(server.url, settings)
    try:
        yield provider
    finally:
        await provider.close()


async def hand_over(provider: EmailProvider, adapter: Adapter, count: int) -> list[Receipt]:
    async with asyncio.timeout(BOUND):
        return await provider.hand_over([adapter.message(number) for number in range(count)])


@every_kind
@pytest.mark.parametrize("mood", list(Mood))
async def test_what_each_misbehaviour_comes_to(adapter: Adapter, mood: Mood, settings: Settings) -> None:
    async with adapter.serve(mood) as server, opened(server, settings) as provider:
        receipts = await hand_over(provider, adapter, 3)
        taken = server.taken
    assert len(receipts) == 3
    assert {receipt.outcome for receipt in receipts} <= ALLOWED[mood]
    assert all(receipt.reason for receipt in receipts if receipt.outcome is not Outcome.ACCEPTED)
    # Whatever may have arrived is not sent again.
    safe = sum(receipt.outcome in {Outcome.ACCEPTED, Outcome.UNKNOWN} for receipt in receipts)
    assert taken <= safe
    assert bool(taken) == (mood in TAKES)
    if mood is Mood.ACCEPT:
        assert taken == 3
    if mood is Mood.THROTTLE and adapter.retry_after is not None:
        assert {receipt.retry_after for receipt in receipts} == {adapter.retry_after}


@every_kind
@pytest.mark.parametrize("mood", [Mood.REJECT, Mood.THROTTLE, Mood.DROP, Mood.HANG_UP, Mood.GARBAGE, Mood.HALF_CLOSE])
async def test_it_goes_on_when_the_other_side_behaves_again(adapter: Adapter, mood: Mood, settings: Settings) -> None:
    async with adapter.serve(mood) as server, opened(server, settings) as provider:
        await hand_over(provider, adapter, 2)
        server.mood = Mood.ACCEPT
        receipts = await hand_over(provider, adapter, 3)
    assert [receipt.outcome for receipt in receipts] == [Outcome.ACCEPTED] * 3


@every_kind
async def test_nothing_is_nothing(adapter: Adapter, settings: Settings) -> None:
    async with adapter.serve(Mood.ACCEPT) as server, opened(server, settings) as provider:
        assert await hand_over(provider, adapter, 0) == []


@every_kind
async def test_hand_overs_side_by_side_do_not_mix_their_receipts(adapter: Adapter, settings: Settings) -> None:
    async with adapter.serve(Mood.ACCEPT) as server, opened(server, settings) as provider:
        batches = await asyncio.gather(*(hand_over(provider, adapter, count) for count in (1, 7, 3)))
    assert [len(receipts) for receipts in batches] == [1, 7, 3]
    assert server.taken == 11


@every_kind
@pytest.mark.parametrize("mood", [Mood.REFUSE, Mood.UNREACHABLE])
async def test_a_check_says_that_nobody_answers(adapter: Adapter, mood: Mood, settings: Settings) -> None:
    async with adapter.serve(mood) as server, opened(server, settings) as provider:
        with pytest.raises(Unavailable):
            await provider.check()


@every_kind
async def test_a_cancelled_hand_over_ends_and_another_can_begin(adapter: Adapter, settings: Settings) -> None:
    async with adapter.serve(Mood.HANG) as server, opened(server, settings) as provider:
        task = asyncio.create_task(hand_over(provider, adapter, 1))
        async with asyncio.timeout(BOUND):
            await server.has_taken.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.mood = Mood.ACCEPT
        receipts = await hand_over(provider, adapter, 1)
    assert receipts[0].outcome is Outcome.ACCEPTED


# What is reported later


def hooks_of(adapter: Adapter | None) -> Hooks:
    if adapter is None or adapter.hooks is None:
        pytest.skip("no kind reports by webhook yet")
    return adapter.hooks


async def parsed(adapter: Adapter, hook: Hook) -> list[Report]:
    parse = SCHEMES[adapter.schemes[0]].reports
    assert parse is not None
    hooks = hooks_of(adapter)
    with hooks.around():
        return await parse(hooks.url, hook)


@reporting
async def test_every_word_has_its_meaning_and_a_strange_one_is_unknown(adapter: Adapter) -> None:
    hooks = hooks_of(adapter)
    for word, kind in hooks.words.items():
        found = await parsed(adapter, hooks.make(word, UUID(int=1), f"event-{word}"))
        assert [(report.kind, report.message_id) for report in found] == [(kind, UUID(int=1))], word
    [strange] = await parsed(adapter, hooks.make(hooks.unknown, UUID(int=1), "event-strange"))
    assert strange.kind is ReportKind.UNKNOWN


@reporting
async def test_a_forged_webhook_is_refused(adapter: Adapter) -> None:
    hooks = hooks_of(adapter)
    good = hooks.make(next(iter(hooks.words)), UUID(int=1), "event-1")
    assert await parsed(adapter, good)
    for bad, covered in (
        (replace(good, body=good.body.replace(str(UUID(int=1)).encode(), str(UUID(int=2)).encode())), hooks.signs_body),
        (replace(good, received_at=good.received_at + timedelta(days=365)), hooks.signs_time),
    ):
        if covered:
            with pytest.raises(Forged):
                await parsed(adapter, bad)
    with pytest.raises((Forged, InvalidInput)):  # nothing is signed, and nothing is said
        await parsed(adapter, replace(good, headers={}, query={}, body=b"{}"))


@reporting
async def test_webhooks_twice_and_out_of_order_move_a_message_forward_once(adapter: Adapter, world: World) -> None:
    hooks = hooks_of(adapter)
    words = {kind: word for word, kind in hooks.words.items()}
    at = now()
    [item] = await world.enroll(1)
    await world.prepare([item], at)
    await world.deliver([item], at)
    ours = message_id(item.enrollment_id, item.visit)
    order = [kind for kind in (ReportKind.BOUNCED, ReportKind.DELIVERED, ReportKind.OPENED) if kind in words]
    new = []
    for kind in [*order, *order]:
        hook = hooks.make(words[kind], ours, f"event-{kind}")
        found = await parsed(adapter, hook)
        async with world.database.begin() as connection:
            new.append((await reports.take(connection, 1, found, hook.body)).new)
    assert new == [1] * len(order) + [0] * len(order)
    assert await world.states() == [MessageState.BOUNCED]
    [row] = await world.run("select opened_at from message")
    assert row.opened_at is not None
