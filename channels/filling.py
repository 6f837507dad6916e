"""Texts with values in them, such as the body of a call: filled in the templates' sandbox."""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from jinja2 import Template
from jinja2.environment import TemplateExpression
from jinja2.runtime import Undefined

from channels.sandbox import RENDER_ERRORS, MissingValue, Sandbox

_EXPRESSION = re.compile(r"\{\{((?:(?!\}\}|\{\{).)*)\}\}", re.DOTALL)
_BREAKS = re.compile(r"[\x00-\x1f\x7f]+")
_sandbox = Sandbox(autoescape=False)
_in_urls = Sandbox(autoescape=False)
_in_urls.finalize = lambda value: quote(str(value), safe="")


class Unfilled(Exception):
    """A text needs a value that is not there, or cannot be filled with the values there are."""


def fill(text: str, known: Mapping[str, Any]) -> str:
    """A text with its values.

    Raises:
        Unfilled: it cannot be filled.
    """
    return _filled(_template(text), known) if "{" in text else text


def fill_header(text: str, known: Mapping[str, Any]) -> str:
    """A header's value: whatever the values hold, no line breaks and nothing but Latin-1."""
    return _BREAKS.sub(" ", fill(text, known)).encode("latin-1", "replace").decode("latin-1")


def fill_url(text: str, known: Mapping[str, Any]) -> str:
    """An address; values are escaped, so that none of them makes another path or host of it."""
    return _filled(_url_template(text), known) if "{" in text else text


def fill_data(data: Any, known: Mapping[str, Any]) -> Any:
    """Plain data with its texts filled. A text that is one expression keeps the type of its value."""
    if isinstance(data, str):
        whole = _EXPRESSION.fullmatch(data.strip())
        return _value(whole[1], known) if whole else fill(data, known)
    if isinstance(data, dict):
        return {key: fill_data(value, known) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [fill_data(value, known) for value in data]
    return data


def _value(expression: str, known: Mapping[str, Any]) -> Any:
    try:
        found = _expression(expression)(**known)
        if isinstance(found, Undefined):
            str(found)  # raises, naming the value
        if isinstance(found, str | int | float | bool | None):
            return found
        return json.loads(json.dumps(found))
    except MissingValue as error:
        raise Unfilled(f"missing value: {error}") from None
    except RENDER_ERRORS as error:
        raise Unfilled(f"cannot be filled: {type(error).__name__}") from None


def _filled(template: Template, known: Mapping[str, Any]) -> str:
    try:
        return template.render(known)
    except MissingValue as error:
        raise Unfilled(f"missing value: {error}") from None
    except RENDER_ERRORS as error:
        raise Unfilled(f"cannot be filled: {type(error).__name__}") from None


@lru_cache(maxsize=1024)
def _template(text: str) -> Template:
    return _sandbox.from_string(text)


@lru_cache(maxsize=1024)
def _url_template(text: str) -> Template:
    return _in_urls.from_string(text)


@lru_cache(maxsize=1024)
def _expression(text: str) -> TemplateExpression:
    return _sandbox.compile_expression(text, undefined_to_none=False)
