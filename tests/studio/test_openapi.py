"""The OpenAPI document against the whole API: every operation answers as it says, to right and wrong."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from channels import providers
from core import access
from core.database import Database
from core.settings import Settings
from studio.api import create_app

CASES = 4
"""That are made up of each operation, fit ones and unfit ones."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
WITHOUT_TEMPORAL = ("GET /readyz", 503)

JOURNEY = {
    "journey": "known",
    "name": "Known",
    "enter": {"event": "known.come"},
    "steps": [{"tag": {"add": ["known"]}, "id": "tag"}],
}
SEGMENT = "segment: known\ncriteria: {contact.tags: known}\n"
LIST = "segment: chosen\nlist: []\n"
PLACES: dict[str, Any] = {
    "contact": "external_id:known",
    "name": "known",
    "key": "known",
    "number": 1,
    "merge": 1,
}
"""What is there, by the names of path parameters."""
RIGHT: dict[str, dict[str, Any]] = {
    "POST /v1/contacts": {"body": {"identities": {"external_id": "known", "email": "known@example.com"}}},
    "POST /v1/identify": {"body": {"external_id": "second"}},
    "POST /v1/contacts/{contact}/merge": {
        "body": {"into": "external_id:known"},
        "path_parameters": {"contact": "external_id:second"},
    },
    "POST /v1/companies": {"body": {"key": "known", "name": "Known"}},
    "POST /v1/contacts/import": {"body": {"file": b"email\nthird@example.com\n"}},
    "POST /v1/events": {"body": {"event": "known.seen", "contact": {"external_id": "known"}}},
    "POST /v1/journeys": {"body": JOURNEY},
    "POST /v1/journeys/preview": {"body": JOURNEY},
    "POST /v1/journeys/simulate": {"body": {"source": json.dumps(JOURNEY), "segment": "all"}},
    "POST /v1/journeys/{name}/enter": {"body": {"contacts": ["external_id:known"]}},
    "POST /v1/segments": {"body": {"source": SEGMENT}},
    "POST /v1/segments/preview": {"body": {"criteria": {"contact.tags": "known"}}},
    "GET /v1/segments/overlap": {"query": {"one": "known", "other": "known"}},
    "POST /v1/segments/{name}/upload": {
        "body": {"file": b"email\nknown@example.com\n"},
        "path_parameters": {"name": "chosen"},
    },
    "POST /v1/routes": {"body": {"provider": "known"}},
    "POST /v1/senders": {"body": {"channel": "email", "address": "known@example.com"}},
    "DELETE /v1/senders": {"query": {"channel": "email", "address": "known@example.com"}},
    "PUT /v1/prices": {"body": "provider,prefix,country,operator,amount,currency\nknown,,,,0.01,EUR\n"},
    "PUT /v1/operators": {"body": "from,to,operator,country\n79160000000,79169999999,MTS,RU\n"},
    "GET /v1/report": {"query": {"measure": "sent"}},
}
"""A right request of operations that need more than a place."""
NEEDS_MORE = {
    "POST /k/e",  # a site: tests/tracker/test_openapi.py
    "GET /readyz",
    "GET /v1/messages/{message}",
    "POST /v1/messages/{message}/resolve",
    "POST /v1/messages/{message}/retry",
    "GET /mailbox/api/letters/{number}",
    "GET /v1/enrollments/{enrollment_id}",
    "POST /v1/enrollments/{enrollment_id}/move",
    "POST /v1/enrollments/{enrollment_id}/end",
}
"""Whose right answer needs a letter, somebody on a journey or Temporal; the tests of their packages have that."""


@pytest_asyncio.fixture(loop_scope="session")
async def app(database: Database, settings: Settings) -> FastAPI:
    """An installation with a provider and a list, and no Temporal."""
    async with database.begin() as connection:
        await providers.add(connection, settings, "known", "blackhole://")
    return create_app(settings.model_copy(update={"demo": True}), database)


@pytest_asyncio.fixture(loop_scope="session")
async def client(app: FastAPI, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who may do everything."""
    async with database.begin() as connection:
        key = await access.create(connection, "everything", ["admin"])
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as made:
        assert (await made.post("/v1/segments", json={"source": LIST})).status_code == 200
        yield made


def _operations(app: FastAPI) -> list[Any]:
    """All of the document, what takes things away last."""
    document: Any = schemathesis.openapi.from_dict(app.openapi())
    found = [one.ok() for one in document.get_all_operations()]
    assert len(found) > 50
    return sorted(
        found, key=lambda one: one.method.upper() == "DELETE" or one.label.endswith(("/stop", "/undo", "/end"))
    )


def _right(operation: Any) -> Any:
    """A request that has to succeed."""
    places = {one.name: PLACES.get(one.name, 1) for one in operation.path_parameters}
    return operation.Case(**{"path_parameters": places, **RIGHT.get(operation.label, {})})


def _made_up(operation: Any, mode: GenerationMode) -> list[Any]:
    made: list[Any] = []

    @effort(max_examples=CASES, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        made.append(case)

    try:
        collect()
    except Unsatisfiable:  # nothing can be wrong with what has no parameters
        assert mode is GenerationMode.NEGATIVE
    for case in made[::2]:
        case.path_parameters = {name: PLACES.get(name, value) for name, value in (case.path_parameters or {}).items()}
    return made


async def _send(client: httpx.AsyncClient, case: Any) -> httpx.Response | None:
    """Send a request; None if it is none that HTTP and JSON can say."""
    wanted = case.as_transport_kwargs(base_url="http://127.0.0.1")
    named = {name: wanted[name] for name in ("params", "json") if wanted.get(name) is not None}
    if wanted.get("files") is not None:
        named["files"] = [(name, (file, _in_form(value))) for name, (file, value) in wanted["files"]]
    data = wanted.get("data")
    if data is not None:
        named["content" if isinstance(data, (str, bytes)) else "data"] = data
    kind = {name: value for name, value in wanted["headers"].items() if name.lower() == "content-type"}
    try:
        request = client.build_request(wanted["method"], wanted["url"], headers=kind, **named)
        await request.aread()
    except (TypeError, ValueError, httpx.InvalidURL):
        return None
    return await client.send(request)


def _in_form(value: Any) -> str | bytes:
    return value if isinstance(value, (str, bytes)) else json.dumps(value)


@pytest.mark.timeout(300)
async def test_every_operation_answers_as_documented(app: FastAPI, client: httpx.AsyncClient) -> None:
    defects: list[str] = []
    for operation in _operations(app):
        right = await _send(client, _right(operation))
        assert right is not None
        if right.is_success is (operation.label in NEEDS_MORE):
            defects.append(f"{operation.label}: {right.status_code} {right.text[:300]}")
        made_up = [case for mode in GenerationMode for case in _made_up(operation, mode)]
        for case in [_right(operation), *made_up]:
            answer = await _send(client, case)
            if answer is None or (operation.label, answer.status_code) == WITHOUT_TEMPORAL:
                continue
            try:
                case.validate_response(answer, checks=CHECKS)
            except BaseExceptionGroup as failures:
                said = "; ".join(str(one) for one in failures.exceptions)
                body = json.dumps(str(case.body))[:300]
                defects.append(f"{operation.label} {case.path_parameters} {case.query} {body}: {said[:500]}")
    assert not defects, "\n".join(defects)
