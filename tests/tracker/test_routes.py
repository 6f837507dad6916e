"""POST /v1/events as its callers see it."""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from core.database import Database
from core.settings import Settings
from tests.tracker.conftest import make_key

EVENT: dict[str, Any] = {"id": "e-1", "event": "page.viewed", "contact": {"external_id": "u-1"}}


async def stored(database: Database) -> int:
    async with database.begin() as connection:
        return int((await connection.execute(text("select count(*) from event"))).scalar_one())


async def test_one_event(client: httpx.AsyncClient, database: Database) -> None:
    answer = await client.post("/v1/events", json=EVENT)
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "accepted": 1,
        "duplicates": 0,
        "refused": 0,
        "events": [{"status": "accepted", "id": "e-1"}],
    }
    assert await stored(database) == 1
    again = await client.post("/v1/events", json=EVENT)
    assert (again.status_code, again.json()["duplicates"]) == (202, 1)
    assert await stored(database) == 1


@pytest.mark.parametrize("wrap", [lambda events: events, lambda events: {"events": events}])
async def test_many_events_each_with_its_fate(client: httpx.AsyncClient, database: Database, wrap: Any) -> None:
    events = [EVENT, {**EVENT, "id": "e-2", "at": "yesterday"}, EVENT, {"event": "a.b", "contact": {"email": "a@b.io"}}]
    answer = await client.post("/v1/events", json=wrap(events))
    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["duplicates"], body["refused"]) == (2, 1, 1)
    assert [(one["status"], one.get("id")) for one in body["events"]] == [
        ("accepted", "e-1"),
        ("refused", "e-2"),
        ("duplicate", "e-1"),
        ("accepted", None),
    ]
    (error,) = body["events"][1]["errors"]
    assert error["path"] == "events[1].at"
    assert "RFC3339" in error["message"] and "2026-03-01T10:00:00Z" in error["mend"]
    assert await stored(database) == 2


async def test_a_thousand_events(client: httpx.AsyncClient, database: Database) -> None:
    answer = await client.post("/v1/events", json=[{**EVENT, "id": f"e-{n}"} for n in range(1000)])
    assert answer.json()["accepted"] == 1000
    assert await stored(database) == 1000


async def test_when_nothing_can_be_stored_it_is_a_problem(client: httpx.AsyncClient, database: Database) -> None:
    one = await client.post("/v1/events", json={**EVENT, "event": "Bad Name"})
    assert one.status_code == 422
    assert one.headers["content-type"] == "application/problem+json"
    assert one.json()["errors"][0]["path"] == "event"
    two = await client.post("/v1/events", json=[{**EVENT, "event": 1}, 5])
    assert two.status_code == 422
    assert [error["path"] for error in two.json()["errors"]] == ["events[0].event", "events[1]"]
    assert await stored(database) == 0


async def test_what_only_the_database_refuses_is_placed(client: httpx.AsyncClient, database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("alter table event add constraint c check (not properties ? 'poison')"))
    bad = {**EVENT, "id": "e-2", "properties": {"poison": 1}}
    answer = await client.post("/v1/events", json=[{**EVENT, "properties": {"a": 1}}, bad])
    assert answer.status_code == 202
    assert [one["status"] for one in answer.json()["events"]] == ["accepted", "refused"]
    assert answer.json()["events"][1]["errors"][0]["path"] == "events[1]"


async def test_only_keys_with_the_scope_may_send(app: FastAPI, client: httpx.AsyncClient, database: Database) -> None:
    other = await make_key(database, "contacts:write")
    for headers, status in (
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer kk_wrong"}, 401),
        ({"Authorization": f"Bearer {other}"}, 403),
    ):
        answer = await client.post("/v1/events", json=EVENT, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert await stored(database) == 0


async def test_large_and_compressed_bodies(app: FastAPI, client: httpx.AsyncClient, settings: Settings) -> None:
    too_large = b" " * (settings.request_bytes_limit + 1)
    assert (await client.post("/v1/events", content=too_large)).status_code == 413
    packed = await client.post("/v1/events", content=b"x", headers={"Content-Encoding": "gzip"})
    assert (packed.status_code, packed.headers["content-type"]) == (415, "application/problem+json")


async def test_bodies_that_are_no_json(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events", content='{"event": "caf\xe9"}'.encode("latin-1"))
    assert answer.status_code == 422
    assert "not UTF-8" in answer.json()["detail"]
    assert (await client.post("/v1/events", content=json.dumps(EVENT)[:-1])).status_code == 422


async def test_a_full_queue_is_503_with_a_time(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.post("/v1/events", json=EVENT)
    await app.state.intake.close()
    answer = await client.post("/v1/events", json=EVENT)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_lane_answers_like_everything_else(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events go past FastAPI's middleware, but neither past the guard nor past the answers to errors."""
    answer = await client.post("/v1/events", json=EVENT)
    assert (answer.status_code, answer.headers["x-content-type-options"]) == (202, "nosniff")
    assert (await client.get("/v1/events")).status_code == 405

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app.state.intake, "take", broken)
    answer = await client.post("/v1/events", json=EVENT)
    assert (answer.status_code, answer.headers["x-content-type-options"]) == (500, "nosniff")
    assert answer.headers["content-type"] == "application/problem+json"
