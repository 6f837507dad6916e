"""Errors at the HTTP edge: problem details, bounded bodies, safe headers, pages only for those who may see them."""

import base64
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from pydantic import BaseModel

from core import access, temporal
from core.database import Database
from core.errors import (
    Conflict,
    DatabaseUnavailable,
    InvalidInput,
    KaskadError,
    Misconfigured,
    NotAllowed,
    NotFound,
    NotSignedIn,
    Problem,
)
from core.settings import Settings
from studio.api import create_app


class Thing(BaseModel):
    """Something to send."""

    count: int


@pytest_asyncio.fixture(loop_scope="session")
async def app(database: Database, settings: Settings) -> FastAPI:
    return create_app(settings.model_copy(update={"request_bytes_limit": 2000}), database)


def _client(app: FastAPI, base_url: str = "http://127.0.0.1:8000") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=base_url)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput(Problem("is too old", "send a newer one", path="at")), 422),
        (NotFound("no such thing"), 404),
        (Conflict("there already"), 409),
        (NotSignedIn("who are you"), 401),
        (NotAllowed("not you"), 403),
        (Misconfigured("wrong setting"), 500),
        (DatabaseUnavailable("gone"), 503),
        (ZeroDivisionError("secret detail"), 500),
    ],
)
async def test_errors_become_problem_details(app: FastAPI, error: Exception, status: int) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise error

    async with _client(app) as client:
        answer = await client.get("/broken")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (str(error) in body["detail"]) is isinstance(error, KaskadError)
    if status == 422:
        assert body["errors"] == [{"path": "at", "message": "is too old", "mend": "send a newer one"}]
    assert ("retry-after" in answer.headers) is (status == 503)
    assert ("www-authenticate" in answer.headers) is (status == 401)


async def test_malformed_requests_are_told_what_is_wrong(app: FastAPI) -> None:
    @app.post("/things")
    async def things(thing: Thing) -> Thing:
        return thing

    async with _client(app) as client:
        not_json = await client.post("/things", content=b"{", headers={"content-type": "application/json"})
        wrong = await client.post("/things", json={"count": "many"})
        missing = await client.get("/nowhere")
    assert (not_json.status_code, wrong.status_code, missing.status_code) == (400, 422, 404)
    assert wrong.json()["errors"][0]["path"] == "count"
    assert {one.headers["content-type"] for one in (not_json, wrong, missing)} == {"application/problem+json"}


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_is_bounded_whether_or_not_its_length_is_announced(app: FastAPI, announced: bool) -> None:
    taken = []

    @app.post("/things")
    async def things(thing: Thing) -> Thing:
        taken.append(thing)
        return thing

    body = b'{"count": 1, "pad": "' + b"x" * 5000 + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 500):
            yield body[start : start + 500]

    async with _client(app) as client:
        answer = await client.post(
            "/things",
            content=body if announced else chunks(),
            headers={"content-type": "application/json"},
        )
    assert answer.status_code == 413 and "2,000 bytes" in answer.json()["detail"]
    assert taken == []


async def test_uploads_may_be_larger_but_only_from_those_who_may_send_them(app: FastAPI, database: Database) -> None:
    async with database.begin() as connection:
        writer = await access.create(connection, "writer", ["contacts:write"])
        reader = await access.create(connection, "reader", ["contacts:read"])
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(10):
            read += 1
            yield b"x" * 1000

    async with _client(app) as client:
        for key, status in ((None, 401), (reader, 403)):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            answer = await client.post("/v1/contacts/import", content=chunks(), headers=headers)
            assert (answer.status_code, read) == (status, 0)
            assert answer.headers["content-type"] == "application/problem+json"
        file = {"file": ("people.csv", b"email\n" + b"ann@example.com\n" * 200, "text/csv")}
        headers = {"Authorization": f"Bearer {writer}"}
        answer = await client.post("/v1/contacts/import", files=file, headers=headers)
    assert answer.status_code == 200, answer.text


async def test_readiness_says_that_temporal_is_away(database: Database, settings: Settings) -> None:
    client_of_nobody = await temporal.lazy(settings, "127.0.0.1:1")
    async with _client(create_app(settings, database, client_of_nobody)) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["database"] == "ok" and "127.0.0.1:1" in answer.json()["temporal"]


async def test_health_readiness_and_metrics(app: FastAPI) -> None:
    async with _client(app) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        ready = await client.get("/readyz")
        assert "python_info" in (await client.get("/metrics")).text
    assert ready.status_code == 503
    assert ready.json() == {"ready": False, "database": "ok", "temporal": "not set up"}


async def test_without_a_database_requests_are_refused_and_readiness_says_so(settings: Settings) -> None:
    nowhere = Database("postgresql://kaskad:hunter2@127.0.0.1:1/kaskad")
    app = create_app(settings, nowhere)
    async with _client(app) as client:
        index, ready = await client.get("/"), await client.get("/readyz")
    assert index.status_code == 503 and "PostgreSQL" in index.json()["detail"]
    assert ready.status_code == 503 and "does not answer" in ready.json()["database"]
    assert "hunter2" not in index.text + ready.text


@pytest.mark.parametrize(
    ("host", "public", "called", "headers"),
    [
        ("0.0.0.0", None, "http://127.0.0.1:8000", {}),
        ("127.0.0.1", None, "http://kaskad.example", {}),  # DNS rebinding, or a proxy
        ("127.0.0.1", None, "http://127.0.0.1:8000", {"X-Forwarded-For": "203.0.113.9"}),
        # nginx with `proxy_pass http://127.0.0.1:8000` and nothing else
        ("127.0.0.1", "https://mail.example.com", "http://127.0.0.1:8000", {}),
    ],
)
async def test_pages_ask_strangers_for_an_admin_key(
    database: Database, settings: Settings, host: str, public: str | None, called: str, headers: dict[str, str]
) -> None:
    async with database.begin() as connection:
        admin = await access.create(connection, "admin", ["admin"])
        reader = await access.create(connection, "reader", ["contacts:read"])
    app = create_app(settings.model_copy(update={"host": host, "base_url": public}), database)
    headers = {**headers, "Accept": "text/html"}
    async with _client(app, called) as client:
        for path in ("/", "/journeys/welcome", "/metrics"):
            refused = await client.get(path, headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Basic ")
        for key, status in ((admin, 200), (reader, 403), ("wrong", 401)):
            password = base64.b64encode(f"anyone:{key}".encode()).decode()
            answer = await client.get("/", headers={**headers, "Authorization": f"Basic {password}"})
            assert answer.status_code == status


@pytest.mark.parametrize("public", ["http://localhost:8000", "http://[::1]:8000/", "http://127.0.0.1:8000"])
async def test_pages_are_open_on_a_machine_whose_address_is_its_own(
    database: Database, settings: Settings, public: str
) -> None:
    async with _client(create_app(settings.model_copy(update={"base_url": public}), database)) as client:
        assert (await client.get("/")).status_code == 200


async def test_pages_carry_headers_that_keep_browsers_safe(app: FastAPI) -> None:
    async with _client(app) as client:
        page = await client.get("/")
        assert (await client.get("/static/kaskad.css")).headers["content-type"].startswith("text/css")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in page.text


async def test_openapi_documents_problems_everywhere(app: FastAPI) -> None:
    document = app.openapi()
    assert document["components"]["schemas"]["ProblemDetails"]["properties"]["detail"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path in document["paths"].values():
        for operation in path.values():
            assert any(status.startswith("4") for status in operation["responses"])
