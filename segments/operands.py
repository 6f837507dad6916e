"""What operands an operator takes, and which types of attributes it makes sense for."""

from typing import Any

from segments import patterns, periods, words

LIST_LIMIT = 1000
TEXT_LIMIT = 1000

NEGATIONS = {
    "ne": "eq",
    "not_in": "in",
    "not_between": "between",
    "not_contains": "contains",
    "not_starts": "starts",
    "not_ends": "ends",
    "not_like": "like",
    "not_regexp": "regexp",
}
"""Operators that hold exactly where another does not."""
ORDERED = ("gt", "gte", "lt", "lte", "before", "after")
DATED = ("date", "anniversary")
OPERATORS = (
    "eq",
    "ne",
    *ORDERED,
    "between",
    "not_between",
    "in",
    "not_in",
    "contains",
    "not_contains",
    "contains_any",
    "contains_all",
    "starts",
    "not_starts",
    "ends",
    "not_ends",
    "like",
    "not_like",
    "regexp",
    "not_regexp",
    "exists",
    "empty",
    *DATED,
)
TEXT_OPERATORS = tuple(
    one for one in OPERATORS if NEGATIONS.get(one, one) in {"contains", "starts", "ends", "like", "regexp"}
)
_ALL_TYPES = {"text", "number", "boolean", "date", "datetime", "list"}
Wrong = tuple[str, str] | None


def wrong(operator: str, operand: Any) -> Wrong:  # noqa: PLR0911 - one line an operator
    """What is wrong with an operand, and the mend."""
    match NEGATIONS.get(operator, operator):
        case "exists" | "empty":
            return None if isinstance(operand, bool) else (f"{operator} takes true or false", f"write {operator}: true")
        case "in" | "contains_any" | "contains_all":
            return _wrong_list(operator, operand)
        case "between":
            return _wrong_between(operator, operand)
        case "starts" | "ends" | "contains":
            return _wrong_part(operator, operand)
        case "like" | "regexp":
            return _wrong_pattern(operator, operand)
        case "date" | "anniversary":
            return _wrong_period(operator, operand)
        case "eq":
            return _wrong_scalar(operand)
    return _wrong_order(operator, operand)


def storable(text: str) -> bool:
    """Whether PostgreSQL can hold a text: no NUL, and no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def is_number(value: Any) -> bool:
    """Whether JSON calls it a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong_part(operator: str, operand: Any) -> Wrong:
    if NEGATIONS.get(operator, operator) != "contains" and not isinstance(operand, str):
        return f"{operator} takes a text", "put the value in quotes"
    return _wrong_scalar(operand) or (("an empty text is in everything", "") if operand == "" else None)


def _wrong_pattern(operator: str, operand: Any) -> Wrong:
    if not isinstance(operand, str) or not operand:
        return f"{operator} takes a text", "put the pattern in quotes"
    if refused := _wrong_scalar(operand):
        return refused
    return patterns.wrong_like(operand) if operator.endswith("like") else patterns.wrong_regexp(operand)


def _wrong_period(operator: str, operand: Any) -> Wrong:
    if operator == "date" and operand == "anniversary":
        return None
    if isinstance(operand, str) and periods.read(operand) is not None:
        return None
    mend = f"write {operator}: today, this week, last 30 days or next month, if need be with in Europe/Moscow"
    return f"{operator} takes a period, not {operand!r}", mend


def _wrong_between(operator: str, operand: Any) -> Wrong:
    if not isinstance(operand, list) or len(operand) != 2:
        return f"{operator} takes two values", f"write {operator}: [18, 30]"
    if is_number(operand[0]) != is_number(operand[1]):
        return f"{operator} takes two numbers or two dates", f"write {operator}: [18, 30]"
    return _wrong_order(operator, operand[0]) or _wrong_order(operator, operand[1])


def _wrong_list(operator: str, operand: Any) -> Wrong:
    if not isinstance(operand, list) or not operand:
        return f"{operator} takes a list with at least one value", f"write {operator}: [one, two]"
    if len(operand) > LIST_LIMIT:
        return f"more than {LIST_LIMIT} values in a list", "use a segment with a list of members"
    return next((refused for one in operand if (refused := _wrong_scalar(one))), None)


def _wrong_scalar(operand: Any) -> Wrong:
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


def _wrong_order(operator: str, operand: Any) -> Wrong:
    if is_number(operand) and operator not in {"before", "after"}:
        return _wrong_scalar(operand)
    if isinstance(operand, str) and (words.moment(operand) or words.relative(operand) is not None):
        return None
    asks = "a date" if operator in {"before", "after"} else "a number or a date"
    return f"{operator} takes {asks}, not {operand!r}", "write a number, 2026-05-09, or now-30d"


def types(operator: str, operand: Any) -> set[str]:
    """The attribute types that an operator with this operand makes sense for."""
    operator = NEGATIONS.get(operator, operator)
    match operator:
        case "exists" | "empty":
            return _ALL_TYPES
        case "contains":
            return {"list", "text"} if isinstance(operand, str) else {"list"}
        case "contains_any" | "contains_all":
            return {"list"}
        case "starts" | "ends" | "like" | "regexp":
            return {"text"}
        case "date" | "anniversary":
            return {"date", "datetime"}
    values = operand if isinstance(operand, list) else [operand]
    return set.intersection(*(_value_types(operator, value) for value in values))


def _value_types(operator: str, value: Any) -> set[str]:
    if isinstance(value, bool):
        return {"boolean"}
    if is_number(value):
        return {"number"}
    if operator in ORDERED or operator == "between":
        return {"date", "datetime"}
    return {"text", "date", "datetime"} if words.moment(value) else {"text"}
