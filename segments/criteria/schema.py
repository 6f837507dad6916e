"""Criteria as JSON Schema, so that editors complete and check them."""

from collections.abc import Iterable
from typing import Any

from segments.comparison import OPERATORS
from segments.criteria.registry import FAMILIES

_SCALAR = {"type": ["string", "number", "boolean"]}

_OR_NAME: dict[str, Any] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Criteria"}]}
_NAMED: dict[str, Any] = {"anyOf": [_OR_NAME, {"type": "array", "items": _OR_NAME, "minItems": 1}]}


def _test(operators: Iterable[str]) -> dict[str, Any]:
    return {
        "description": "A value, a list of values (one of them), or operators",
        "anyOf": [
            _SCALAR,
            {"type": "array", "items": _SCALAR, "minItems": 1},
            {
                "type": "object",
                "properties": {operator: {} for operator in operators},
                "additionalProperties": False,
                "minProperties": 1,
            },
        ],
    }


def _properties(test: str) -> dict[str, Any]:
    return {
        "description": "Tests on the properties of the event",
        "type": "object",
        "minProperties": 1,
        "patternProperties": {"^event\\..+": {"$ref": f"#/$defs/{test}"}},
    }


def json_schema(*, in_journey: bool = False) -> dict[str, Any]:
    """Definitions to put under `$defs`: `Criteria`, `Test` for the right side of a comparison, and `Where` for what a
    journey hears: events that can be compared with the one that began it (`same`), as its criteria can."""
    criteria = {"$ref": "#/$defs/Criteria"}
    keys = {key: family.SCHEMA for family in FAMILIES for key in family.KEYS}
    return {
        "Test": _test(OPERATORS),
        "Correlated": _test((*OPERATORS, "same")),
        "Criteria": {
            "description": "Tests on a contact; several keys must all hold",
            "type": "object",
            "minProperties": 1,
            "properties": {
                "all": {"type": "array", "items": criteria, "minItems": 1},
                "any": {"type": "array", "items": criteria, "minItems": 1},
                "none": {"type": "array", "items": criteria, "minItems": 1},
                "not": criteria,
                "include": _NAMED,
                "exclude": _NAMED,
                **keys,
            },
            "patternProperties": {
                "^contact\\.[A-Za-z_][A-Za-z0-9_-]*$": {},
                "^company\\.[A-Za-z_][A-Za-z0-9_-]*$": {"$ref": "#/$defs/Test"},
            },
            "additionalProperties": False,
        },
        "Properties": _properties("Correlated" if in_journey else "Test"),
        "Where": _properties("Correlated"),
    }
