"""Comparisons in SQL: over JSON values, and over typed columns, where the planner has an index to use.

Every clause is never null, so that it can be negated. What was written reaches SQL as bound parameters only; a list is
one of them, however long.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Interval,
    Numeric,
    Text,
    all_,
    and_,
    any_,
    bindparam,
    case,
    cast,
    false,
    func,
    literal,
    literal_column,
    not_,
)
from sqlalchemy.dialects.postgresql import JSONB

from core.clock import installation_zone
from core.clock import now as present
from segments import patterns, periods, words
from segments.operands import NEGATIONS, is_number
from segments.periods import CONTACT, INSTALLATION, Period

NOW: ColumnElement[datetime] = bindparam("now", callable_=present, type_=DateTime(timezone=True))
"""The present moment in clauses. Bound when the statement runs, unless `now` is given as a parameter."""
ZONE: ColumnElement[str] = bindparam("zone", callable_=installation_zone, type_=Text())
"""The installation's time zone. Bound when the statement runs, unless `zone` is given as a parameter."""

Clause = ColumnElement[bool]
_TEXTUAL = frozenset({"contains", "starts", "ends", "like", "regexp"})


def _sure(clause: ColumnElement[Any]) -> Clause:
    return func.coalesce(clause, False, type_=Boolean)


# --- JSON values


def on_json(operator: str, operand: Any, element: ColumnElement[Any], zone: ColumnElement[Any] = ZONE) -> Clause:
    """A comparison of a JSONB expression.

    Args:
        operator: one of `operands.OPERATORS`.
        operand: known to fit it.
        element: the value; null where there is none.
        zone: whose today it is, where the operand does not say.
    """
    if positive := NEGATIONS.get(operator):
        return not_(on_json(positive, operand, element, zone))
    return _sure(_json_clause(operator, operand, element, zone))


def _json_clause(operator: str, operand: Any, element: ColumnElement[Any], zone: ColumnElement[Any]) -> Clause:  # noqa: PLR0911 - one line an operator
    match operator:
        case "exists":
            known = func.coalesce(func.jsonb_typeof(element), "null") != "null"
            return known if operand else ~known
        case "empty":
            nothings: tuple[Any, ...] = (JSONB.NULL, "", [], {})
            nothing = func.coalesce(element.in_([literal(one, JSONB) for one in nothings]), True)
            return nothing if operand else not_(nothing)
        case "eq":
            return element == literal(operand, JSONB)
        case "in":
            return element == any_(literal(operand, ARRAY(JSONB)))
        case "contains_any" | "contains_all":
            wanted = literal(operand, ARRAY(JSONB))
            each = all_(wanted) if operator == "contains_all" else any_(wanted)
            held = element.op("@>", return_type=Boolean())(each)
            return case((func.jsonb_typeof(element) == "array", held), else_=False)
        case "contains":
            # An array contains a scalar that is one of its elements (PostgreSQL manual, "jsonb Containment").
            in_array = element.op("@>", return_type=Boolean())(literal(operand, JSONB))
            in_text = _text_clause(operator, operand, plain(element)) if isinstance(operand, str) else false()
            kind = func.jsonb_typeof(element)
            return case((kind == "string", in_text), (kind == "array", in_array), else_=False)
        case "starts" | "ends" | "like" | "regexp":
            return _text_clause(operator, operand, case((func.jsonb_typeof(element) == "string", plain(element))))
        case "between":
            low, high = operand
            return and_(_json_order("gte", low, element), _json_order("lte", high, element))
        case "date" | "anniversary":
            period, yearly = period_of(operator, operand)
            place = _zone_of(period, zone)
            return _day_clause(period, yearly, _json_day(element, place), place)
    return _json_order(operator, operand, element)


def plain(element: ColumnElement[Any]) -> ColumnElement[Any]:
    """A JSON text without its quotes."""
    return element.op("#>>", return_type=Text())(literal_column("'{}'::text[]"))


def _json_order(operator: str, operand: Any, element: ColumnElement[Any]) -> Clause:
    # CASE, because PostgreSQL may evaluate the sides of AND in any order, and a cast of other text would fail.
    if is_number(operand):
        return order(operator, number_of(element), literal(decimal(operand), Numeric))
    text = plain(element)
    readable = and_(func.jsonb_typeof(element) == "string", text.op("~")(f"^(?:{words.MOMENT})$"))
    return order(operator, case((readable, cast(text, DateTime(timezone=True)))), moment_expression(operand))


def number_of(element: ColumnElement[Any]) -> ColumnElement[Any]:
    """The number that a JSONB expression is; null where it is something else."""
    return case((func.jsonb_typeof(element) == "number", cast(plain(element), Numeric)))


def _json_day(element: ColumnElement[Any], zone: ColumnElement[Any]) -> ColumnElement[Any]:
    """The day that a JSON value means: written days as they are, moments by the clock of the zone."""
    text, kind = plain(element), func.jsonb_typeof(element)
    a_day = and_(kind == "string", text.op("~")(f"^(?:{words.DAY})$"))
    a_moment = and_(kind == "string", text.op("~")(f"^(?:{words.MOMENT})$"))
    shown = cast(func.timezone(zone, cast(text, DateTime(timezone=True))), Date)
    known = case((shown <= literal(date.max, Date), shown))  # Python knows no later day
    return case((a_day, cast(text, Date)), (a_moment, known))


# --- typed columns


def on_text(operator: str, operand: Any, column: ColumnElement[Any], *, sure: bool = True) -> Clause:
    """A comparison of a text expression; a number or boolean equals no text.

    Not `sure`, it may be null instead of false, as is fit for WHERE, and an index on the column serves.
    """
    if positive := NEGATIONS.get(operator):
        return not_(on_text(positive, operand, column))
    clause = _on_text(operator, operand, column)
    return _sure(clause) if sure else clause


def _on_text(operator: str, operand: Any, column: ColumnElement[Any]) -> Clause:
    match operator:
        case "exists":
            return column.is_not(None) if operand else column.is_(None)
        case "empty":
            nothing = func.coalesce(column == "", True)
            return nothing if operand else not_(nothing)
        case "eq":
            return and_(column == operand) if isinstance(operand, str) else false()
        case "in":
            texts = [one for one in operand if isinstance(one, str)]
            return and_(column == any_(literal(texts, ARRAY(Text)))) if texts else false()
        case _ if operator in _TEXTUAL and isinstance(operand, str):
            return _text_clause(operator, operand, column)
    return false()


def _text_clause(operator: str, operand: str, text: ColumnElement[Any]) -> Clause:
    match operator:
        case "contains":
            return func.strpos(text, operand) > 0
        case "starts":
            return func.starts_with(text, operand)
        case "ends":
            return and_(func.right(text, len(operand)) == operand)
        case "like":
            return text.like(operand)
    return text.op("~", return_type=Boolean())(patterns.regexp(operand, "postgres"))


def on_number(operator: str, operand: Any, number: ColumnElement[Any], *, sure: bool = True) -> Clause:
    """A comparison of a numeric expression; `sure` as for texts."""
    if positive := NEGATIONS.get(operator):
        return not_(on_number(positive, operand, number))
    clause = _on_number(operator, operand, number)
    return _sure(clause) if sure else clause


def _on_number(operator: str, operand: Any, number: ColumnElement[Any]) -> Clause:  # noqa: PLR0911 - one line an operator
    match operator:
        case "exists":
            return number.is_not(None) if operand else number.is_(None)
        case "empty":
            return number.is_(None) if operand else number.is_not(None)
        case "eq":
            return and_(number == literal(decimal(operand), Numeric)) if is_number(operand) else false()
        case "in":
            numbers = [decimal(one) for one in operand if is_number(one)]
            return and_(number == any_(literal(numbers, ARRAY(Numeric)))) if numbers else false()
        case "between":
            return and_(*(_on_number(*one, number) for one in zip(("gte", "lte"), operand, strict=True)))
        case "gt" | "gte" | "lt" | "lte" if is_number(operand):
            return order(operator, number, literal(decimal(operand), Numeric))
    return false()


def on_moment(
    operator: str, operand: Any, moment: ColumnElement[Any], zone: ColumnElement[Any] = ZONE, *, sure: bool = True
) -> Clause:
    """A comparison of a timestamptz expression; `sure` as for texts."""
    if positive := NEGATIONS.get(operator):
        return not_(on_moment(positive, operand, moment, zone))
    clause = _on_moment(operator, operand, moment, zone)
    return _sure(clause) if sure else clause


def _on_moment(operator: str, operand: Any, moment: ColumnElement[Any], zone: ColumnElement[Any]) -> Clause:
    match operator:
        case "exists":
            return moment.is_not(None) if operand else moment.is_(None)
        case "empty":
            return moment.is_(None) if operand else moment.is_not(None)
        case "between":
            return and_(moment >= moment_expression(operand[0]), moment <= moment_expression(operand[1]))
        case "date" | "anniversary":
            period, yearly = period_of(operator, operand)
            place = _zone_of(period, zone)
            if yearly:
                return _day_clause(period, yearly, cast(func.timezone(place, moment), Date), place)
            return periods.moment_clause(period, moment, _today(place), place)
    return order(operator, moment, moment_expression(operand))


# --- dates


def period_of(operator: str, operand: str) -> tuple[Period, bool]:
    """The period of `date` or `anniversary`, and whether anniversaries count; `date: anniversary` is one of today."""
    if operator == "date" and operand == "anniversary":
        return periods.must("today"), True
    return periods.must(operand), operator == "anniversary"


def _zone_of(period: Period, zone: ColumnElement[Any]) -> ColumnElement[Any]:
    if period.zone in {None, CONTACT}:
        return zone
    return ZONE if period.zone == INSTALLATION else literal(period.zone, Text)


def _today(zone: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(func.timezone(zone, NOW), Date)


def _day_clause(period: Period, yearly: bool, day: ColumnElement[Any], zone: ColumnElement[Any]) -> Clause:
    test = periods.anniversary_clause if yearly else periods.clause
    return test(period, day, _today(zone))


def moment_expression(operand: str) -> ColumnElement[Any]:
    """A day, a moment or `now-30d` as SQL."""
    distance = words.relative(operand)
    if distance is not None:
        return NOW + literal(distance, Interval)
    return literal(words.moment(operand), DateTime(timezone=True))


def order(operator: str, left: ColumnElement[Any], right: ColumnElement[Any]) -> Clause:
    """An ordering operator between two expressions of one type."""
    match operator:
        case "gt" | "after":
            return left > right
        case "gte":
            return left >= right
        case "lt" | "before":
            return left < right
    return left <= right


def decimal(value: float) -> Decimal:
    """Exact for integers; for floats the shortest decimal, which is what PostgreSQL is given."""
    return Decimal(value) if isinstance(value, int) else Decimal(repr(value))
