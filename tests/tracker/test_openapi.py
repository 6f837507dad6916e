"""The document of POST /v1/events, which is written by hand, against the route."""

from copy import deepcopy
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from schemathesis import GenerationMode

from core.database import Database
from tests.tracker.site_world import make_site, send
from tracker.document import HITS_BODY, REQUEST_BODY
from tracker.routes import EventResults
from tracker.site_routes import HitResults


def bodies(app: FastAPI, mode: GenerationMode, count: int, path: str = "/v1/events") -> list[Any]:
    """Request bodies that schemathesis makes from the app's document: fit ones, or unfit ones."""
    operation = schemathesis.openapi.from_dict(app.openapi())[path]["POST"]
    made: list[Any] = []

    @effort(max_examples=count, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        made.append(case.body)

    collect()
    return made


@pytest.mark.parametrize("mode", list(GenerationMode))
async def test_whatever_the_document_leads_to_is_answered_as_documented(
    app: FastAPI, client: httpx.AsyncClient, mode: GenerationMode
) -> None:
    statuses = set()
    for body in bodies(app, mode, 60):
        try:
            answer = await client.post("/v1/events", json=body)
        except (TypeError, ValueError):  # nothing that JSON can say
            continue
        statuses.add(answer.status_code)
        if answer.status_code == 202:
            results = EventResults.model_validate_json(answer.content, extra="forbid")
            assert results.accepted + results.duplicates + results.refused == len(results.events)
        else:
            assert answer.headers["content-type"] == "application/problem+json", answer.text
            assert answer.json()["errors"][0]["message"]
    assert 422 in statuses
    assert statuses <= {202, 422}


async def test_the_document_is_complete(app: FastAPI) -> None:
    operation = app.openapi()["paths"]["/v1/events"]["post"]
    assert operation["requestBody"] == REQUEST_BODY
    assert {"202", "401", "403", "413", "415", "422", "503"} <= operation["responses"].keys()
    assert operation["security"]


async def test_the_documented_examples_are_taken(client: httpx.AsyncClient) -> None:
    for example in REQUEST_BODY["content"]["application/json"]["examples"].values():
        body = deepcopy(example["value"])
        for event in body.get("events", [body]):
            event.pop("at", None)  # a fixed time grows old
        answer = await client.post("/v1/events", json=body)
        assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("mode", list(GenerationMode))
async def test_hits_are_answered_as_documented(
    app: FastAPI, client: httpx.AsyncClient, database: Database, mode: GenerationMode
) -> None:
    site = await make_site(database)
    statuses = set()
    for content in bodies(app, mode, 60, "/k/e"):
        try:
            answer = await send(client, {**content, "key": site.key} if isinstance(content, dict) else content)
        except (TypeError, ValueError):  # nothing that JSON can say
            continue
        statuses.add(answer.status_code)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json", answer.text
        elif answer.content:
            HitResults.model_validate_json(answer.content, extra="forbid")
    assert 422 in statuses
    assert statuses <= {200, 204, 422}


async def test_the_documented_hits_are_taken(client: httpx.AsyncClient, database: Database) -> None:
    site = await make_site(database)
    for example in HITS_BODY["content"]["text/plain"]["examples"].values():
        content = deepcopy(example["value"]) | {"key": site.key}
        answer = await send(client, content)
        assert answer.status_code == 204, answer.text
