"""Comparing one value with what a criterion states: the operators, in Python and in SQL.

A value is anything JSON knows. It may be missing, and null counts as missing. A missing value passes only `ne`,
`not_in` and `exists: false`. Comparing never fails: a value of another type simply does not pass, so a text in a row
does no harm to `{gte: 18}`. Both twins agree on every JSON value; a property test holds them to it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Interval,
    Numeric,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
)
from sqlalchemy.dialects.postgresql import JSONB

from core.clock import now as present
from core.documents import did_you_mean, pointer
from core.errors import Problem
from segments import words

MISSING: Final = object()
LIST_LIMIT = 1000
TEXT_LIMIT = 1000

ORDERED = ("gt", "gte", "lt", "lte", "before", "after")
OPERATORS = ("eq", "ne", *ORDERED, "between", "in", "not_in", "contains", "starts", "ends", "exists")

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
    "starts": "starts with",
    "ends": "ends with",
}

NOW: ColumnElement[datetime] = bindparam("now", callable_=present, type_=DateTime(timezone=True))
"""The present moment in clauses. Bound when the statement runs, unless `now` is given as a parameter."""


class Comparison(BaseModel):
    """One operator with its operand, known to fit each other."""

    model_config = ConfigDict(frozen=True)

    operator: str
    operand: Any

    def holds(self, value: Any, now: datetime) -> bool:
        """Whether a JSON value (or MISSING) passes."""
        return holds(self.operator, self.operand, value, now)

    def clause(self, element: ColumnElement[Any]) -> ColumnElement[bool]:
        """The same over a JSONB expression; never null."""
        return func.coalesce(_clause(self.operator, self.operand, element), False, type_=Boolean)

    def words(self) -> str:
        """`is at least 18`."""
        operand = self.operand
        match self.operator:
            case "exists":
                return "is known" if operand else "is not known"
            case "between":
                return f"is between {_said(operand[0])} and {_said(operand[1])}"
            case "in" | "not_in":
                return f"is {'one' if self.operator == 'in' else 'none'} of {', '.join(map(_said, operand))}"
        return f"{_SAID[self.operator]} {_said(operand)}"

    def fits(self, kind: str) -> bool:
        """Whether an attribute of type `kind` (see core.schema.contacts.ATTRIBUTE_TYPES) can be compared so."""
        return kind in _kinds(self.operator, self.operand)


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
        elif wrong := _wrong(operator, operand):
            problems.append(Problem(*wrong, path=pointer(where)))
        else:
            made.append(Comparison(operator=operator, operand=operand))
    return tuple(made)


def holds(operator: str, operand: Any, value: Any, now: datetime) -> bool:  # noqa: PLR0911 - one line an operator
    """Whether `value` (JSON, or MISSING) passes; the operand has been checked before."""
    if value is None:
        value = MISSING
    match operator:
        case "exists":
            return (value is not MISSING) is bool(operand)
        case "eq":
            return same(value, operand)
        case "ne":
            return not same(value, operand)
        case "in":
            return any(same(value, one) for one in operand)
        case "not_in":
            return not any(same(value, one) for one in operand)
        case "contains" if isinstance(value, list):
            return any(same(one, operand) for one in value)
        case "contains" | "starts" | "ends":
            return isinstance(value, str) and isinstance(operand, str) and _text_holds(operator, operand, value)
        case "between":
            return _ordered("gte", operand[0], value, now) and _ordered("lte", operand[1], value, now)
    return _ordered(operator, operand, value, now)


def _said(operand: Any) -> str:
    return str(operand).lower() if isinstance(operand, bool) else str(operand)


def same(value: Any, other: Any) -> bool:
    """Equality of JSON scalars: numbers by value, no coercion between types; lists and objects equal nothing."""
    if _is_number(value) and _is_number(other):
        return _decimal(value) == _decimal(other)
    return type(value) is type(other) and isinstance(value, str | bool) and bool(value == other)


def _text_holds(operator: str, operand: str, value: str) -> bool:
    if operator == "contains":
        return operand in value
    return value.startswith(operand) if operator == "starts" else value.endswith(operand)


def _ordered(operator: str, operand: Any, value: Any, now: datetime) -> bool:
    left: Any
    right: Any
    if _is_number(operand):
        if not _is_number(value):
            return False
        left, right = _decimal(value), _decimal(operand)
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
    return at


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _decimal(value: float) -> Decimal:
    """Exact for integers; for floats the shortest decimal, which is what PostgreSQL is given."""
    return Decimal(value) if isinstance(value, int) else Decimal(repr(value))


# --- the same in SQL


def _plain(element: ColumnElement[Any]) -> ColumnElement[Any]:
    """A JSON text without its quotes."""
    return element.op("#>>", return_type=Text())(literal_column("'{}'::text[]"))


def _clause(operator: str, operand: Any, element: ColumnElement[Any]) -> ColumnElement[bool]:  # noqa: PLR0911 - one line an operator
    match operator:
        case "exists":
            present_one = func.coalesce(func.jsonb_typeof(element), "null") != "null"
            return present_one if operand else ~present_one
        case "eq":
            return element == literal(operand, JSONB)
        case "ne":
            return element.is_distinct_from(literal(operand, JSONB))
        case "in":
            return or_(*(element == literal(one, JSONB) for one in operand))
        case "not_in":
            return and_(*(element.is_distinct_from(literal(one, JSONB)) for one in operand))
        case "contains" | "starts" | "ends":
            return _text_clause(operator, operand, element)
        case "between":
            return and_(_order_clause("gte", operand[0], element), _order_clause("lte", operand[1], element))
    return _order_clause(operator, operand, element)


def _text_clause(operator: str, operand: Any, element: ColumnElement[Any]) -> ColumnElement[bool]:
    kind, text = func.jsonb_typeof(element), _plain(element)
    if operator == "contains":
        # An array contains a scalar that is one of its elements (PostgreSQL manual, "jsonb Containment").
        in_array = element.op("@>", return_type=Boolean())(literal(operand, JSONB))
        in_text: Any = func.strpos(text, operand) > 0 if isinstance(operand, str) else literal(False)
        return case((kind == "string", in_text), (kind == "array", in_array), else_=False)
    if operator == "starts":
        return and_(kind == "string", func.starts_with(text, operand))
    return and_(kind == "string", func.right(text, len(operand)) == operand)


def _order_clause(operator: str, operand: Any, element: ColumnElement[Any]) -> ColumnElement[bool]:
    # CASE, because PostgreSQL may evaluate the sides of AND in any order, and a cast of other text would fail.
    left: ColumnElement[Any]
    text = _plain(element)
    if _is_number(operand):
        left = case((func.jsonb_typeof(element) == "number", cast(text, Numeric)))
        return order(operator, left, literal(_decimal(operand), Numeric))
    readable = and_(func.jsonb_typeof(element) == "string", text.op("~")(f"^(?:{words.MOMENT})$"))
    left = case((readable, cast(text, DateTime(timezone=True))))
    return order(operator, left, moment_expression(operand))


def moment_expression(operand: str) -> ColumnElement[Any]:
    """A day, a moment or `now-30d` as SQL."""
    distance = words.relative(operand)
    if distance is not None:
        return NOW + literal(distance, Interval)
    return literal(words.moment(operand), DateTime(timezone=True))


def order(operator: str, left: ColumnElement[Any], right: ColumnElement[Any]) -> ColumnElement[bool]:
    """An ordering operator between two expressions of one type."""
    match operator:
        case "gt" | "after":
            return left > right
        case "gte":
            return left >= right
        case "lt" | "before":
            return left < right
    return left <= right


# --- what operands are allowed


def _wrong(operator: str, operand: Any) -> tuple[str, str] | None:  # noqa: PLR0911 - one line an operator
    """What is wrong with an operand, and the mend."""
    match operator:
        case "exists":
            return None if isinstance(operand, bool) else ("exists takes true or false", "write exists: true")
        case "in" | "not_in":
            return _wrong_list(operator, operand)
        case "between":
            if not isinstance(operand, list) or len(operand) != 2:
                return "between takes two values", "write between: [18, 30]"
            if _is_number(operand[0]) != _is_number(operand[1]):
                return "between takes two numbers or two dates", "write between: [18, 30]"
            return _wrong_order(operator, operand[0]) or _wrong_order(operator, operand[1])
        case "starts" | "ends" | "contains":
            if operator != "contains" and not isinstance(operand, str):
                return f"{operator} takes a text", "put the value in quotes"
            return _wrong_scalar(operand) or (("an empty text is in everything", "") if operand == "" else None)
        case "eq" | "ne":
            return _wrong_scalar(operand)
    return _wrong_order(operator, operand)


def _wrong_list(operator: str, operand: Any) -> tuple[str, str] | None:
    if not isinstance(operand, list) or not operand:
        return f"{operator} takes a list with at least one value", f"write {operator}: [one, two]"
    if len(operand) > LIST_LIMIT:
        return f"more than {LIST_LIMIT} values in a list", "use a segment with a list of members"
    return next((wrong for one in operand if (wrong := _wrong_scalar(one))), None)


def _wrong_scalar(operand: Any) -> tuple[str, str] | None:
    if operand is None:
        return "there is no value here", "write a value, or exists: false for contacts without one"
    if not isinstance(operand, str | int | float | bool):
        return "a text, a number, true or false is expected here", ""
    if isinstance(operand, str) and len(operand) > TEXT_LIMIT:
        return f"a text of more than {TEXT_LIMIT} characters", "shorten it"
    if isinstance(operand, str) and not storable(operand):
        return "a text with a character that cannot be stored", "take it out"
    if isinstance(operand, float) and operand - operand != 0:
        return "this is not a finite number", ""
    return None


def storable(text: str) -> bool:
    """Whether PostgreSQL can hold a text: no NUL, and no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _wrong_order(operator: str, operand: Any) -> tuple[str, str] | None:
    if _is_number(operand) and operator not in {"before", "after"}:
        return _wrong_scalar(operand)
    if isinstance(operand, str) and (words.moment(operand) or words.relative(operand) is not None):
        return None
    asks = "a date" if operator in {"before", "after"} else "a number or a date"
    return f"{operator} takes {asks}, not {operand!r}", "write a number, 2026-05-09, or now-30d"


def _kinds(operator: str, operand: Any) -> set[str]:
    """The attribute types that an operator with this operand makes sense for."""
    if operator == "exists":
        return {"text", "number", "boolean", "date", "datetime", "list"}
    if operator == "contains":
        return {"list", "text"} if isinstance(operand, str) else {"list"}
    if operator in {"starts", "ends"}:
        return {"text"}
    values = operand if isinstance(operand, list) else [operand]
    return set.intersection(*(_value_kinds(operator, value) for value in values))


def _value_kinds(operator: str, value: Any) -> set[str]:
    if isinstance(value, bool):
        return {"boolean"}
    if _is_number(value):
        return {"number"}
    if operator in ORDERED or operator == "between":
        return {"date", "datetime"}
    return {"text", "date", "datetime"} if words.moment(value) else {"text"}
