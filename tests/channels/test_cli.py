"""The commands, as a person types them."""

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from channels.cli import app
from tests.channels.world import LETTER, World


@pytest.fixture(autouse=True)
def _installation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASKAD_DATABASE", world.database.url)
    monkeypatch.setenv("KASKAD_DATA", str(world.settings.data))


async def kaskad(*words: str) -> Result:
    """Run a command in a thread: it brings its own loop."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, list(words)))


async def test_providers_from_adding_to_removing(world: World) -> None:
    added = await kaskad("provider", "add", "spare", "smtps://bob:hunter2@mail.example", "--setting", "per_second=9")
    assert added.exit_code == 0, added.output
    assert "hunter2" not in added.output
    assert (await kaskad("provider", "pause", "spare")).exit_code == 0
    listed = await kaskad("provider", "list", "--json")
    assert "hunter2" not in listed.output
    assert [(one["name"], one["state"], one["url"]) for one in json.loads(listed.output)] == [
        ("main", "active", "test://…@host"),
        ("spare", "paused", "smtps://…@mail.example"),
    ]
    assert (await kaskad("provider", "test", "main")).exit_code == 0
    assert world.recorder.closed
    assert (await kaskad("provider", "remove", "spare")).exit_code == 0
    refused = await kaskad("provider", "resume", "spare")
    assert refused.exit_code == 1
    assert "there is no provider 'spare'" in refused.output


async def test_templates_from_publishing_to_rendering(world: World, tmp_path: Path) -> None:
    file = tmp_path / "letter.html"
    file.write_text(LETTER.replace("Hi", "Hello"))
    published = await kaskad("template", "publish", str(file), "--json")
    assert json.loads(published.output)["number"] == 2
    assert "unchanged since version 2" in (await kaskad("template", "publish", str(file))).output
    assert (await kaskad("template", "show", "letter")).output == file.read_text()
    assert json.loads((await kaskad("template", "list", "--json")).output)[0]["version"] == 2
    [item] = await world.enroll(1, first_name="Ann")
    [row] = await world.run("select contact_id from enrollment where id = :id", id=item.enrollment_id)
    for contact in (str(row.contact_id), f"email:c{row.contact_id}@example.com"):
        given = ["--contact", contact, "--event", '{"application_id": 17}']
        rendered = await kaskad("template", "render", "letter", *given)
        assert rendered.output.startswith("Hello Ann\n\n17 go (https://a.example/x?y=1&z=2)"), rendered.output
    wrong = await kaskad("template", "render", "letter", "--contact", "999999")
    assert (wrong.exit_code, "there is no contact 999999" in wrong.output) == (1, True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"---\ntemplate: x\nsubject: s\n---\n{{ nobody }}", "bad.html:5:1: there is no value"),
    ],
)
async def test_a_wrong_template_is_refused_with_its_place(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "bad.html"
    file.write_bytes(content)
    refused = await kaskad("template", "publish", str(file))
    assert refused.exit_code == 1
    assert words in refused.output


async def test_messages_are_listed_and_shown(world: World, at: datetime) -> None:
    items = [*await world.enroll(2), *await world.enroll(1, consent=None)]
    await world.prepare(items, at)
    await world.deliver(items[:1], at)
    rows = json.loads((await kaskad("message", "list", "--json")).output)
    assert sorted((row["state"], row["reason"]) for row in rows) == [
        ("accepted", None), ("queued", None), ("skipped", "no_consent")
    ]  # fmt: skip
    only = json.loads((await kaskad("message", "list", "--state", "skipped", "--journey", "welcome", "--json")).output)
    assert len(only) == 1
    shown = json.loads((await kaskad("message", "show", only[0]["id"], "--json")).output)
    assert (shown["reason"], shown["template"], shown["provider"]) == ("no_consent", "letter", None)
    unknown = await kaskad("message", "list", "--state", "lost")
    assert (unknown.exit_code, "there are queued" in unknown.output) == (1, True)
