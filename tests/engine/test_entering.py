"""Entries by the API and by hand, by a form, and by a link in a letter: real database, router and HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from core import access, eventlog
from core.clock import now
from engine.router import Router
from studio.api import create_app
from tests.engine.steps_world import World
from tests.engine.test_comings import Deaf

CART = """
journey: cart
enter: {event: cart.left, key: event.cart, reenter: always}
steps:
  - {wait: 1h, until: {event: order.paid, where: {event.cart: {same: cart}}}}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A caller that may change journeys."""
    async with world.database.begin() as connection:
        key = await access.create(connection, "writer", ["journeys:write"])
    transport = httpx.ASGITransport(create_app(world.settings, world.database))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as made:
        yield made


async def inside(world: World) -> list[Any]:
    """Who has entered, after everything was routed."""
    while await Router(world.database, world.settings, Deaf(), world.versions).round():
        pass
    return await world.run(
        "select e.contact_id, e.key, e.correlation, v.properties from enrollment e "
        "left join event v on v.id = e.entry_event_id and v.occurred_at = e.entry_event_at order by e.id"
    )


async def test_an_entry_by_the_api_brings_properties_as_an_event_does(world: World, client: httpx.AsyncClient) -> None:
    await world.publish(CART)
    contact = await world.contact()
    body = {"contacts": [str(contact)], "properties": {"cart": 7, "items": ["a", {"b": 1}]}}
    answer = await client.post("/v1/journeys/cart/enter", json=body)
    assert answer.status_code == 202, answer.text
    answer = await client.post("/v1/journeys/cart/enter", json=body | {"key": "mine"})
    assert answer.status_code == 202, answer.text
    first, second = await inside(world)
    assert (first.contact_id, first.key, first.correlation) == (contact, "7", {"cart": 7})
    assert (first.properties["cart"], first.properties["items"]) == (7, ["a", {"b": 1}])
    assert (second.key, second.correlation) == ("mine", {"cart": 7})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"properties": {"key": 1}}, "key is taken"),
        ({"properties": {"journey": "other", "parent": 3}}, "journey, parent is taken"),
        ({"properties": {f"p{n}": n for n in range(201)}}, "too many"),
        ({"properties": {"a": "x" * 40_000}}, "bytes"),
        ({"properties": {"a": [[[[[[1]]]]]]}}, "nests too deeply"),
        ({"properties": {"a": "\x00"}}, "null character"),
        ({"properties": {"a": 1}, "segment": "all", "contacts": []}, "belong to contacts"),
    ],
)
async def test_properties_that_no_event_could_have_are_refused(
    world: World, client: httpx.AsyncClient, body: dict[str, Any], said: str
) -> None:
    await world.publish(CART)
    contact = await world.contact()
    answer = await client.post("/v1/journeys/cart/enter", json={"contacts": [str(contact)]} | body)
    assert answer.status_code == 422, answer.text
    assert said in answer.text
    assert await inside(world) == []


@pytest.mark.parametrize(
    ("enter", "event", "meant", "other"),
    [
        ("{event: form.submitted, where: {event.form: contact}}", "form.submitted", {"form": "contact"}, {"form": "x"}),
        (
            "{event: message.clicked, where: {event.template: offer}}",
            "message.clicked",
            {"template": "offer", "url": "https://example.com/"},
            {"template": "news", "url": "https://example.com/"},
        ),
    ],
)
async def test_a_form_and_a_link_let_the_contact_in(
    world: World, enter: str, event: str, meant: dict[str, Any], other: dict[str, Any]
) -> None:
    await world.publish(f"journey: begun\nenter: {enter}\nsteps: [{{wait: 1h}}]\n")
    anna, boris = await world.contact(), await world.contact()
    for contact, properties in ((anna, meant), (boris, other)):
        async with world.database.begin() as connection:
            await eventlog.record(connection, event, contact, now(), properties)
    assert [row.contact_id for row in await inside(world)] == [anna]
