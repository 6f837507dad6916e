"""The journey language, the plan it compiles to, and the machine that moves contacts over a plan.

`plan` and `machine` are used inside Temporal workflows; what needs YAML or the database is imported when asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from journeys.compiler import compile  # noqa: A004 - what it does; callers write journeys.compile
    from journeys.language import Journey, json_schema
    from journeys.loader import load

__all__ = ["Journey", "compile", "json_schema", "load"]

_HOMES = {
    "Journey": "journeys.language",
    "compile": "journeys.compiler",
    "json_schema": "journeys.language",
    "load": "journeys.loader",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'journeys' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - see the docstring

    return getattr(import_module(_HOMES[name]), name)
