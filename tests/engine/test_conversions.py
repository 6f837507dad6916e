"""Which run of a contact an event converts, on a real database."""

from typing import Any

import pytest

from core import eventlog
from core.clock import now
from engine.router import Router
from tests.engine.steps_world import World
from tests.engine.test_comings import Deaf

CARTS = """
journey: carts
enter: {event: cart.left, key: event.cart, reenter: always}
conversion: {event: order.paid, where: {event.cart: {same: cart}}, within: 7d, value: event.total}
steps: [{wait: 1d}]
"""


async def happen(world: World, name: str, contact: int, **properties: Any) -> None:
    async with world.database.begin() as connection:
        await eventlog.record(connection, name, contact, now(), properties)


async def converted(world: World) -> list[tuple[str, float | None]]:
    while await Router(world.database, world.settings, Deaf(), world.versions).round():
        pass
    rows = await world.run(
        "select e.key, c.value from conversion c join enrollment e on e.id = c.enrollment_id order by c.event_id, e.key"
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("paid", ["A", "B"])
async def test_of_runs_side_by_side_that_converts_which_the_event_belongs_to(world: World, paid: str) -> None:
    await world.publish(CARTS)
    contact = await world.contact()
    for cart in ("A", "B"):
        await happen(world, "cart.left", contact, cart=cart)
    await happen(world, "order.paid", contact, cart=paid, total=9)
    await happen(world, "order.paid", contact, cart="C", total=1)
    assert await converted(world) == [(paid, 9.0)]


async def test_of_runs_that_an_event_belongs_to_the_latest_converts(world: World) -> None:
    await world.publish(CARTS.replace(", where: {event.cart: {same: cart}}", ""))
    contact = await world.contact()
    for cart in ("A", "B"):
        await happen(world, "cart.left", contact, cart=cart)
    await happen(world, "order.paid", contact, total=9)
    assert await converted(world) == [("B", 9.0)]


async def test_a_value_beyond_all_numbers_is_none_and_the_conversion_counts(world: World) -> None:
    await world.publish(CARTS)
    contact = await world.contact()
    await happen(world, "cart.left", contact, cart="A")
    async with world.database.begin() as connection:
        names = await eventlog.name_ids(connection, ["order.paid"])
        body = b'{"cart": "A", "total": 1' + b"0" * 400 + b"}"
        await eventlog.append(connection, [eventlog.NewEvent(contact, names["order.paid"], now(), body)])
    assert await converted(world) == [("A", None)]
