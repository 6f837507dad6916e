"""The commands as a person runs them, against a real database."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

import contacts
from core.database import Database
from examples import PORTAL

pytestmark = pytest.mark.usefixtures("email_provider")

_ROOT = Path(__file__).parents[2]
_MAIN = "from studio.cli import main; main()"


async def _kaskad(database: Database, tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _MAIN,
        *arguments,
        cwd=_ROOT,
        env=os.environ | {"KASKAD_DATABASE": database.url, "KASKAD_DATA": str(tmp_path), "COLUMNS": "160"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_push_list_show_pause_and_count(database: Database, tmp_path: Path) -> None:
    async with database.begin() as connection:
        await contacts.attributes.register(connection, {"first_name": "text"})
    code, out, err = await _kaskad(database, tmp_path, "push", str(PORTAL), "--json", "--hasten", "60")
    assert code == 0, err
    pushed = json.loads(out)
    assert {(one["kind"], one["name"]) for one in pushed} >= {
        ("journey", "unfinished-application"),
        ("segment", "readers"),
        ("template", "draft-saved"),
    }
    code, out, err = await _kaskad(database, tmp_path, "journey", "pause", "unfinished-application")
    assert code == 0, err
    code, out, _ = await _kaskad(database, tmp_path, "journey", "list", "--json")
    states = {one["name"]: (one["state"], one["version"]) for one in json.loads(out)}
    assert states["unfinished-application"] == ("paused", 1)
    assert states["welcome"] == ("active", 1)
    code, out, _ = await _kaskad(database, tmp_path, "journey", "show", "unfinished-application")
    assert code == 0
    assert "version 1, paused" in out
    assert "enter on application.saved status: draft" in out
    assert "waits are 60 times shorter" in out
    code, out, _ = await _kaskad(database, tmp_path, "segment", "count", "all", "--json")
    assert json.loads(out) == {"segment": "all", "contacts": 0}


async def test_what_is_refused_is_said_in_words(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("journey: x\nsteps:\n  - send: email\n    template: nope\n")
    code, _, err = await _kaskad(database, tmp_path, "journey", "publish", str(file))
    assert code == 1
    assert f"error: {file}:4:5: there is no template nope (publish it first)" in err
    assert "Traceback" not in err
    code, _, err = await _kaskad(database, tmp_path, "journey", "show", "nope")
    assert (code, err.strip()) == (1, "error: there is no journey nope")
