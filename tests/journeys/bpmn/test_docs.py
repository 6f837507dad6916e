"""docs/bpmn.md says what the code does."""

from pathlib import Path

from journeys.bpmn import markup
from journeys.bpmn.diagram import NAMESPACE

_PAGE = (Path(__file__).parents[3] / "docs" / "bpmn.md").read_text()


def test_names_and_limits_are_those_of_the_code() -> None:
    assert NAMESPACE in _PAGE
    assert f"{markup.SIZE_LIMIT >> 20} MB, {markup.ELEMENT_LIMIT:,} elements and {markup.DEPTH_LIMIT} levels" in _PAGE
