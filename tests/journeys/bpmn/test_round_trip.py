"""YAML to BPMN and back: the same plan, ids, names and order."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

import journeys
from examples import FOLDERS
from journeys import bpmn
from journeys.language import Journey
from journeys.references import steps_of
from journeys.steps.registry import BY_KEY, kind_of
from tests.journeys.bpmn.samples import EVERY_KIND
from tests.journeys.bpmn.strategies import loaded, written_journeys

EXAMPLES = [file for folder in FOLDERS for file in sorted(folder.glob("journeys/*.yaml"))]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=written_journeys())
def test_the_plan_is_the_same_after_a_round_trip(text: str) -> None:
    journey = loaded(text)
    drawing = bpmn.export(journey)
    back = bpmn.read(drawing.encode(), "x.bpmn")
    assert back.left_out == ()
    again = journeys.load(back.text)
    assert journeys.compile(again) == journeys.compile(journey)
    assert bpmn.export(again) == drawing


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.stem))
def test_examples_come_back_as_they_are_written(file: Path) -> None:
    journey = journeys.load(file.read_bytes(), str(file))
    back = journeys.load(bpmn.read(bpmn.export(journey).encode()).text)
    assert back.document.data == journey.document.data
    assert list(back.document.data) == list(journey.document.data)
    assert journeys.compile(back) == journeys.compile(journey)


def test_every_kind_comes_back_as_it_is_written() -> None:
    journey = journeys.load(EVERY_KIND)
    assert {kind_of(step).key for _, step in steps_of(journey)} == BY_KEY.keys()
    assert journey.document.data.keys() == {field.alias or name for name, field in Journey.model_fields.items()}
    back = bpmn.read(bpmn.export(journey).encode())
    assert journeys.load(back.text).document.data == journey.document.data | {
        "goal": {"event": "order.returned", "outcome": "returned"}
    }
    assert back.journey == "every-kind"


def test_a_way_that_is_never_gone_is_kept() -> None:
    text = """\
journey: x
steps:
  - wait: forever
    until: {event: a, then: [{send: email, template: t}, end]}
  - goto: last
  - {id: between, send: email, template: t}
  - {wait: 1h}
  - {id: last, if: {contact.tags: a}, then: between}
"""
    journey = journeys.load(text)
    assert journeys.compile(journeys.load(bpmn.read(bpmn.export(journey).encode()).text)) == journeys.compile(journey)


@pytest.mark.parametrize(
    "steps",
    [
        # Nobody ever comes to what follows a wait for ever, and no flow leads there.
        "  - {id: a, wait: 1d}\n  - {wait: forever, until: {event: x}, then: [{tag: b}, end]}\n",
        # A `then` that no event falls back on.
        "  - {id: a, wait: 1d}\n  - {wait: 4h, until: {event: x, then: a}, then: a}\n  - end\n",
    ],
)
def test_what_no_flow_tells_is_kept(steps: str) -> None:
    journey = journeys.load(f"journey: x\nsteps:\n{steps}")
    back = journeys.load(bpmn.read(bpmn.export(journey).encode()).text)
    assert back.document.data == journey.document.data
    assert journeys.compile(back) == journeys.compile(journey)
