"""The reference page equals what the models say, and its examples work."""

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from typer.testing import CliRunner

import journeys
from journeys import cli, reference, references
from journeys.language import Journey
from journeys.steps.registry import BY_KEY
from journeys.steps.send import SendStep

_PAGE = Path(__file__).parents[2] / "docs" / "language-reference.md"
_SCHEMA = Draft202012Validator(journeys.json_schema())


def _journey(kind: str) -> Journey:
    steps = "".join(f"  {line}" for line in BY_KEY[kind].example.splitlines(keepends=True))
    return journeys.load(reference.HEAD + steps, f"example of {kind}")


def test_the_page_is_what_the_models_say() -> None:
    assert _PAGE.read_text() == reference.markdown(), "the models have changed: make reference"


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(cli.app, ["reference"])
    assert (result.exit_code, result.output) == (0, reference.markdown())


def test_the_page_follows_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    before = reference.markdown()
    schema = journeys.json_schema()
    schema["$defs"]["SendStep"]["properties"]["colour"] = {"type": "string", "description": "Of the ink"}
    monkeypatch.setattr(reference, "json_schema", lambda: schema)
    added = [line for line in reference.markdown().splitlines() if line not in before.splitlines()]
    assert added == ["| `colour` | text |  |  | Of the ink |"]


@pytest.mark.parametrize("kind", BY_KEY)
def test_an_example_loads_and_compiles(kind: str) -> None:
    journey = _journey(kind)
    _SCHEMA.validate(journey.document.data)
    assert any(type(step) is BY_KEY[kind].model for _, step in references.steps_of(journey))
    assert journeys.compile(journey).steps


@pytest.mark.parametrize("kind", BY_KEY)
def test_what_publishing_refuses_is_said(kind: str) -> None:
    refused = {said[1] for _, step in references.steps_of(_journey(kind)) if (said := references.unbuilt(step))}
    assert bool(refused) == (kind in {"show", "hide"})
    section = reference.markdown().split(f"\n### {kind}\n")[1].split("\n### ")[0]
    assert all(f"Cannot be published yet: {reason}." in section for reason in refused)
    assert all(reason in section for reason in references.unbuilt_words(kind).values())


def test_a_channel_that_is_not_there_is_unbuilt() -> None:
    assert references.unbuilt(SendStep(send="email", template="x")) is None
    said = references.unbuilt(SendStep(send="sms", template="x"))
    assert said is not None and said[:2] == ("send", "the channel sms is not configured yet")


def test_every_key_is_described() -> None:
    models: list[dict[str, Any]] = [journeys.json_schema(), *journeys.json_schema()["$defs"].values()]
    keys = [(model.get("title"), key, one) for model in models for key, one in model.get("properties", {}).items()]
    own = [(title, key) for title, key, one in keys if title and not one.get("description")]
    assert own == []


def test_links_lead_somewhere() -> None:
    page = reference.markdown()
    titles = re.findall(r"^### (.+)$", page, re.MULTILINE)
    assert len(titles) == len(set(titles))
    assert {link.replace("-", " ") for link in re.findall(r"\(#([\w-]+)\)", page)} <= set(titles)
