"""Reports over the API and on the command line."""

import csv
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import insert, text

from core import access
from core.clock import now
from core.database import Database
from core.errors import InvalidInput, Unavailable
from core.ids import message_id
from core.schema.messages import message
from core.settings import Settings
from reports.asking import read
from reports.counting import count
from reports.dimensions.registry import DIMENSIONS
from reports.measures.registry import MEASURES
from studio.api import create_app


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def _messages(database: Database) -> None:
    """Three messages of two purposes, a minute old; one purpose looks like a formula."""
    rows = [
        {
            "id": message_id(number, 1), "created_at": now() - timedelta(minutes=1), "contact_id": 1, "state": 50,
            "channel": "email", "purpose": purpose, "opened_at": now() if number == 1 else None,
        }
        for number, purpose in enumerate(["news", "news", "=1+1"])
    ]  # fmt: skip
    async with database.begin() as connection:
        await connection.execute(insert(message), rows)


@pytest_asyncio.fixture(loop_scope="session")
async def client(database: Database, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(settings, database))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as one:
        yield one


async def _key(database: Database, scope: str) -> dict[str, str]:
    async with database.begin() as connection:
        return {"Authorization": f"Bearer {await access.create(connection, 'test', [scope])}"}


async def test_the_api_counts(database: Database, client: httpx.AsyncClient) -> None:
    key = await _key(database, "reports:read")
    asked = {"measure": ["sent", "open-rate"], "by": ["purpose", "day"], "since": "1d", "time_zone": "Asia/Tokyo"}
    found = (await client.get("/v1/report", params=asked, headers=key)).json()
    assert [(row["purpose"], row["sent"], row["open-rate"]) for row in found["rows"]] == [
        ("=1+1", 1, 0),
        ("news", 2, 0.5),
    ]
    assert [column["slug"] for column in found["columns"]] == ["purpose", "day", "sent", "open-rate"]
    assert (found["time_zone"], found["truncated"]) == ("Asia/Tokyo", False)
    short = (await client.get("/v1/report", params=asked | {"limit": 1}, headers=key)).json()
    assert (len(short["rows"]), short["truncated"]) == (1, True)
    listed = (await client.get("/v1/report/measures", headers=key)).json()
    assert [one["measure"] for one in listed["measures"]] == [one.slug for one in MEASURES]
    assert [one["dimension"] for one in listed["dimensions"]] == [one.slug for one in DIMENSIONS]


@pytest.mark.parametrize("path", ["/v1/report?measure=sent", "/v1/report/measures"])
async def test_the_api_asks_for_the_scope(database: Database, client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 401
    assert (await client.get(path, headers=await _key(database, "messages:read"))).status_code == 403


async def test_the_api_says_all_that_is_wrong(database: Database, client: httpx.AsyncClient) -> None:
    key = await _key(database, "reports:read")
    answer = await client.get("/v1/report", params={"measure": "snet", "by": "dya"}, headers=key)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [(one["path"], one["mend"]) for one in answer.json()["errors"]] == [
        ("measure", "did you mean sent?"),
        ("by", "did you mean day?"),
    ]
    nobody = await client.get("/v1/report", params={"measure": "sent", "journey": "x"}, headers=key)
    assert (nobody.status_code, nobody.json()["errors"][0]["path"]) == (422, "journey")


async def test_a_report_that_takes_too_long_is_given_up(database: Database, settings: Settings) -> None:
    wanted = read(settings, now(), measures=["sent"], journeys=[])
    async with database.begin() as holder:
        await holder.execute(text("lock table message in access exclusive mode"))
        with pytest.raises(Unavailable, match="longer than 1 s"):
            async with database.begin() as connection:
                await count(connection, wanted, 1)


async def test_a_journey_that_does_not_exist_is_named(database: Database, settings: Settings) -> None:
    async with database.begin() as connection:
        with pytest.raises(InvalidInput, match="there is no journey x"):
            await count(connection, read(settings, now(), measures=["sent"], journeys=["x"]), 30)


def _kaskad(database: Database, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "studio.cli", "report", *arguments],
        env={"KASKAD_DATABASE": database.url, "KASKAD_DATA": str(folder / "data"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_the_command_prints_a_table_json_and_csv(database: Database, tmp_path: Path) -> None:
    asked = ("show", "--measure", "sent", "--measure", "open-rate", "--by", "purpose", "--since", "1d")
    table = _kaskad(database, tmp_path, *asked).stdout
    lines = [line for line in table.splitlines() if "news" in line or "=1+1" in line]
    assert ["50.0%" in line for line in lines] == [False, True]
    assert [line.count("█") for line in lines] == [12, 24]
    assert [row["sent"] for row in _json(_kaskad(database, tmp_path, *asked, "--json"))["rows"]] == [1, 2]
    file = tmp_path / "report.csv"
    assert _json(_kaskad(database, tmp_path, *asked, "--csv", str(file), "--json"))["rows"] == 2
    with file.open(newline="") as written:
        assert list(csv.reader(written)) == [
            ["purpose", "sent", "open-rate"],
            ["'=1+1", "1", "0.0"],
            ["news", "2", "0.5"],
        ]


async def test_the_command_lists_what_there_is_and_refuses_in_words(database: Database, tmp_path: Path) -> None:
    listed = _json(_kaskad(database, tmp_path, "measures", "--json"))
    assert {one["measure"]: one["by"] for one in listed["measures"]}["entries"] == ["journey", "day"]
    assert "open-rate" in _kaskad(database, tmp_path, "measures").stdout
    wrong = _kaskad(database, tmp_path, "show", "--measure", "snet")
    assert (wrong.returncode, "did you mean sent?" in wrong.stderr, "Traceback" in wrong.stderr) == (1, True, False)
