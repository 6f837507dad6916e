"""The commands, as a person types them."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from channels import message_cli
from channels.cli import app
from channels.provider import Letter, Outcome, Receipt
from core.ids import message_id
from tests.channels.world import LETTER, World


@pytest.fixture(autouse=True)
def _installation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASKAD_DATABASE", world.database.url)
    monkeypatch.setenv("KASKAD_DATA", str(world.settings.data))


async def kaskad(*words: str) -> Result:
    """Run a command in a thread: it brings its own loop."""
    found = message_cli.app if words[0] == "message" else app
    return await asyncio.to_thread(lambda: CliRunner().invoke(found, list(words)))


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
        assert rendered.output.startswith("Hello Ann\n\n17 go (https://A.example/x?y=1&z=2)"), rendered.output
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
    rows = json.loads((await kaskad("message", "list", "--json")).output)["messages"]
    assert sorted((row["state"], row["reason"]) for row in rows) == [
        ("accepted", None), ("queued", None), ("skipped", "no_consent")
    ]  # fmt: skip
    only = json.loads((await kaskad("message", "list", "--state", "skipped", "--journey", "welcome", "--json")).output)[
        "messages"
    ]
    assert len(only) == 1
    shown = json.loads((await kaskad("message", "show", only[0]["id"], "--json")).output)
    assert (shown["reason"], shown["template"], shown["provider"]) == ("no_consent", "letter", None)
    assert "has not agreed" in (await kaskad("message", "show", only[0]["id"])).output
    accepted = next(row["id"] for row in rows if row["state"] == "accepted")
    assert "<p>" in (await kaskad("message", "show", accepted, "--html")).output
    for words in (("retry", accepted), ("resolve", accepted, "--sent"), ("resolve", accepted)):
        assert (await kaskad("message", *words)).exit_code == 1
    unknown = await kaskad("message", "list", "--state", "lost")
    assert (unknown.exit_code, "there are queued" in unknown.output) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [(("resolve", "--not-sent"), "failed"), (("resolve", "--sent"), "accepted"), (("retry",), "queued")],
)
async def test_what_is_decided_by_hand_is_told_as_json(
    world: World, at: datetime, words: tuple[str, ...], said: str
) -> None:
    async def lose(letters: Sequence[Letter]) -> list[Receipt]:
        return [Receipt(Outcome.UNKNOWN, reason="hung up")] * len(letters)

    world.recorder.behaviour = lose
    items = await world.enroll(1)
    await world.prepare(items, at)
    await world.deliver(items, at)
    number = str(message_id(items[0].enrollment_id, 1))
    done = await kaskad("message", words[0], number, *words[1:], "--by", "anna", "--why", "asked them", "--json")
    assert json.loads(done.output) == {"id": number, "state": said, "by": "anna", "why": "asked them"}
    shown = json.loads((await kaskad("message", "show", number, "--json")).output)
    assert shown["state"] == said
