"""Texts of a journey with values in them, such as `{{ contact.first_name }}`: checked before anybody is written to.

They are Jinja templates; `channels.sandbox` renders them. Here it only matters whether they could be.
"""

from collections.abc import Iterator
from typing import Any

from jinja2 import TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.documents import did_you_mean

ROOTS = ("contact", "event", "journey")
_FILTERS_OF_OURS = ("date", "track")
_environment = ImmutableSandboxedEnvironment(autoescape=False)
_environment.filters |= dict.fromkeys(_FILTERS_OF_OURS, str)
_FORBIDDEN = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


def problem_of(text: str) -> tuple[str, str] | None:
    """What is wrong with a text, and the mend; None if nothing is."""
    if "{" not in text:
        return None
    try:
        tree = _environment.parse(text)
        _environment.compile(tree)
    except TemplateError as error:
        return f"Jinja: {error}", "write {{ contact.first_name }}; see the Jinja template documentation"
    unknown = sorted(meta.find_undeclared_variables(tree) - {*ROOTS, *_environment.globals})
    if unknown:
        near = did_you_mean(unknown[0], ROOTS)
        mend = near if near.startswith("did") else f"write contact.{unknown[0]} or event.{unknown[0]}"
        return f"there is no value {unknown[0]!r}", mend
    if any(tree.find(kind) for kind in _FORBIDDEN):
        return "a text cannot read other files", "write it out"
    return None


def texts(data: Any) -> Iterator[str]:
    """Every text in plain data, keys left out."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from texts(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from texts(value)
