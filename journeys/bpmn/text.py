"""Data of a journey as YAML in our dialect, as people write it: steps below each other, small mappings on a line."""

import re
from typing import Any

import yaml

from core import documents
from core.errors import InvalidInput

_WIDTH = 110


class _Flow(dict[str, Any]):
    """A mapping that fits on a line."""


class _Dumper(yaml.SafeDumper):
    """Quotes what our dialect would take for something else than a text, and nothing is said twice by reference."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own spelling of the registry
        None: [
            ("tag:yaml.org,2002:null", re.compile(r"(?:~|null|)\Z")),
            ("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)\Z")),
            ("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+\Z")),
            ("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+\.[0-9]+(?:e[-+]?[0-9]+)?\Z")),
        ]
    }

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists in mappings, too."""
        super().increase_indent(flow, False)


def _flow(dumper: _Dumper, data: _Flow) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)


_Dumper.add_representer(_Flow, _flow)


def as_yaml(journey: dict[str, Any], heading: str = "") -> str:
    """Write a journey.

    Args:
        journey: its data.
        heading: a comment for the first line.

    Raises:
        InvalidInput: it holds something that the dialect cannot express, such as a number of thirty digits.
    """
    folded = {key: value if key == "steps" else _folded(value, key) for key, value in journey.items()}
    folded["steps"] = [_step(step) for step in journey["steps"]]
    text = yaml.dump(
        folded, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=_WIDTH, default_flow_style=False
    )
    if documents.read(text).data != journey:
        raise InvalidInput(
            "this journey holds a value that cannot be written as YAML here, such as a very large number"
        )
    return (f"# {heading}\n" if heading else "") + text


def _step(step: Any) -> Any:
    if not isinstance(step, dict):
        return step
    return {key: _folded(value, key) for key, value in step.items()}


def _folded(value: Any, key: str) -> Any:
    """The value with its small mappings marked to be written on one line."""
    if isinstance(value, dict):
        small = not _has_steps(value) and len(str(value)) < _WIDTH - 30 and key != "enter"
        return _Flow(value) if small else {inner: _folded(one, inner) for inner, one in value.items()}
    if isinstance(value, list):
        return [_step(one) for one in value]
    return value


def _has_steps(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_steps(one) for one in value.values())
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)
