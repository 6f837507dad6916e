"""What we export is BPMN 2.0: to the reader of bpmn.io and Camunda Modeler, and to the standard's own schema."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import journeys
from examples import FOLDERS
from journeys import bpmn
from tests.journeys.bpmn.samples import EVERY_KIND
from tests.peers import missing_peer, needs_peer

_TOOLS = Path(__file__).parents[2] / "bpmn"
_JOURNEYS = {file.stem: file.read_text() for folder in FOLDERS for file in sorted(folder.glob("journeys/*.yaml"))} | {
    "every-kind": EVERY_KIND
}


@pytest.fixture(scope="module")
def drawings() -> dict[str, str]:
    return {name: bpmn.export(journeys.load(text)) for name, text in _JOURNEYS.items()}


@pytest.fixture(scope="module")
def tools() -> Path:
    """The folder where the reader is installed."""
    needs_peer("node", "nodejs")
    if not (_TOOLS / "node_modules" / "bpmn-moddle").is_dir():
        missing_peer("needs bpmn-moddle (npm ci --ignore-scripts in tests/bpmn)")
    return _TOOLS


@pytest.fixture(scope="module")
def found(drawings: dict[str, str], tools: Path) -> Any:
    """What bpmn-moddle makes of the drawings, by name."""
    node = needs_peer("node", "nodejs")
    done = subprocess.run(
        [node, "check.mjs"],
        cwd=tools,
        input=json.dumps(drawings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", _JOURNEYS)
def test_it_opens_without_warnings_and_everything_is_drawn(found: Any, drawings: dict[str, str], name: str) -> None:
    assert found[name]["warnings"] == []
    drawn = {key: kind for kind, key in found[name]["drawn"]}
    for element in found[name]["elements"]:
        flow = element["type"] == "bpmn:SequenceFlow"
        assert drawn[element["id"]] == ("bpmndi:BPMNEdge" if flow else "bpmndi:BPMNShape")


@pytest.mark.parametrize("name", _JOURNEYS)
def test_a_modeler_that_saves_it_again_loses_nothing(found: Any, name: str) -> None:
    saved = bpmn.read(found[name]["again"].encode(), "saved.bpmn")
    assert journeys.compile(journeys.load(saved.text)) == journeys.compile(journeys.load(_JOURNEYS[name]))


def test_every_kind_is_the_standard_element(found: Any) -> None:
    elements = {one["id"]: one for one in found["every-kind"]["elements"]}
    journey = journeys.load(EVERY_KIND)
    seen = set()
    for step in journeys.compile(journey).steps:
        key = f"Step_{step.id}"
        if key in elements:
            seen.add(elements[key]["type"])
    assert seen == {
        *("bpmn:SendTask", "bpmn:ServiceTask", "bpmn:UserTask", "bpmn:CallActivity", "bpmn:EndEvent"),
        *("bpmn:ExclusiveGateway", "bpmn:ParallelGateway", "bpmn:EventBasedGateway", "bpmn:IntermediateCatchEvent"),
    }
    events = {(one["type"], event) for one in elements.values() for event in one["events"]}
    assert events == {
        ("bpmn:StartEvent", "bpmn:MessageEventDefinition"),
        ("bpmn:StartEvent", "bpmn:ConditionalEventDefinition"),
        ("bpmn:IntermediateCatchEvent", "bpmn:MessageEventDefinition"),
        ("bpmn:IntermediateCatchEvent", "bpmn:ConditionalEventDefinition"),
        ("bpmn:IntermediateCatchEvent", "bpmn:TimerEventDefinition"),
        ("bpmn:BoundaryEvent", "bpmn:TimerEventDefinition"),
        ("bpmn:BoundaryEvent", "bpmn:ErrorEventDefinition"),
    }
    assert elements["Goal_1"]["type"] == "bpmn:SubProcess"


def test_the_schema_of_the_standard_holds(drawings: dict[str, str], tools: Path, tmp_path: Path) -> None:
    xmllint = needs_peer("xmllint", "libxml2-utils")
    schema = tools / "node_modules" / "bpmn-moddle" / "resources" / "bpmn" / "xsd" / "BPMN20.xsd"
    files = []
    for name, drawing in drawings.items():
        files.append(tmp_path / f"{name}.bpmn")
        files[-1].write_text(drawing)
    done = subprocess.run(
        [xmllint, "--nonet", "--noout", "--schema", schema, *files],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
