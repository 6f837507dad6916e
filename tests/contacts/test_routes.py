"""The API of contacts, through the app as it is served, and erasure, which must leave nothing."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from contacts import Item, suppressions, upsert
from contacts.profiles import ConsentItem, find
from core import access, eventlog
from core.database import Database
from core.maintenance import maintain
from core.settings import Settings
from studio.api import create_app

AT = datetime.now(UTC)


@pytest_asyncio.fixture(loop_scope="session")
async def client(database: Database, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with database.begin() as connection:
        key = await access.create(connection, "test", ["contacts:read", "contacts:write"])
    transport = httpx.ASGITransport(create_app(settings, database))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as one:
        yield one


async def test_write_and_show(client: httpx.AsyncClient) -> None:
    body = {
        "identities": {"email": "Anna@X.com"},
        "attributes": {"age": 31, "first_name": "Анна"},
        "consents": [{"channel": "email", "purpose": "marketing", "granted": True}],
    }
    answer = await client.post("/v1/contacts", json=body)
    assert answer.status_code == 200, answer.text
    number = answer.json()["contacts"][0]["id"]
    for reference in (str(number), "email:anna@x.com"):
        shown = (await client.get(f"/v1/contacts/{reference}")).json()
        assert shown["attributes"] == {"age": 31, "first_name": "Анна"}
        assert shown["identities"][0]["value"] == "anna@x.com"
        assert shown["consents"][0]["granted"] is True
    listed = (await client.get("/v1/contacts", params={"limit": 1})).json()
    assert [one["id"] for one in listed["contacts"]] == [number]
    assert (await client.get("/v1/contacts", params={"after": number})).json() == {"contacts": [], "after": None}


async def test_items_of_a_batch_answer_for_themselves(client: httpx.AsyncClient) -> None:
    body = [
        {"identities": {"email": "a@x.com"}},
        {"identities": {"email": "nonsense"}},
        {"identities": {"fax": "1"}},
        {"identities": {"email": "a@x.com"}, "colour": "red"},
        {"identities": {"email": "a@x.com"}},
    ]
    for sent in (body, {"contacts": body}):
        answer = (await client.post("/v1/contacts", json=sent)).json()
        assert [one["status"] for one in answer["contacts"]][1:4] == ["refused"] * 3
        assert answer["contacts"][1]["errors"][0]["path"] == "contacts[1].email"
        assert answer["refused"] == 3
        assert answer["created"] + answer["updated"] == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff", 400),
        (b"[]", 422),
        (b"7", 422),
        (b'{"identities": {}}', 422),
        (b'{"identities": {"email": 1}}', 422),
        (b'{"identities": {"email": "a@x.com"}, "attributes": {"a": {"b": 1}}}', 422),
        (b'{"identities": {"email": "a@x.com"}, "attributes": {"a": "\\u0000"}}', 422),
        (json.dumps([{"identities": {"email": "a@x.com"}}] * 1001).encode(), 422),
    ],
)
async def test_bodies_that_cannot_be(client: httpx.AsyncClient, body: bytes, status: int) -> None:
    answer = await client.post("/v1/contacts", content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


async def test_who_is_not_there_and_who_may_not(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/contacts/email:nobody@x.com")).status_code == 404
    assert (await client.get("/v1/contacts/99999")).status_code == 404
    assert (await client.delete("/v1/contacts/99999")).status_code == 404
    assert (await client.get("/v1/contacts/anna")).status_code == 422
    assert (await client.get("/v1/contacts", headers={"Authorization": "Bearer no"})).status_code == 401


async def test_the_timeline_comes_in_pages_newest_first(client: httpx.AsyncClient, database: Database) -> None:
    number = await somebody(database)
    seen: list[Any] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        shown = (await client.get(f"/v1/contacts/{number}", params=query)).json()
        seen += shown["timeline"]
        if shown["older"] is None:
            break
        query["before"] = shown["older"]
    assert [one["name"] for one in seen] == ["e0", "e1", "", "e2", "e3"]
    assert seen[2]["details"]["state"] == "queued"
    assert seen[0]["details"]["properties"] == {"to": "anna@example.com"}
    assert (await client.get(f"/v1/contacts/{number}", params={"before": "?"})).status_code == 422


async def somebody(database: Database) -> int:
    """A contact whose address stands in every place that may hold one."""
    said = ConsentItem("email", "marketing", True, evidence={"typed": "anna@example.com"})
    identities = {"email": "anna@example.com", "external_id": "x-anna@example.com"}
    item = Item(identities, {"note": "anna@example.com"}, add_tags=["anna@example.com"], consents=[said])
    async with database.begin() as connection:
        [made] = await upsert(connection, [item])
        number = made.contact_id or 0
        await suppressions.suppress(connection, "email", ["anna@example.com"], "bounced", "550 anna@example.com")
        values = {"id": number, "at": AT - timedelta(seconds=90), "a": "anna@example.com"}
        for statement in (
            "insert into journey (id, name, title) values (1, 'j', 'J')",
            "insert into journey_version (id, journey_id, number, source, plan) values (1, 1, 1, '', '{}')",
            "insert into enrollment (contact_id, cohort_id, journey_id, version_id, exclusive, key, correlation) "
            "values (:id, 1, 1, 1, true, :a, jsonb_build_object('to', cast(:a as text))), "
            "(:id, 1, 1, 1, true, 'x' || :a, null)",
            "insert into message (id, created_at, contact_id, state, channel, purpose, address, reason) "
            "values (gen_random_uuid(), :at, :id, 10, 'email', 'marketing', :a, '550 no such user ' || :a)",
            "insert into caught_letter (sender, recipient, subject, source) "
            "values ('us', :a, :a, convert_to(:a, 'UTF8'))",
        ):
            needed = {name: value for name, value in values.items() if f":{name}" in statement}
            await connection.execute(text(statement), needed)
        names = await eventlog.name_ids(connection, [f"e{n}" for n in range(4)])
        body = json.dumps({"to": "anna@example.com"})
        times = [AT - timedelta(minutes=n) for n in range(4)]
        await eventlog.append(
            connection, [eventlog.NewEvent(number, names[f"e{n}"], at, body) for n, at in enumerate(times)]
        )
    return number


async def holding(database: Database, needle: str) -> list[str]:
    """The tables with a row that contains a text, whatever the column."""
    async with database.begin() as connection:
        tables = await connection.execute(
            text("select tablename from pg_tables where schemaname = 'public' order by tablename")
        )
        found = []
        for table in tables.scalars().all():
            query = f'select count(*) from "{table}" t where t::text ilike :needle or t::text ilike :hex'
            values = {"needle": f"%{needle}%", "hex": f"%{needle.encode().hex()}%"}
            if (await connection.execute(text(query), values)).scalar_one():
                found.append(table)
    return found


async def test_erasure_leaves_the_address_in_no_table(client: httpx.AsyncClient, database: Database) -> None:
    number = await somebody(database)
    before = await holding(database, "anna@example.com")
    assert {"contact", "identity", "consent_record", "suppression", "enrollment", "caught_letter"} < set(before)
    assert (await client.delete("/v1/contacts/email:anna@example.com")).status_code == 204
    assert await holding(database, "anna@example.com") == []
    assert (await client.get(f"/v1/contacts/{number}")).status_code == 404
    async with database.begin() as connection:
        assert await suppressions.suppressed(connection, "email", ["anna@example.com"]) == {
            "anna@example.com": "bounced"
        }
        events = await connection.execute(text("select count(*) from event where contact_id = :id"), {"id": number})
        assert events.scalar_one() == 4
        states = await connection.execute(text("select state, reason from message"))
        assert tuple(states.one()) == (15, "erased")


async def test_import_by_upload(client: httpx.AsyncClient, database: Database) -> None:
    content = "Mail,ok\na@x.com,yes\nbad,no\n"
    form = {"mapping": '{"Mail": "email"}', "consent_column": "ok", "consent": "email:marketing"}
    answer = await client.post("/v1/contacts/import", data=form, files={"file": ("../people.csv", content)})
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["accepted"], result["rejected"]) == (1, 1)
    assert result["rejects"][0]["line"] == 3
    again = await client.post("/v1/contacts/import", data=form, files={"file": ("people.csv", content)})
    assert again.json()["state"] == "already"
    async with database.begin() as connection:
        assert await find(connection, "email:a@x.com")
    wrong = await client.post("/v1/contacts/import", data={"mapping": "["}, files={"file": ("a.csv", content)})
    assert wrong.status_code == 422


async def test_an_upload_that_is_taken_up_again_gives_all_its_rejects(
    client: httpx.AsyncClient, database: Database
) -> None:
    """The first attempt breaks after its first chunk."""
    lines = [f"{n}@x.com,{n}\n" for n in range(20_000)]
    lines[10], lines[19_999] = "bad,10\n", "worse,19999\n"
    content = "email,n\n" + "".join(lines) + "late,20000\n"
    async with database.begin() as connection:
        for statement in (
            "create function refuse() returns trigger language plpgsql as $$ begin "
            "raise exception 'gone' using errcode = '55000'; end $$",
            "create trigger refuse before update on contact_import for each row "
            "when (old.position > 0) execute function refuse()",
        ):
            await connection.execute(text(statement))
    assert (await client.post("/v1/contacts/import", files={"file": ("people.csv", content)})).status_code == 500
    async with database.begin() as connection:
        await connection.execute(text("drop trigger refuse on contact_import"))
    answer = (await client.post("/v1/contacts/import", files={"file": ("people.csv", content)})).json()
    assert (answer["state"], answer["rows"], answer["rejected"]) == ("finished", 20_001, 3)
    assert [one["line"] for one in answer["rejects"]] == [12, 20_001, 20_002]
    path = f"/v1/contacts/import/{answer['id']}/rejects"
    page = (await client.get(path, params={"limit": 2})).json()
    assert ([one["line"] for one in page["rejects"]], page["after"]) == ([12, 20_001], 20_001)
    rest = (await client.get(path, params={"after": page["after"]})).json()
    assert rest == {"rejects": [{**answer["rejects"][2], "cells": ["late", "20000"]}], "after": None}
    assert (await client.get("/v1/contacts/import/999/rejects")).status_code == 404
    again = (await client.post("/v1/contacts/import", files={"file": ("people.csv", content)})).json()
    assert (again["state"], len(again["rejects"])) == ("already", 3)
    form = {"again": "true"}
    again = (await client.post("/v1/contacts/import", data=form, files={"file": ("people.csv", content)})).json()
    assert (again["state"], len(again["rejects"])) == ("finished", 3)
    dry = {"dry_run": "true"}
    checked = (await client.post("/v1/contacts/import", data=dry, files={"file": ("people.csv", content)})).json()
    assert (checked["id"], [one["line"] for one in checked["rejects"]]) == (None, [12, 20_001, 20_002])


async def test_rejects_are_kept_for_a_week_and_go_with_the_erased(
    client: httpx.AsyncClient, database: Database, settings: Settings
) -> None:
    content = "email,age\nanna@x.com,31\n Anna@X.com,old\nb@x.com,older\n"
    form = {"types": '{"age": "number"}'}
    made = (await client.post("/v1/contacts/import", data=form, files={"file": ("a.csv", content)})).json()
    assert made["rejected"] == 2
    assert (await client.delete("/v1/contacts/email:anna@x.com")).status_code == 204
    assert await holding(database, "anna@x.com") == []
    path = f"/v1/contacts/import/{made['id']}/rejects"
    assert [one["line"] for one in (await client.get(path)).json()["rejects"]] == [4]
    async with database.begin() as connection:
        await connection.execute(text("update import_reject set noted_at = now() - interval '8 days'"))
    await maintain(database, settings)
    assert (await client.get(path)).json()["rejects"] == []


@pytest.mark.parametrize("encoding", ["hex", "undefined", "cp1251\0"])
async def test_an_upload_in_no_encoding_is_refused(client: httpx.AsyncClient, encoding: str) -> None:
    files = {"file": ("a.csv", "email\na@x.com\n")}
    answer = await client.post("/v1/contacts/import", data={"encoding": encoding}, files=files)
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "encoding")


async def test_the_document_names_every_field(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/contacts"]["post"]
    one = operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"][0]
    assert set(one["properties"]) >= {"identities", "attributes", "language", "time_zone", "add_tags", "consents"}
    assert "$ref" not in json.dumps(one)
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("ContactResults")
