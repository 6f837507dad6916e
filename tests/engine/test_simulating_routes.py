"""Simulations over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from core import access
from core.database import Database
from core.settings import Settings
from engine import simulating_routes
from studio.api import create_app
from tests.engine.test_simulating import JOURNEY, installed

__all__ = ["installed"]


@pytest_asyncio.fixture(loop_scope="session")
async def client(installed: Database, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A caller that may read journeys, and no more."""
    async with installed.begin() as connection:
        key = await access.create(connection, "reader", ["journeys:read"])
    transport = httpx.ASGITransport(create_app(settings, installed))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as made:
        yield made


async def ask(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/v1/journeys/simulate", json=body)


async def test_a_published_journey_over_a_segment(client: httpx.AsyncClient) -> None:
    answer = await ask(
        client, journey="compare", segment="all", days=2, response="answered=1@=1h", prices={"email": 0.5}
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["not_let_in"] == 1
    ended = {one["outcome"]: one["contacts"] for one in found["result"]["outcomes"]}
    assert ended == {"answered": 8, "gone": 1}
    assert found["result"]["cost"] == 0.5 * sum(row["sent"] for row in found["result"]["messages"])
    assert found["story"] is None


async def test_the_yaml_of_a_journey_that_is_not_published_and_one_contact(client: httpx.AsyncClient) -> None:
    source = JOURNEY.replace("template: letter", "template: unwritten", 1)
    answer = await ask(client, source=source, contact="email:one@example.com", properties={"topic": "tea"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert "no template unwritten" in found["warnings"][0]
    letters = [line["message"] for line in found["story"] if line["message"]]
    assert "no template 'unwritten'" in letters[0]["problem"]
    assert letters[1]["subject"] == "Dear Ann, about tea"


async def test_what_cannot_be_simulated_is_refused_in_words(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for body, said in (
        ({}, "give either journey or source"),
        ({"journey": "compare"}, "say who enters"),
        ({"journey": "compare", "segment": "all", "contact": "1"}, "give either segment or contact"),
        ({"journey": "compare", "segment": "all", "response": "x"}, "is not a response"),
        ({"source": "journey: x\nsteps: []\n", "segment": "all"}, "steps"),
    ):
        answer = await ask(client, **body)
        assert answer.status_code == 422, answer.text
        assert said in answer.text
    assert (await ask(client, journey="nowhere", segment="all")).status_code == 404
    monkeypatch.setattr(simulating_routes, "MOST_CONTACTS", 3)
    assert "more than 3 contacts" in (await ask(client, journey="compare", segment="all")).text
    monkeypatch.setattr(simulating_routes, "MOST_CONTACTS", 100)
    monkeypatch.setattr(simulating_routes, "MOST_SECONDS", 0.0)
    assert "takes too long" in (await ask(client, journey="compare", segment="all")).text


async def test_it_asks_for_a_key(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/journeys/simulate", json={}, headers={"Authorization": "Bearer kk_no"})
    assert answer.status_code == 401
