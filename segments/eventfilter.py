"""Tests on the properties of one event: `{event.status: draft}`, `{event.amount: {gte: 100}}`.

Written with the prefix `event.`, kept without it. `{same: application_id}` compares with a property of the event that
began the enrollment; where that is missing, nothing is the same. The router checks events in Python, criteria in SQL.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, ColumnElement, and_, func, true
from sqlalchemy.dialects.postgresql import JSONB

from core.clock import now as present
from core.documents import Path, pointer
from core.errors import Problem
from segments import comparison, facts
from segments.comparison import MISSING
from segments.operands import DATED

PREFIX = "event."
_TESTS_LIMIT = 50
_NAME_LIMIT = 200


def is_property(key: Any) -> bool:
    """Whether a key names a property of an event: `event.status`."""
    if not isinstance(key, str) or not key.startswith(PREFIX):
        return False
    return _is_name(key.removeprefix(PREFIX))


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _NAME_LIMIT and comparison.storable(name)


def parse(data: Any, path: Path, problems: list[Problem], *, correlated: bool = False) -> dict[str, Any]:
    """Read `where` as written; gives it with the prefixes taken off, fit for `matches` and `clause`.

    Args:
        data: the mapping under `where`.
        path: where it stands, for messages.
        problems: what is wrong is added here.
        correlated: whether `same` makes sense here, that is, inside a journey.
    """
    if not isinstance(data, Mapping) or not data:
        mend = "write where: {event.status: draft}"
        problems.append(Problem("tests on the event's properties are expected here", mend, path=pointer(path)))
        return {}
    if len(data) > _TESTS_LIMIT:
        problems.append(Problem(f"more than {_TESTS_LIMIT} tests", "", path=pointer(path)))
        return {}
    made = {}
    for key, test in data.items():
        name = str(key).removeprefix(PREFIX)
        if not is_property(key):
            mend = f"did you mean event.{name.rsplit('.', 1)[-1]}?"
            problems.append(Problem(f"{key} is not a property of the event", mend, path=pointer((*path, key))))
            continue
        made[name] = test
        _check(test, (*path, key), problems, correlated=correlated)
    return made


def _check(test: Any, path: Path, problems: list[Problem], *, correlated: bool) -> None:
    if isinstance(test, Mapping) and "same" in test:
        if not correlated:
            message = "same compares with the event that began a journey; there is none here"
            problems.append(Problem(message, "compare with a value", path=pointer(path)))
        elif not _is_name(test["same"]):
            mend = "write {same: application_id}"
            problems.append(Problem("same takes the name of a property", mend, path=pointer(path)))
        test = {key: value for key, value in test.items() if key != "same"}
        if not test:
            return
    for one in comparison.parse(test, path, problems):
        if one.operator in DATED and comparison.is_contacts_own(one.operand):
            message = "events are looked at by the installation's clock, not by the contact's"
            problems.append(Problem(message, "leave the time zone out, or name one", path=pointer(path)))


def matches(
    where: Mapping[str, Any],
    properties: Mapping[str, Any],
    correlation: Mapping[str, Any],
    now: datetime | None = None,
) -> bool:
    """Whether an event passes every test.

    Args:
        where: property names (without prefix) to tests, as `parse` gives them.
        properties: the event's.
        correlation: properties of the event that began the enrollment.
        now: for tests such as `{after: now-1d}`; the present if not given.
    """
    for name, test in where.items():
        value = properties.get(name, MISSING)
        for operator, operand in comparison.pairs(test):
            if operator == "same":
                if not comparison.same(value, correlation.get(operand, MISSING)):
                    return False
            elif not comparison.holds(operator, operand, value, now or present()):
                return False
    return True


def clause(
    where: Mapping[str, Any], properties: ColumnElement[Any], correlation: ColumnElement[Any] = facts.ENTRY
) -> ColumnElement[bool]:
    """The same as SQL over a JSONB expression with the event's properties; never null."""
    tests: list[ColumnElement[bool]] = []
    for name, test in where.items():
        element = properties.op("->", return_type=JSONB())(name)
        for operator, operand in comparison.pairs(test):
            if operator == "same":
                tests.append(_same(element, operand, correlation))
            else:
                tests.append(comparison.Comparison(operator=operator, operand=operand).clause(element))
    return and_(true(), *tests)


def _same(element: ColumnElement[Any], name: str, correlation: ColumnElement[Any]) -> ColumnElement[bool]:
    other = correlation.op("->", return_type=JSONB())(name)
    scalar = func.jsonb_typeof(element).in_(("string", "number", "boolean"))
    return func.coalesce(and_(scalar, element == other), False, type_=Boolean)


def phrase(where: Mapping[str, Any]) -> str:
    """The tests in words: `status is draft and application_id is that of the entry`."""
    said = []
    for name, test in where.items():
        for operator, operand in comparison.pairs(test):
            if operator == "same":
                said.append(f"{name} is the {operand} of the entry")
            else:
                said.append(f"{name} {comparison.Comparison(operator=operator, operand=operand).words()}")
    return " and ".join(said)
