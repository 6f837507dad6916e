"""Comparing one value with what a criterion states: the operators, in Python and in SQL.

A value is anything JSON knows. It may be missing, and null counts as missing. A missing value passes only `exists:
false`, `empty: true` and the denials (`ne`, `not_in` and so on), which hold exactly where what they deny does not.
Comparing never fails: a value of another type simply does not pass, so a text in a row does no harm to `{gte: 18}`.
Both twins agree on every JSON value; a property test holds them to it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement

from core.clock import installation_zone
from core.documents import did_you_mean, pointer
from core.errors import Problem
from segments import operands, patterns, periods, sqltests, words
from segments.operands import LIST_LIMIT, NEGATIONS, OPERATORS, ORDERED, TEXT_LIMIT, is_number, storable
from segments.periods import CONTACT, INSTALLATION
from segments.sqltests import NOW, ZONE, decimal, moment_expression, order

__all__ = [
    "LIST_LIMIT",
    "MISSING",
    "NOW",
    "OPERATORS",
    "ORDERED",
    "SOME_TIME",
    "TEXT_LIMIT",
    "ZONE",
    "Comparison",
    "holds",
    "is_contacts_own",
    "moment_expression",
    "order",
    "pairs",
    "parse",
    "phrase",
    "same",
    "storable",
]

MISSING: Final = object()
SOME_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)

_SAID = {
    "eq": "is",
    "ne": "is not",
    "gt": "is more than",
    "gte": "is at least",
    "lt": "is less than",
    "lte": "is at most",
    "before": "is before",
    "after": "is after",
    "contains": "contains",
    "not_contains": "does not contain",
    "contains_any": "has one of",
    "contains_all": "has all of",
    "starts": "starts with",
    "not_starts": "does not start with",
    "ends": "ends with",
    "not_ends": "does not end with",
    "like": "is like",
    "not_like": "is not like",
    "regexp": "matches",
    "not_regexp": "does not match",
    "in": "is one of",
    "not_in": "is none of",
    "date": "is",
    "anniversary": "has its anniversary",
}


class Comparison(BaseModel):
    """One operator with its operand, known to fit each other."""

    model_config = ConfigDict(frozen=True)

    operator: str
    operand: Any

    def holds(self, value: Any, now: datetime, zone: str | None = None) -> bool:
        """Whether a JSON value (or MISSING) passes; `zone` says whose today it is, the installation's if None."""
        return holds(self.operator, self.operand, value, now, zone)

    def clause(self, element: ColumnElement[Any], zone: ColumnElement[Any] = ZONE) -> ColumnElement[bool]:
        """The same over a JSONB expression; never null."""
        return sqltests.on_json(self.operator, self.operand, element, zone)

    def on_text(self, column: ColumnElement[Any], *, sure: bool = True) -> ColumnElement[bool]:
        """The same over a text expression; never null, if `sure`."""
        return sqltests.on_text(self.operator, self.operand, column, sure=sure)

    def on_number(self, number: ColumnElement[Any], *, sure: bool = True) -> ColumnElement[bool]:
        """The same over a numeric expression; never null, if `sure`."""
        return sqltests.on_number(self.operator, self.operand, number, sure=sure)

    def on_moment(
        self, moment: ColumnElement[Any], zone: ColumnElement[Any] = ZONE, *, sure: bool = True
    ) -> ColumnElement[bool]:
        """The same over a timestamptz expression; never null, if `sure`."""
        return sqltests.on_moment(self.operator, self.operand, moment, zone, sure=sure)

    @property
    def for_nothing(self) -> bool:
        """Whether a missing value passes."""
        return self.holds(MISSING, SOME_TIME)

    def words(self) -> str:
        """`is at least 18`."""
        operand = self.operand
        match self.operator:
            case "exists":
                return "is known" if operand else "is not known"
            case "empty":
                return "is empty" if operand else "is not empty"
            case "between" | "not_between":
                denied = "not " if self.operator == "not_between" else ""
                return f"is {denied}between {_said(operand[0])} and {_said(operand[1])}"
            case "date" if operand == "anniversary":
                return "has its anniversary today"
        said = ", ".join(map(_said, operand)) if isinstance(operand, list) else _said(operand)
        return f"{_SAID[self.operator]} {said}"

    def fits(self, kind: str) -> bool:
        """Whether an attribute of type `kind` (see core.schema.contacts.ATTRIBUTE_TYPES) can be compared so."""
        return kind in operands.types(self.operator, self.operand)


def phrase(subject: str, tests: Sequence[Comparison]) -> str:
    """Comparisons of one thing in words: `age is at least 18 and is at most 30`."""
    return f"{subject} {' and '.join(test.words() for test in tests)}"


def pairs(test: Any) -> list[tuple[str, Any]]:
    """A test as operators with operands: a bare value means `eq`, a bare list `in`."""
    if isinstance(test, Mapping):
        return list(test.items())
    return [("in", test)] if isinstance(test, list) else [("eq", test)]


def parse(test: Any, path: tuple[str | int, ...], problems: list[Problem]) -> tuple[Comparison, ...]:
    """Read the right side of a criterion, adding to `problems` what is wrong with it."""
    if isinstance(test, Mapping) and not test:
        problems.append(Problem("nothing to compare with", "name a value, such as {gte: 18}", path=pointer(path)))
    made = []
    for operator, operand in pairs(test):
        where = (*path, operator) if isinstance(test, Mapping) else path
        if operator not in OPERATORS:
            mend = did_you_mean(str(operator), OPERATORS) or "known: " + ", ".join(OPERATORS)
            problems.append(Problem(f"unknown operator {operator}", mend, path=pointer(where)))
        elif wrong := operands.wrong(operator, operand):
            problems.append(Problem(*wrong, path=pointer(where)))
        else:
            made.append(Comparison(operator=operator, operand=operand))
    return tuple(made)


def holds(operator: str, operand: Any, value: Any, now: datetime, zone: str | None = None) -> bool:  # noqa: PLR0911 - one line an operator
    """Whether `value` (JSON, or MISSING) passes; the operand has been checked before."""
    if positive := NEGATIONS.get(operator):
        return not holds(positive, operand, value, now, zone)
    if value is None:
        value = MISSING
    match operator:
        case "exists":
            return (value is not MISSING) is operand
        case "empty":
            return (value is MISSING or value in ("", [], {})) is operand
        case "eq":
            return same(value, operand)
        case "in":
            return any(same(value, one) for one in operand)
        case "contains_any" | "contains_all":
            held = (any(same(one, wanted) for one in value) for wanted in operand) if isinstance(value, list) else ()
            return isinstance(value, list) and (any(held) if operator == "contains_any" else all(held))
        case "contains" if isinstance(value, list):
            return any(same(one, operand) for one in value)
        case "contains" | "starts" | "ends" | "like" | "regexp":
            return isinstance(value, str) and isinstance(operand, str) and _text_holds(operator, operand, value)
        case "between":
            return _ordered("gte", operand[0], value, now) and _ordered("lte", operand[1], value, now)
        case "date" | "anniversary":
            return _dated(operator, operand, value, now, zone or installation_zone())
    return _ordered(operator, operand, value, now)


def is_contacts_own(operand: str) -> bool:
    """Whether the operand of `date` or `anniversary` asks for the contact's time zone by name."""
    period = periods.read(operand)
    return period is not None and period.zone == CONTACT


def _said(operand: Any) -> str:
    return str(operand).lower() if isinstance(operand, bool) else str(operand)


def same(value: Any, other: Any) -> bool:
    """Equality of JSON scalars: numbers by value, no coercion between types; lists and objects equal nothing."""
    if is_number(value) and is_number(other):
        return decimal(value) == decimal(other)
    return type(value) is type(other) and isinstance(value, str | bool) and bool(value == other)


def _text_holds(operator: str, operand: str, value: str) -> bool:
    match operator:
        case "contains":
            return operand in value
        case "starts":
            return value.startswith(operand)
        case "ends":
            return value.endswith(operand)
        case "like":
            return patterns.is_like(operand, value)
    return patterns.matches(operand, value)


def _dated(operator: str, operand: str, value: Any, now: datetime, zone: str) -> bool:
    period, yearly = sqltests.period_of(operator, operand)
    named = period.zone not in {None, CONTACT}
    place = ZoneInfo(installation_zone() if period.zone == INSTALLATION else str(period.zone) if named else zone)
    day = _day(value, place)
    if day is None:
        return False
    test = periods.anniversary_holds if yearly else periods.holds
    return test(period, day, now.astimezone(place).date())


def _day(value: Any, zone: ZoneInfo) -> date | None:
    if not isinstance(value, str) or (moment := words.moment(value)) is None:
        return None
    try:
        return moment.date() if words.is_day(value) else moment.astimezone(zone).date()
    except OverflowError:  # the last hours of the year 9999
        return None


def _ordered(operator: str, operand: Any, value: Any, now: datetime) -> bool:
    left: Any
    right: Any
    if is_number(operand):
        if not is_number(value):
            return False
        left, right = decimal(value), decimal(operand)
    else:
        if not isinstance(value, str) or (read := words.moment(value)) is None:
            return False
        left, right = read, _moment(operand, now)
    match operator:
        case "gt" | "after":
            return bool(left > right)
        case "gte":
            return bool(left >= right)
        case "lt" | "before":
            return bool(left < right)
    return bool(left <= right)


def _moment(operand: str, now: datetime) -> datetime:
    distance = words.relative(operand)
    if distance is not None:
        return now + distance
    at = words.moment(operand)
    if at is None:
        raise ValueError(f"{operand} is not a moment")
    return at  # as written: the last hours of the year 9999 have no moment in UTC that Python could hold
