"""`kaskad events`."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import msgspec
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


ATTACK = "\x1b]0;owned\x07\x1b[2J\x9b1A\u202egpj.exe\n2026-01-01 order.paid"
STEERING = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u202e"} - {"\n"}


async def test_what_visitors_wrote_cannot_steer_the_terminal(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KASKAD_DATABASE", database.url)
    monkeypatch.setenv("KASKAD_DATA", str(tmp_path))
    intake = Intake(database, settings)
    properties = msgspec.json.encode({"title": ATTACK, ATTACK: {"deep": ATTACK}})
    await intake.take([incoming(1, identity=f"u{ATTACK}", properties=properties)], 1)
    await intake.close()
    for words in (("list",), ("tail", "--no-follow")):
        shown = await command(*words)
        assert "gpj.exe" in shown
        assert not STEERING & set(shown)
        assert len(shown.splitlines()) == 1, "nor write lines of its own"


async def test_events_are_printed_as_they_are_committed(database: Database, settings: Settings, tmp_path: Path) -> None:
    """`kaskad events tail` in a process of its own, until Ctrl-C."""
    intake = Intake(database, settings)
    await intake.take([incoming(1), incoming(2, name="cart.changed")], 1)
    environment = {**os.environ, "KASKAD_DATABASE": database.url, "KASKAD_DATA": str(tmp_path)}
    program = "from tracker.cli import app; app()"
    options = ("tail", "--json", "-n", "1", "--name", "page.viewed")
    tail = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *options), env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert tail.stdout is not None
    try:
        async with asyncio.timeout(60):
            printed = [json.loads(await tail.stdout.readline())]
            for number in (3, 4, 5):  # the second is of another name
                await intake.take([incoming(number, name="cart.changed" if number == 4 else "page.viewed")], 1)
                if number != 4:
                    printed.append(json.loads(await tail.stdout.readline()))
            tail.send_signal(signal.SIGINT)
            assert await tail.stdout.read() == b""
            assert await tail.wait() == 130
    finally:
        if tail.returncode is None:
            tail.kill()
            await tail.wait()
        await intake.close()
    assert [row["properties"]["n"] for row in printed] == [1, 3, 5]


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
