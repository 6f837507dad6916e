"""docs/bpmn.md says what the code does."""

import re
from pathlib import Path

from journeys.bpmn import markup
from journeys.bpmn.diagram import NAMESPACE
from journeys.bpmn.drawing import KINDS

_PAGE = (Path(__file__).parents[3] / "docs" / "bpmn.md").read_text()


def _spoken(tag: str) -> str:
    return re.sub(r"(?<!^)[A-Z]", lambda match: f" {match[0].lower()}", tag)


def test_the_table_is_that_of_the_code() -> None:
    rows = [f"| `{kind}` | {_spoken(shape.element)} | {shape.words} |" for kind, shape in KINDS.items()]
    assert "\n".join(["| step | element | how |", "|---|---|---|", *rows]) in _PAGE


def test_names_and_limits_are_those_of_the_code() -> None:
    assert NAMESPACE in _PAGE
    assert f"{markup.SIZE_LIMIT >> 20} MB, {markup.ELEMENT_LIMIT:,} elements and {markup.DEPTH_LIMIT} levels" in _PAGE
