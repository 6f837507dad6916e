"""Histories of released versions go through the present workflow code without a difference.

A failure here means that cohorts which run now would break on this code: give the change a `workflow.patched`, or keep
the old order of commands. `python -m tests.replay.record tests/replay/vX.Y` records a new set at a release.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from core.payloads import data_converter
from engine.cohort import CohortWorkflow
from engine.scheduled import ScheduledBroadcast
from tests.replay.record import DIGESTS, digests

HERE = Path(__file__).parent
HISTORIES = sorted(HERE.glob("v*/*.json"))
STORIES = {
    *("reference", "paused", "branches", "scheduled", "moved", "ordered", "held", "left"),
    *("continued-before", "continued-after"),
}


def read(file: Path, old: str = "", new: str = "") -> WorkflowHistory:
    """A stored history; with something replaced, if asked for."""
    return WorkflowHistory.from_json(file.stem, file.read_text().replace(old, new) if old else file.read_text())


def replayer() -> Replayer:
    """The present code."""
    return Replayer(workflows=[CohortWorkflow, ScheduledBroadcast], data_converter=data_converter)


def test_every_version_has_every_story() -> None:
    assert HISTORIES
    for folder in HERE.glob("v*"):
        assert {file.stem for file in folder.glob("*.json")} >= STORIES, folder.name


@pytest.mark.parametrize("folder", sorted(HERE.glob("v*")), ids=lambda folder: folder.name)
def test_the_histories_of_a_version_stay_as_they_were_recorded(folder: Path) -> None:
    """Whoever records a version anew changes its digests too, for all to see: cohorts that run now may be lost."""
    assert digests(folder) == (folder / DIGESTS).read_text()


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: f"{file.parent.name}/{file.stem}")
async def test_history_replays(file: Path) -> None:
    await replayer().replay_workflow(read(file))


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_history_names_nobody(file: Path) -> None:
    """They are published with the code: ids only, and no machine's name."""
    text = file.read_text()
    assert "example.com" not in text
    assert {event.get("identity", "recorder") for event in _attributes(json.loads(text))} <= {
        "recorder",
        "history-service",
        "",
    }


def _attributes(history: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for event in history["events"] for value in event.values() if isinstance(value, dict)]


async def test_other_code_would_be_noticed() -> None:
    """The check itself: the same history with another activity where `prepare` was is refused."""
    file = next(file for file in HISTORIES if file.stem == "reference")
    with pytest.raises(workflow.NondeterminismError):
        await replayer().replay_workflow(read(file, '"prepare"', '"choose"'))
