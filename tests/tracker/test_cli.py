"""`kaskad events`."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.database import Database
from core.settings import Settings
from tests.tracker.test_ingest import incoming
from tracker import Intake
from tracker.cli import app


async def command(*arguments: str) -> str:
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


async def test_the_log_is_printed_and_counted(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KASKAD_DATABASE", database.url)
    monkeypatch.setenv("KASKAD_DATA", str(tmp_path))
    assert "no events yet" in await command("count")
    intake = Intake(database, settings)
    await intake.take([incoming(n, name="page.viewed" if n % 3 else "cart.changed") for n in range(9)], 1)
    await intake.close()
    tail = await command("tail", "--no-follow", "--json", "-n", "4")
    assert [json.loads(line)["properties"]["n"] for line in tail.splitlines()] == [5, 6, 7, 8]
    named = await command("tail", "--no-follow", "--json", "--name", "cart.changed")
    assert [json.loads(line)["properties"]["n"] for line in named.splitlines()] == [0, 3, 6]
    contact = json.loads(named.splitlines()[0])["contact_id"]
    assert len((await command("tail", "--no-follow", "--json", "--contact", str(contact))).splitlines()) == 1
    assert "cart.changed" in await command("tail", "--no-follow")
    found = json.loads(await command("count", "--json"))
    assert [(row["event"], row["events"]) for row in found] == [("page.viewed", 6), ("cart.changed", 3)]
