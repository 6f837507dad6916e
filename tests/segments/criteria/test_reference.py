"""The reference of criteria: written from the models, and every example of it true of Anna and of nobody like Boris."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

import segments
from core import documents
from core.database import Database
from segments import Run, criteria, examples, reference
from segments.criteria.parsing import TREE_KEYS
from segments.criteria.registry import BY_KEY
from segments.operands import OPERATORS
from tests.segments.criteria import world

_PAGE = Path(__file__).parents[3] / "docs" / "criteria-reference.md"
_SECTIONS = (*examples.CRITERIA, *examples.OPERATORS)
_EXAMPLES = [example for section in _SECTIONS for example, _ in section.examples]
_OF_RUNS = [example for example, _ in examples.SAME.examples]
_IN_JOURNEYS = Draft202012Validator(
    {"$ref": "#/$defs/Criteria", "$defs": criteria.json_schema(in_journey=True)},
)
_SCHEMA = Draft202012Validator({"$ref": "#/$defs/Criteria", "$defs": criteria.json_schema()})


def _data(example: str) -> Any:
    return documents.read(example).data


def test_the_page_is_what_the_models_say() -> None:
    assert _PAGE.read_text() == reference.markdown(), "the models or examples have changed: make reference"


async def test_every_example_holds_for_anna_and_not_for_boris(database: Database) -> None:
    async with database.begin() as connection:
        await world.build(connection)
    wrong = []
    for example in _EXAMPLES:
        parsed = criteria.parse(_data(example))
        async with database.begin() as connection:
            some = await segments.matching(connection, parsed, [world.ANNA, world.BORIS], world.NOW)
            everybody = await segments.page(connection, parsed, 0, 100, world.NOW)
            number = await segments.count(connection, parsed, world.NOW)
        if some != {world.ANNA} or {world.ANNA, world.BORIS} & set(everybody) != some or number != len(everybody):
            wrong.append((example, some, everybody, number))
    assert wrong == []


@pytest.mark.parametrize("example", _OF_RUNS)
async def test_every_example_of_journeys_holds_for_the_run_and_not_for_another(
    database: Database, example: str
) -> None:
    runs = [Run(1, world.ANNA, {"product": "a"}), Run(2, world.ANNA, {}), Run(3, world.BORIS, {"product": "a"})]
    async with database.begin() as connection:
        await world.build(connection)
        parsed = criteria.parse(_data(example), in_journey=True)
        assert await segments.matching_runs(connection, parsed, runs, world.NOW) == {1}
    _IN_JOURNEYS.validate(_data(example))
    assert not _SCHEMA.is_valid(_data(example))


@pytest.mark.parametrize("example", _EXAMPLES)
def test_the_json_schema_takes_every_example(example: str) -> None:
    _SCHEMA.validate(_data(example))
    assert criteria.parse(_data(example)).words()


def test_every_criterion_and_operator_has_an_example() -> None:
    keys = {key for section in _SECTIONS for key in section.keys}
    assert {*BY_KEY, *TREE_KEYS, *OPERATORS} <= keys
    for section in _SECTIONS:
        text = " ".join(example for example, _ in section.examples)
        assert [key for key in section.keys if f"{key}:" not in text and key not in {"all"}] == []
    assert len(keys) >= 60


def test_every_option_has_an_example() -> None:
    """Whatever the JSON Schema of a criterion offers stands in an example."""
    text = " ".join(_EXAMPLES)
    missing = [
        (key, option)
        for key, family in BY_KEY.items()
        for schema in (family.SCHEMA, *family.SCHEMA.get("anyOf", ()))
        for option in schema.get("properties", ())
        if f"{option}:" not in text
    ]
    assert missing == []
