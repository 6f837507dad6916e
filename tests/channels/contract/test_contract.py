"""The contract of providers: what every kind answers to each misbehaviour of the other side.

The rule behind all of it: a message that the other side may have is ACCEPTED or UNKNOWN, never something that would
make delivery send it again or through somebody else.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
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

TEST_ONLY = {"test", "spare"}
BOUND = 10.0
"""Seconds in which a provider with timeouts of a second has answered."""
ALLOWED = {
    Mood.ACCEPT: {Outcome.ACCEPTED},
    Mood.REJECT: {Outcome.REJECTED},
    Mood.THROTTLE: {Outcome.DEFERRED},
    Mood.REFUSE: {Outcome.DEFERRED},
    Mood.UNREACHABLE: {Outcome.DEFERRED},
}
"""In all other moods it is exact by what the other side has: UNKNOWN if it may have it, otherwise DEFERRED."""
every_kind = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda one: one.schemes[0])
reporting = pytest.mark.parametrize("adapter", [one for one in ADAPTERS if one.hooks], ids=lambda one: one.schemes[0])


def test_every_kind_is_under_the_contract() -> None:
    covered = {name for adapter in ADAPTERS for name in adapter.schemes}
    assert covered == set(SCHEMES) - TEST_ONLY


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


def those(*moods: Mood) -> pytest.MarkDecorator:
    """Each kind in those of the moods that its other side has."""
    return pytest.mark.parametrize(
        ("adapter", "mood"),
        [(one, mood) for one in ADAPTERS for mood in moods if mood in one.moods],
        ids=lambda one: one.value if isinstance(one, Mood) else one.schemes[0],
    )


@those(*Mood)
async def test_what_each_misbehaviour_comes_to(adapter: Adapter, mood: Mood, settings: Settings) -> None:
    async with adapter.serve(mood) as server, opened(server, settings) as provider:
        receipts = await hand_over(provider, adapter, 3)
        taken = server.taken
    assert len(receipts) == 3
    came = Counter(receipt.outcome for receipt in receipts)
    if mood in ALLOWED:
        assert set(came) <= ALLOWED[mood]
    else:
        unknown = taken if mood in TAKES or adapter.greets else 3
        assert came == Counter({Outcome.UNKNOWN: unknown, Outcome.DEFERRED: 3 - unknown})
    assert all(receipt.reason for receipt in receipts if receipt.outcome is not Outcome.ACCEPTED)
    if server.counts:
        assert bool(taken) == (mood in TAKES)
        assert mood is not Mood.ACCEPT or taken == 3
    assert (adapter.retry_after is not None) == SCHEMES[adapter.schemes[0]].says_when
    if mood is Mood.THROTTLE and adapter.retry_after is not None:
        assert {receipt.retry_after for receipt in receipts} == {adapter.retry_after}


@those(Mood.REJECT, Mood.THROTTLE, Mood.DROP, Mood.HANG_UP, Mood.GARBAGE, Mood.HALF_CLOSE)
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
    assert server.taken == 11 or not server.counts


@those(Mood.REFUSE, Mood.UNREACHABLE)
async def test_a_check_says_that_nobody_answers(adapter: Adapter, mood: Mood, settings: Settings) -> None:
    async with adapter.serve(mood) as server, opened(server, settings) as provider:
        with pytest.raises(Unavailable):
            await provider.check()


@those(Mood.HANG)
async def test_a_cancelled_hand_over_ends_and_another_can_begin(
    adapter: Adapter, mood: Mood, settings: Settings
) -> None:
    async with adapter.serve(mood) as server, opened(server, settings) as provider:
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


def hooks_of(adapter: Adapter) -> Hooks:
    assert adapter.hooks is not None
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
    forged = hooks.forge(good)
    assert forged != good
    with pytest.raises(Forged):
        await parsed(adapter, forged)
    with pytest.raises((Forged, InvalidInput)):  # nothing is signed, and nothing is said
        await parsed(adapter, replace(good, headers={}, query={}, body=b"{}"))


@reporting
@pytest.mark.parametrize("what", ["body", "time"])
async def test_a_signature_covers_what_the_features_say(adapter: Adapter, what: str) -> None:
    hooks = hooks_of(adapter)
    good = hooks.make(next(iter(hooks.words)), UUID(int=1), "event-1")
    other = good.body.replace(str(UUID(int=1)).encode(), str(UUID(int=2)).encode())
    changed = {
        "body": replace(good, body=other),
        "time": replace(good, received_at=good.received_at + timedelta(days=365)),
    }[what]
    assert changed != good
    if what in SCHEMES[adapter.schemes[0]].signs:
        with pytest.raises(Forged):
            await parsed(adapter, changed)
    else:
        assert await parsed(adapter, changed)


@reporting
async def test_webhooks_twice_and_in_any_order_move_a_message_forward_once(adapter: Adapter, world: World) -> None:
    hooks = hooks_of(adapter)
    words = {kind: word for word, kind in hooks.words.items()}
    at = now()
    orders = list(permutations((ReportKind.BOUNCED, ReportKind.DELIVERED, ReportKind.OPENED)))
    items = await world.enroll(len(orders))
    await world.prepare(items, at)
    await world.deliver(items, at)
    for item, order in zip(items, orders, strict=True):
        ours, new = message_id(item.enrollment_id, item.visit), []
        for kind in [*order, *order]:
            hook = hooks.make(words[kind], ours, f"event-{kind}-{item.enrollment_id}")
            found = await parsed(adapter, hook)
            async with world.database.begin() as connection:
                new.append((await reports.take(connection, 1, found, hook.body)).new)
        assert new == [1, 1, 1, 0, 0, 0], order
    assert await world.states() == [MessageState.BOUNCED] * len(orders)
    assert all(row.opened_at for row in await world.run("select opened_at from message"))
