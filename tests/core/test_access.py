"""API keys let their holders do what their scopes say, and nothing else."""

import asyncio
from pathlib import Path

import pytest
from fastapi import Depends, FastAPI

from core import access
from core.database import Database
from core.errors import InvalidInput, NotAllowed, NotFound, NotSignedIn


async def _make(database: Database, *scopes: str) -> str:
    async with database.begin() as connection:
        return await access.create(connection, "a test", scopes)


async def test_a_key_is_good_for_its_scopes_only(database: Database) -> None:
    key = await _make(database, "events:write")
    assert (await access.check(database, key, "events:write")).name == "a test"
    with pytest.raises(NotAllowed, match="not good for contacts:read, only for events:write"):
        await access.check(database, key, "contacts:read")


async def test_admin_is_good_for_everything(database: Database) -> None:
    key = await _make(database, "admin")
    for scope in access.SCOPES:
        assert await access.check(database, key, scope)


@pytest.mark.parametrize("key", [None, "", "kk_wrong", "\udcff no key"])
async def test_unknown_callers_are_told_so(database: Database, key: str | None) -> None:
    with pytest.raises(NotSignedIn):
        await access.check(database, key, "events:write")


async def test_a_revoked_key_stops_working(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "REMEMBERED_SECONDS", 0.0)
    key = await _make(database, "events:write")
    found = await access.check(database, key, "events:write")
    async with database.begin() as connection:
        await access.revoke(connection, found.id)
    with pytest.raises(NotSignedIn):
        await access.check(database, key, "events:write")
    async with database.begin() as connection:
        assert (await access.listing(connection))[0].revoked_at is not None
        with pytest.raises(NotFound):
            await access.revoke(connection, found.id)


async def test_many_calls_share_one_look_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await _make(database, "events:write")
    opened = 0
    begin = database.begin

    def counted() -> object:
        nonlocal opened
        opened += 1
        return begin()

    monkeypatch.setattr(database, "begin", counted)
    await asyncio.gather(*(access.check(database, key, "events:write") for _ in range(200)))
    assert opened == 1


@pytest.mark.parametrize("scopes", [(), ("events:write", "everything")])
async def test_a_key_needs_scopes_that_exist(database: Database, scopes: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="events:write"):
        await _make(database, *scopes)


async def test_the_key_itself_is_not_kept(database: Database) -> None:
    key = await _make(database, "admin")
    async with database.begin() as connection:
        rows = (await connection.exec_driver_sql("select api_key::text from api_key")).scalars().all()
    assert rows and not any(key in row for row in rows)


def test_the_guide_names_every_scope() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "running.md").read_text()
    assert [scope for scope in access.SCOPES if f"`{scope}`" not in guide] == []


def test_require_describes_itself_in_openapi() -> None:
    app = FastAPI()

    @app.get("/thing", dependencies=[Depends(access.require("contacts:read"))])
    def thing() -> None:
        """Nothing."""

    schema = app.openapi()
    assert schema["paths"]["/thing"]["get"]["security"] == [{"HTTPBearer": []}, {"APIKeyHeader": []}]
