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


async def test_past_events_are_imported_and_listed(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KASKAD_DATABASE", database.url)
    monkeypatch.setenv("KASKAD_DATA", str(tmp_path))
    file = tmp_path / "orders.csv"
    file.write_text("mail,when,value\nanna@x.com,2026-01-02 10:00,7\nboris@x.com,2026-01-02 11:00,8\nx,,\n")
    options = ("--event", "order.paid", "--map", "mail=email", "--map", "when=at", "--zone", "Europe/Moscow")
    told = await command("import", str(file), *options)
    assert "2 events stored" in told
    assert "1 rejected" in told
    assert "imported before" in await command("import", str(file), *options)
    shown = await command("list", "--contact", "email:anna@x.com")
    assert len(shown.splitlines()) == 1
    assert all(word in shown for word in ("order.paid", "anna@x.com", "value=7"))
    found = json.loads(await command("list", "--json", "--limit", "1"))
    assert [(row["who"], row["properties"]) for row in found] == [("email:boris@x.com", {"value": 8})]
    before = await command("list", "--json", "--before", str(found[0]["id"]))
    assert [row["who"] for row in json.loads(before)] == ["email:anna@x.com"]
    result = await asyncio.to_thread(CliRunner().invoke, app, ["import", str(file), "--map", "x"])
    assert result.exit_code == 2
