"""Providers, routes, prices, senders and ranges over HTTP."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from core import access
from studio.api import create_app
from tests.channels.world import World


@pytest_asyncio.fixture(loop_scope="session")
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """The API, called with the key of an administrator."""
    async with world.database.begin() as connection:
        key = await access.create(connection, "admin", ["admin"])
    transport = httpx.ASGITransport(create_app(world.settings, world.database))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as one:
        yield one


async def test_from_route_to_sender(client: httpx.AsyncClient) -> None:
    [provider] = (await client.get("/v1/providers")).json()
    assert (provider["name"], provider["url"]) == ("main", "test://…@host")
    made = await client.post("/v1/routes", json={"provider": "main", "countries": ["ru"], "tier": 2})
    assert made.status_code == 201
    [route] = (await client.get("/v1/routes")).json()
    assert (route["id"], route["countries"], route["tier"]) == (made.json()["id"], ["RU"], 2)
    assert (await client.delete(f"/v1/routes/{route['id']}")).status_code == 204
    assert (await client.delete(f"/v1/routes/{route['id']}")).status_code == 404
    priced = await client.put("/v1/prices", content="provider,amount,currency\nmain,1.5,RUB\n")
    assert priced.json() == {"rows": 1}
    [price] = (await client.get("/v1/prices", params={"provider": "main"})).json()
    assert (price["amount"], price["currency"]) == ("1.500000", "RUB")
    assert (await client.post("/v1/senders", json={"channel": "sms", "address": "EXPORT"})).status_code == 201
    assert [one["address"] for one in (await client.get("/v1/senders")).json()] == ["EXPORT"]
    where = {"channel": "sms", "address": "EXPORT"}
    assert (await client.delete("/v1/senders", params=where)).status_code == 204
    ranges = await client.put("/v1/operators", content="from,to,operator,country\n+7916,+7917,MTS,RU\n")
    assert ranges.json() == {"rows": 1}
    assert (await client.get("/v1/operators")).json()[0]["operator"] == "MTS"


async def test_what_cannot_be_is_said_in_words(client: httpx.AsyncClient) -> None:
    refused = await client.put("/v1/prices", content="provider,amount,currency\nmain,much,RUB\n")
    assert refused.status_code == 422
    assert "'much' is no amount" in refused.text
    assert (await client.post("/v1/routes", json={"provider": "main", "colour": "red"})).status_code == 422
    assert (await client.post("/v1/routes", json={"provider": "third"})).status_code == 404


@pytest.mark.parametrize("path", ["providers", "routes", "prices", "senders", "operators"])
async def test_only_administrators_may(client: httpx.AsyncClient, world: World, path: str) -> None:
    async with world.database.begin() as connection:
        key = await access.create(connection, "reader", ["messages:read", "journeys:write"])
    answer = await client.get(f"/v1/{path}", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 403
    assert (await client.get(f"/v1/{path}", headers={"Authorization": ""})).status_code == 401
