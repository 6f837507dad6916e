"""The API of segments, through the app as it is served."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import insert, text

from core import access
from core.database import Database
from core.schema.contacts import contact
from core.settings import Settings
from studio.api import create_app

SOURCE = "segment: vip\ncriteria: {contact.tags: vip}\n"


@pytest_asyncio.fixture(loop_scope="session")
async def client(database: Database, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with database.begin() as connection:
        key = await access.create(connection, "test", ["segments:read", "segments:write", "contacts:read"])
        rows = [{"id": number, "tags": ["vip"] if number % 2 else []} for number in range(1, 6)]
        await connection.execute(insert(contact), rows)
    transport = httpx.ASGITransport(create_app(settings, database))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as one:
        yield one


async def test_from_publishing_to_deleting(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/segments", json={"source": SOURCE})
    assert answer.json() == {"segment": "vip", "changed": True}
    assert [one["name"] for one in (await client.get("/v1/segments")).json()] == ["vip"]
    shown = (await client.get("/v1/segments/vip")).json()
    assert (shown["words"], shown["version"], shown["source"]) == ("has the tag vip", 1, SOURCE)
    assert (await client.get("/v1/segments/vip/count")).json() == {"segment": "vip", "contacts": 3}
    page = (await client.get("/v1/segments/vip/members", params={"limit": 2})).json()
    assert ([one["id"] for one in page["members"]], page["after"]) == ([1, 3], 3)
    exported = await client.get("/v1/segments/vip/export", params={"columns": "id,tags"})
    assert exported.text == "id,tags\r\n1,vip\r\n3,vip\r\n5,vip\r\n"
    assert (await client.get("/v1/segments/overlap", params={"one": "vip", "other": "all"})).json()["both"] == 3
    assert "vip" in str((await client.get("/v1/segments/vip/sql")).json()["parameters"])
    assert (await client.get("/v1/segments/vip/versions")).json()[0]["published_by"] == "key test"
    assert (await client.get("/v1/segments/vip/growth")).json() == []
    assert (await client.delete("/v1/segments/vip")).status_code == 204
    assert (await client.get("/v1/segments/vip")).status_code == 404


async def test_a_preview_stores_nothing(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/v1/segments/preview", json={"criteria": {"contact.tags": "vip"}, "limit": 1})).json()
    assert (answer["contacts"], [one["id"] for one in answer["newest"]]) == (3, [5])
    wrong = await client.post("/v1/segments/preview", json={"criteria": {"contact.citty": "x"}})
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["path"] == "/criteria/contact.citty"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/segments/vip/count"),
        ("GET", "/v1/segments/vip/members"),
        ("GET", "/v1/segments/vip/export"),
        ("GET", "/v1/segments/overlap?one=vip&other=all"),
        ("POST", "/v1/segments/preview"),
    ],
)
async def test_a_question_that_takes_too_long_is_given_up(
    client: httpx.AsyncClient, database: Database, settings: Settings, method: str, path: str
) -> None:
    await client.post("/v1/segments", json={"source": SOURCE})
    impatient = create_app(settings.model_copy(update={"segment_seconds": 1}), database)
    body = {"criteria": {"contact.tags": "vip"}} if method == "POST" else None
    async with database.begin() as holder:
        await holder.execute(text("lock table contact in access exclusive mode"))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(impatient), base_url="http://localhost") as asking:
            answer = await asking.request(method, path, json=body, headers=client.headers)
    assert answer.status_code == 503
    assert "the segment took longer than 1 s: narrow the criteria" in answer.json()["detail"]


async def test_a_list_is_filled_from_a_file(client: httpx.AsyncClient) -> None:
    await client.post("/v1/segments", json={"source": "segment: chosen\nlist: []\n"})
    answer = await client.post("/v1/segments/chosen/upload", files={"file": ("l.csv", b"id\n1\n2\n99\nx\n")})
    assert answer.json() == {
        "rows": 4,
        "found": 2,
        "added": 2,
        "rejected": 2,
        "rejects": [
            {"line": 4, "value": "99", "reason": "no contact has this id"},
            {"line": 5, "value": "x", "reason": "this is no number"},
        ],
    }
    assert (await client.get("/v1/segments/chosen/export", params={"columns": "nope"})).status_code == 422


async def test_scopes_are_asked_for(client: httpx.AsyncClient, database: Database) -> None:
    async with database.begin() as connection:
        key = await access.create(connection, "reader", ["segments:read"])
    headers = {"Authorization": f"Bearer {key}"}
    await client.post("/v1/segments", json={"source": SOURCE})
    assert (await client.get("/v1/segments/vip/count", headers=headers)).status_code == 200
    for path in ("/v1/segments/vip/members", "/v1/segments/vip/export"):
        assert (await client.get(path, headers=headers)).status_code == 403, path
    preview = {"criteria": {"contact.tags": "vip"}}
    assert (await client.post("/v1/segments/preview", json=preview, headers=headers)).status_code == 403
    assert (await client.post("/v1/segments", json={"source": SOURCE}, headers=headers)).status_code == 403
    assert (await client.delete("/v1/segments/vip", headers=headers)).status_code == 403


async def test_who_may_not_read_contacts_learns_no_address_by_writing(
    client: httpx.AsyncClient, database: Database
) -> None:
    async with database.begin() as connection:
        key = await access.create(connection, "writer", ["segments:write"])
    headers = {"Authorization": f"Bearer {key}"}
    empty = {"source": "segment: chosen\nlist: []\n"}
    assert (await client.post("/v1/segments", json=empty, headers=headers)).status_code == 200
    filled = {"source": "segment: chosen\nlist: [anna@example.com]\n"}
    assert (await client.post("/v1/segments", json=filled, headers=headers)).status_code == 403
    file = {"file": ("l.csv", b"id\n1\n")}
    assert (await client.post("/v1/segments/chosen/upload", files=file, headers=headers)).status_code == 403


async def test_a_file_may_be_larger_than_other_requests_for_those_who_may_send_it(
    database: Database, settings: Settings, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/segments", json={"source": "segment: chosen\nlist: []\n"})
    app = create_app(settings.model_copy(update={"request_bytes_limit": 1000}), database)
    file = {"file": ("l.csv", b"id\n" + b"1\n" * 1000)}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as one:
        answer = await one.post("/v1/segments/chosen/upload", files=file, headers=client.headers)
        assert answer.json()["found"] == 1000
        assert (await one.post("/v1/segments/chosen/upload", files=file)).status_code == 401
        assert (await one.post("/v1/segments", content=b"x" * 2000, headers=client.headers)).status_code == 413
