"""The reference of the language, as Markdown, from the JSON Schema of its models: `docs/language-reference.md`.

Nothing is said here that the models say: keys, types, defaults and descriptions are theirs, and the examples are those
of the kinds; a test loads and compiles them.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from journeys.language import json_schema
from journeys.references import unbuilt_words
from journeys.steps.registry import BY_KEY

Schema = dict[str, Any]

HEAD = "journey: example\nenter: {event: order.paid}\nsteps:\n"
"""What stands before an example to make it a whole journey."""

_INTRODUCTION = """\
# Reference of the journey language

Written by `kaskad journey reference` from the models that read journeys; `make reference` writes this page anew.
[The journey language](language.md) tells what the words mean together, and has the criteria and tests.
"""
_DEFINED_ELSEWHERE = {
    "Criteria": "criteria",
    "Where": "tests on the event",
    "Test": "test",
    "Steps": "steps",
    "Branch": "id of a step, or steps",
}
_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
_BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


def markdown() -> str:
    """The whole page: the journey, the steps with an example each, and the mappings that stand inside them."""
    schema = json_schema()
    definitions: dict[str, Schema] = schema["$defs"]
    steps = {kind: definitions[one.model.__name__] for kind, one in BY_KEY.items()}
    parts = _parts([schema, *steps.values()], definitions)
    blocks = [_INTRODUCTION, "## The journey\n", _table(schema), "## Steps\n"]
    for kind, model in steps.items():
        blocks += _step(kind, model)
    blocks.append("## Parts\n\nMappings that stand inside the journey and its steps.\n")
    for name in parts:
        blocks += [f"### {part_title(name)}\n", f"{definitions[name]['description']}\n", _table(definitions[name])]
    return "\n".join(blocks)


def part_title(model: str) -> str:
    """What people call a model that is no step: `UntilRule` is an until rule, `DateNode` a date."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", model.removesuffix("Node")).lower()


def _step(kind: str, model: Schema) -> Iterator[str]:
    yield f"### {kind}\n"
    yield f"{model['description']}\n"
    yield from (f"Cannot be published yet: {reason}.\n" for word, reason in unbuilt_words(kind).items() if word == "*")
    refused = [f"`{kind}: {word}` ({reason})" for word, reason in unbuilt_words(kind).items() if word != "*"]
    if refused:
        yield f"Cannot be published yet: {', '.join(refused)}.\n"
    yield _table(model)
    yield f"In BPMN: {_spoken(BY_KEY[kind].element)}; {BY_KEY[kind].drawn}.\n"
    yield f"```yaml\n{BY_KEY[kind].example}```\n"


def _spoken(element: str) -> str:
    """The name of a BPMN element as people say it: `send task`."""
    return re.sub(r"(?<!^)[A-Z]", lambda match: f" {match[0].lower()}", element)


def _table(model: Schema) -> str:
    required = model.get("required", ())
    rows = ["| key | type | required | default | meaning |", "|---|---|---|---|---|"]
    for key, schema in model["properties"].items():
        cells = (
            f"`{key}`",
            type_words(schema),
            "yes" if key in required else "",
            _default(schema),
            schema["description"],
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default(schema: Schema) -> str:
    """What the schema gives as default, where it is a value; nothing, nobody and empty go without saying."""
    value = schema.get("default")
    if value is None or isinstance(value, list | dict):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def type_words(schema: Schema) -> str:
    """A type of the schema in words, with links to the mappings that have a section of their own."""
    if "$comment" in schema:
        return str(schema["$comment"])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        title = part_title(name)
        return _DEFINED_ELSEWHERE.get(name) or f"[{title}](#{title.replace(' ', '-')})"
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema.get("enum", [schema.get("const")]))
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        # An optional key may be left out, which the table says; null is worth a word only among values.
        told = [one for one in choices if one.get("type") != "null" or "default" not in schema]
        return " or ".join(dict.fromkeys(type_words(one) for one in told))
    return _plain_words(schema)


def _plain_words(schema: Schema) -> str:
    if schema.get("type") == "array":
        return f"list of {type_words(schema['items'])}"
    if schema.get("type") == "object":
        values = [*schema.get("patternProperties", {}).values()]
        if isinstance(schema.get("additionalProperties"), dict):
            values.append(schema["additionalProperties"])
        return "mapping to " + " or ".join(type_words(one) for one in values) if values else "mapping"
    # Every bound of the language is a whole number, also of keys that take fractions.
    bounds = [f"{words} {int(schema[bound]):,}" for bound, words in _BOUNDS.items() if bound in schema]
    return " ".join([_TYPES[schema["type"]] if "type" in schema else "anything", *bounds])


def _parts(schemas: list[Schema], definitions: dict[str, Schema]) -> list[str]:
    """The models that these schemas lead to and that are neither steps nor defined elsewhere, as they come up."""
    known = {kind.model.__name__ for kind in BY_KEY.values()} | _DEFINED_ELSEWHERE.keys()
    found: list[str] = []
    queue = list(schemas)
    for schema in queue:
        for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema.get("properties", {}))):
            if name not in known and name not in found:
                found.append(name)
                queue.append(definitions[name])
    return found
