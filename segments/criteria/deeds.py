"""Rows of the event log, as the criteria over events, pages, forms and links see them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement

from core.schema.events import event
from segments import eventfilter, facts
from segments.criteria.base import Context


def named(names: Sequence[str], table: Any = event) -> ColumnElement[bool]:
    """That an event has one of the names."""
    numbers = [facts.event_name(name) for name in names]
    column: ColumnElement[Any] = table.c.name_id
    return column == numbers[0] if len(numbers) == 1 else column.in_(numbers)


def conditions(names: Sequence[str], where: Mapping[str, Any], table: Any = event) -> list[ColumnElement[bool]]:
    """That an event has one of the names and passes the tests on its properties."""
    found = [named(names, table)]
    if where:
        found.append(eventfilter.clause(where, table.c.properties))
    return found


def read_where(value: dict[str, Any], key: str, context: Context) -> dict[str, Any]:
    """Tests on properties, as written under a key (`where`); none if it is not there."""
    if key not in value:
        return {}
    return eventfilter.parse(value[key], (*context.path, key), context.problems, correlated=context.in_journey)


def pattern(test: Any) -> Any:
    """A text with * in it stands for all texts that have anything in its place; other tests stay as they are."""
    if not isinstance(test, str) or "*" not in test:
        return test
    escaped = test.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return {"like": escaped.replace("*", "%")}
