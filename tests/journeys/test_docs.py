"""The examples in docs/language.md load, and its tables name every word there is."""

import re
from pathlib import Path

import pytest

import journeys
from journeys.language import STEPS, Enter
from segments import store
from segments.comparison import OPERATORS
from segments.criteria.message import STATES as MESSAGE_STATES
from segments.criteria.registry import BY_KEY

_PAGE = (Path(__file__).parents[2] / "docs" / "language.md").read_text()
_BLOCKS = re.findall(r"^```yaml (\w+)\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("kind", "text"), _BLOCKS, ids=lambda part: str(part).splitlines()[0])
def test_an_example_loads(kind: str, text: str) -> None:
    if kind == "journey":
        assert journeys.compile(journeys.load(text, "docs/language.md")).steps
    else:
        assert store.parse(text, "docs/language.md").name


def test_there_are_examples_of_both() -> None:
    assert {kind for kind, _ in _BLOCKS} == {"journey", "segment"}
    assert _PAGE.count("```yaml") == len(_BLOCKS)


def test_every_word_is_explained() -> None:
    keys = [field.alias or name for name, field in Enter.model_fields.items()]
    words = [*STEPS, *OPERATORS, *BY_KEY, *MESSAGE_STATES, *keys]
    assert [word for word in words if not re.search(rf"`[^`\n]*\b{re.escape(word)}\b[^`\n]*`", _PAGE)] == []
