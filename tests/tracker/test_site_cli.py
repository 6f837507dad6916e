"""`kaskad site`."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.database import Database
from tracker import script
from tracker.site_cli import app


async def command(*arguments: str, fails: bool = False) -> str:
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
    assert (result.exit_code != 0) == fails, result.output
    return result.output if fails else result.stdout


@pytest.fixture(autouse=True)
def _installation(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KASKAD_DATABASE", database.url)
    monkeypatch.setenv("KASKAD_DATA", str(tmp_path))
    monkeypatch.setenv("KASKAD_BASE_URL", "https://kaskad.example")


async def test_a_sites_life() -> None:
    assert "No sites yet" in await command("list")
    tag = await command("add", "portal", "--origin", "https://Portal.example/", "--origin", "https://*.portal.example")
    assert f'integrity="{script.bundle().integrity}"' in tag
    assert 'src="https://kaskad.example/k/s.js?v=' in tag and "data-endpoint" not in tag
    (key,) = (await command("key", "portal")).split()
    assert f'data-key="{key}"' in tag and key.startswith("ks_")
    new, old = (await command("key", "portal", "--new")).split()
    assert (old, new in await command("show", "portal")) == (key, True)
    left = json.loads(await command("key", "portal", "--revoke", old, "--json"))
    assert left == {"site": "portal", "keys": [new]}
    (row,) = json.loads(await command("list", "--json"))
    assert row["origins"] == ["https://portal.example", "https://*.portal.example"]
    changed = json.loads(
        await command(
            "set", "portal", "--endpoint-path", "/a/b", "--address", "truncate", "--internal", "10.0.0.0/8", "--json"
        )
    )
    assert (changed["endpoint"], changed["addresses"], changed["internal"]) == ("/a/b", "truncate", ["10.0.0.0/8"])
    assert changed["origins"] == row["origins"]
    shown = json.loads(await command("show", "portal", "--url", "https://t.portal.example/", "--json"))
    assert 'data-endpoint="https://t.portal.example/a/b"' in shown["tag"] and shown["hits"] == []
    assert row["identify"] == "signed"
    assert json.loads(await command("set", "portal", "--identify", "open", "--json"))["identify"] == "open"
    secret = (await command("secret", "portal")).strip()
    assert len(secret) == 64 and secret not in await command("show", "portal", "--json")
    assert (await command("secret", "portal", "--new")).strip() not in {secret, ""}
    await command("remove", "portal", "--yes")
    assert "there is no site portal" in await command("show", "portal", fails=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Bad Name", "--origin", "https://a.example"], ["name: 'Bad Name' is no name"]),
        (["a", "--origin", "a.example"], ["origin: 'a.example' is no origin"]),
        (["a", "--origin", "*", "--script-path", "/v1/x"], ["script: '/v1/x' belongs to the API"]),
        (
            ["a", "--origin", "*", "--script-path", "../x", "--internal", "300.1.1.1"],
            ["script:", "internal:", "2 problems"],
        ),
        (["a", "--origin", "*", "--script-path", "/a", "--endpoint-path", "/a"], ["one path"]),
        (["a", "--origin", "*", "--address", "sell"], ["drop, truncate, keep"]),
        (["a", "--origin", "*", "--identify", "guess"], ["signed, open"]),
    ],
)
async def test_what_cannot_be_is_said(arguments: list[str], words: list[str]) -> None:
    told = await command("add", *arguments, fails=True)
    assert all(word in told for word in words), told


async def test_two_sites_do_not_cross() -> None:
    await command("add", "a", "--origin", "*", "--script-path", "/x", "--endpoint-path", "/y")
    assert "there is a site a already" in await command("add", "a", "--origin", "*", fails=True)
    told = await command("add", "b", "--origin", "*", "--script-path", "/y", "--endpoint-path", "/z", fails=True)
    assert "the site a has its script" in told
