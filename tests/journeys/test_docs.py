"""The examples in docs/language.md load, and its tables name every word there is."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

import journeys
from journeys import language
from journeys.language import Enter
from journeys.steps import registry, split, wait
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
    words = [*registry.BY_KEY, *OPERATORS, *BY_KEY, *MESSAGE_STATES, *keys]
    assert [word for word in words if not re.search(rf"`[^`\n]*\b{re.escape(word)}\b[^`\n]*`", _PAGE)] == []


def test_every_key_of_every_step_and_of_the_journey_is_explained() -> None:
    models: list[type[BaseModel]] = [
        *(kind.model for kind in registry.KINDS),
        language.Journey,
        wait.DateNode,
        wait.WindowNode,
        split.WinnerNode,
    ]
    models += [language.LimitsNode, language.ConversionNode, wait.UntilRule]
    keys = {field.alias or name for model in models for name, field in model.model_fields.items()}
    assert sorted(key for key in keys if not re.search(rf"\b{re.escape(key)}\b", _PAGE)) == []


def test_every_step_has_an_example() -> None:
    text = "\n".join(block for kind, block in _BLOCKS if kind == "journey")
    unbuilt = {"show", "hide"}  # no example of what cannot be published
    assert [
        kind
        for kind in registry.BY_KEY
        if kind not in unbuilt and not re.search(rf"[-{{] ?(?:id: \S+, )?{kind}\b", text)
    ] == []
