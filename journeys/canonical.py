"""A plan written out in one way only: steps and branches by their ids, criteria and events in full.

Two journeys mean the same when their plans are equal; this form shows people where they are not, and tells which step
of one version is which of another. Pure, and without any other package: `journeys.moving` needs it inside workflows.
"""

import json
from collections.abc import Mapping
from typing import Any

from journeys.plan import Plan

TARGETS = ("next", "otherwise", "missing")
"""Fields that hold the number of a step, wherever they stand in a step."""
_EFFECT = "data"
"""The field that holds what an effect is given, which names nothing of the plan."""

_UNWRITTEN = ("salt",)
"""Fields that nobody writes: they keep splits dealing alike from version to version."""


def step(plan: Plan, number: int) -> dict[str, Any]:
    """A step as plain data, with ids, criteria and events in the place of their numbers."""
    data: dict[str, Any] = _named(plan, plan.steps[number].model_dump(mode="json"))
    return data


def content(plan: Plan, number: int) -> dict[str, Any]:
    """What a step does, without its name and without where it leads."""
    data: dict[str, Any] = _bare(step(plan, number))
    return {key: value for key, value in data.items() if key not in {"id", *_UNWRITTEN}}


def text(plan: Plan) -> str:
    """The whole plan, a line a fact, for comparing by eye or by `diff`."""
    lines = [f"journey: {plan.journey}", f"name: {plan.title}"]
    lines += _lines({"enter": plan.entry.model_dump(mode="json", exclude_defaults=True)}, 0)
    known = {"journey", "title", "entry", "steps", "criteria", "subscriptions", "endings"}
    lines += _lines(plan.model_dump(mode="json", exclude=known, exclude_defaults=True), 0)
    for one in plan.subscriptions:
        if one.role in {"goal", "exit"}:
            lines += _lines({one.role: one.model_dump(mode="json", exclude={"role"}, exclude_defaults=True)}, 0)
    for ending in plan.endings.rules if plan.endings else ():
        lines += _lines({ending.role: {"when": plan.criteria[ending.criteria], "outcome": ending.outcome}}, 0)
    for number in range(len(plan.steps)):
        lines += ["", f"step {plan.steps[number].id}:"]
        lines += _lines({key: value for key, value in step(plan, number).items() if key not in {"id", *_UNWRITTEN}}, 1)
    return "\n".join(lines) + "\n"


def _named(plan: Plan, value: Any) -> Any:
    if isinstance(value, list):
        return [_named(plan, one) for one in value]
    if not isinstance(value, Mapping):
        return value
    return {key: _field(plan, key, one) for key, one in value.items()}


def _field(plan: Plan, key: str, value: Any) -> Any:
    if key == _EFFECT:
        return value
    if key in TARGETS and isinstance(value, int):
        return plan.steps[value].id
    if key in {"subscription", "watch_subscription"} and isinstance(value, int):
        return plan.subscriptions[value].filter.model_dump(mode="json")
    if key == "criteria" and isinstance(value, int):
        return plan.criteria[value]
    if key == "branches" and all(isinstance(one, list) for one in value):
        return [{"when": plan.criteria[number], "next": plan.steps[to].id} for number, to in value]
    return _named(plan, value)


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(one) for one in value]
    if isinstance(value, Mapping):
        return {key: one if key == _EFFECT else _bare(one) for key, one in value.items() if key not in TARGETS}
    return value


def _lines(value: Any, depth: int) -> list[str]:
    """Nested data as indented lines; what is empty or null says nothing and is left out."""
    indent = "  " * depth
    if isinstance(value, list):
        lines: list[str] = []
        for one in value:
            inner = _lines(one, depth + 1)
            lines += [f"{indent}- {inner[0].lstrip()}", *inner[1:]] if inner else []
        return lines
    if not isinstance(value, Mapping):
        return [f"{indent}{_scalar(value)}"]
    lines = []
    for key, one in sorted(value.items(), key=lambda item: (item[0] != "kind", item[0])):  # databases forget the order
        if one in (None, [], {}, ""):
            continue
        if isinstance(one, Mapping | list):
            lines += [f"{indent}{key}:", *_lines(one, depth + 1)]
        else:
            lines.append(f"{indent}{key}: {_scalar(one)}")
    return lines


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) and "\n" not in value else json.dumps(value, ensure_ascii=False)
