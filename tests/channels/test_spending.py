"""Budgets: never overdrawn, whoever spends at the same time."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import pytest
import pytest_asyncio

from channels import Budget, Item, Verdict
from channels.provider import Letter, Outcome, Receipt
from tests.channels.world import Behaviour, World


@pytest_asyncio.fixture(loop_scope="session")
async def priced(world: World) -> World:
    """Letters cost something."""
    await world.run("insert into price (provider_id, amount, currency) values (1, 0.1, 'EUR')")
    return world


async def prepare(world: World, items: list[Item], at: datetime, amount: str) -> list[Verdict]:
    """Prepare against a budget."""
    [row] = await world.run("select id from journey")
    return await world.prepare(items, at, budget=Budget(row.id, amount))


async def spent(world: World) -> Decimal:
    """What the journey has spent."""
    [row] = await world.run("select spent from journey_spending")
    return Decimal(row.spent).normalize()


async def test_what_the_budget_does_not_pay_for_is_skipped(priced: World, at: datetime) -> None:
    items = await priced.enroll(8)
    first = await prepare(priced, items, at, "0.5")
    assert [(one.action, one.reason) for one in first] == [("deliver", None)] * 5 + [("skip", "over_budget")] * 3
    assert await prepare(priced, items, at, "0.5") == first  # a repeat is not charged again
    assert await spent(priced) == Decimal("0.5")


async def test_two_at_once_do_not_overdraw_it(priced: World, at: datetime) -> None:
    batches = [await priced.enroll(20) for _ in range(4)]
    verdicts = await asyncio.gather(*(prepare(priced, batch, at, "3.3") for batch in batches))
    assert sum(one.action == "deliver" for batch in verdicts for one in batch) == 33
    assert await spent(priced) == Decimal("3.3")


def says(receipt: Receipt) -> Behaviour:
    async def behave(letters: Sequence[Letter]) -> list[Receipt]:
        return [receipt] * len(letters)

    return behave


@pytest.mark.parametrize(
    ("receipt", "left"),
    [
        (Receipt(Outcome.ACCEPTED), "0.2"),
        (Receipt(Outcome.ACCEPTED, parts=3), "0.6"),
        (Receipt(Outcome.REJECTED, reason="no such user"), "0"),
        (Receipt(Outcome.UNKNOWN, reason="hung up"), "0.2"),  # it may have been sent, and paid for
    ],
)
async def test_the_outcome_corrects_what_was_charged(priced: World, at: datetime, receipt: Receipt, left: str) -> None:
    items = await priced.enroll(2)
    await prepare(priced, items, at, "5")
    priced.recorder.behaviour = says(receipt)
    await priced.deliver(items, at)
    assert await spent(priced) == Decimal(left).normalize()


async def test_a_message_skipped_when_it_would_leave_costs_nothing(priced: World, hour_ago: datetime) -> None:
    items = await priced.enroll(2)
    await prepare(priced, items, hour_ago, "5")
    await priced.run("update consent set granted = false")
    await priced.deliver(items, hour_ago)
    assert await spent(priced) == 0


async def test_messages_without_a_price_cost_nothing(world: World, at: datetime) -> None:
    verdicts = await prepare(world, await world.enroll(3), at, "0.01")
    assert {one.action for one in verdicts} == {"deliver"}
