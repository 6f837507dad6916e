"""Identities over the API and the command line."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio
from sqlalchemy import text

from contacts import merging, profiles
from core import access
from core.database import Database
from core.settings import Settings
from studio.api import create_app
from tests.contacts.test_cli import answer, kaskad
from tests.contacts.test_routes import holding


@pytest_asyncio.fixture(loop_scope="session")
async def client(database: Database, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with database.begin() as connection:
        key = await access.create(connection, "test", ["contacts:read", "contacts:write"])
    transport = httpx.ASGITransport(create_app(settings, database))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as one:
        yield one


async def test_identify_merge_and_undo(client: httpx.AsyncClient) -> None:
    visitor = (await client.post("/v1/identify", json={"anonymous_id": "d1"})).json()["contact_id"]
    known = (await client.post("/v1/identify", json={"email": "Anna@x.com"})).json()["contact_id"]
    done = (await client.post("/v1/identify", json={"anonymous_id": "d1", "email": "anna@x.com"})).json()
    assert done == {"contact_id": known, "merges": [done["merges"][0]], "conflicts": [], "anew": False}
    assert (await client.get(f"/v1/contacts/{visitor}")).json()["id"] == known
    other = (await client.post("/v1/identify", json={"external_id": "u", "email": "anna@x.com"})).json()
    assert other["contact_id"] == known
    conflict = (await client.post("/v1/identify", json={"external_id": "v", "email": "anna@x.com"})).json()
    assert conflict["conflicts"] == [{"kind": "email", "value": "anna@x.com"}]
    (noted,) = (await client.get("/v1/conflicts", params={"contact": "external_id:v"})).json()["conflicts"]
    assert noted["owner_id"] == known
    merged = (await client.post("/v1/contacts/external_id:v/merge", json={"into": str(known)})).json()
    assert merged["contact_id"] == known
    assert (await client.get("/v1/conflicts")).json() == {"conflicts": []}
    listed = (await client.get("/v1/merges", params={"contact": "email:anna@x.com"})).json()["merges"]
    assert [(one["id"], one["source"]) for one in listed] == [(merged["merge"], "api"), (done["merges"][0], "api")]
    undone = await client.post(f"/v1/merges/{done['merges'][0]}/undo")
    assert undone.json() == {"contact_id": visitor, "winner_id": known, "ended": []}
    assert (await client.post(f"/v1/merges/{done['merges'][0]}/undo")).status_code == 409
    assert (await client.post("/v1/merges/999/undo")).status_code == 404
    assert (await client.post(f"/v1/contacts/{known}/merge", json={"into": str(known)})).status_code == 422


async def test_a_key_that_may_only_read_merges_nothing(client: httpx.AsyncClient, database: Database) -> None:
    async with database.begin() as connection:
        key = await access.create(connection, "reader", ["contacts:read"])
    headers = {"Authorization": f"Bearer {key}"}
    for path in ("/v1/identify", "/v1/contacts/1/merge", "/v1/merges/1/undo"):
        body = {"into": "2"} if path.endswith("/merge") else {"email": "a@x.com"}
        assert (await client.post(path, json=body, headers=headers)).status_code == 403, path


async def test_the_commands(client: httpx.AsyncClient, database: Database, tmp_path: Path) -> None:
    first = (await client.post("/v1/identify", json={"email": "a@x.com"})).json()["contact_id"]
    second = (await client.post("/v1/identify", json={"email": "b@x.com"})).json()["contact_id"]
    done = answer(database, tmp_path, "contacts", "merge", "email:b@x.com", "email:a@x.com", "--yes")
    assert (done["contact"], done["was"]) == (first, second)
    (listed,) = answer(database, tmp_path, "contacts", "merges", "--contact", str(second))
    assert (listed["loser_id"], listed["now_id"], listed["can_be_undone"]) == (second, first, True)
    told = kaskad(database, tmp_path, "contacts", "unmerge", str(done["merge"]))
    assert f"Contact {second} is there again" in told.stdout
    assert "was undone" in kaskad(database, tmp_path, "contacts", "unmerge", str(done["merge"])).stderr
    assert answer(database, tmp_path, "contacts", "conflicts") == []


async def test_erasure_leaves_nothing_of_those_who_were_merged(client: httpx.AsyncClient, database: Database) -> None:
    secret = "anna@example.com"
    for number, device in enumerate(("laptop", "phone", "tablet")):
        visitor = (await client.post("/v1/identify", json={"anonymous_id": device})).json()["contact_id"]
        async with database.begin() as connection:
            await profiles.apply(connection, [visitor], {"said": f"I am {secret}"}, [secret])
            await connection.execute(
                text(
                    "insert into session (contact_id, site_id, started_at, ended_at, pages, entry_url) "
                    "values (:contact, 1, now(), now(), 1, 'https://x/?mail=anna@example.com')"
                ),
                {"contact": visitor},
            )
        merges = (await client.post("/v1/identify", json={"anonymous_id": device, "email": secret})).json()["merges"]
        if number == 1:
            async with database.begin() as connection:
                while await merging.settle(connection):
                    pass
        assert len(merges) == (number > 0)
    await client.post("/v1/identify", json={"external_id": "u"})
    assert (await client.post("/v1/identify", json={"external_id": "u", "email": secret})).json()["conflicts"]
    assert {"contact", "contact_merge", "identity_conflict", "session"} <= set(await holding(database, secret))
    assert (await client.delete(f"/v1/contacts/email:{secret}")).status_code == 204
    assert await holding(database, secret) == []
    assert await holding(database, "tablet") == []
