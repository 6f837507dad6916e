"""How often and when: what criteria over the rows of contacts (events, messages, sessions …) share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, FromClause, Interval, and_, func, literal, not_

from segments import comparison, facts, words
from segments.comparison import NOW, Comparison
from segments.criteria.base import Context, Leaf
from segments.operands import DATED, ORDERED

_OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "between", "not_between", "in", "not_in")
_MOMENT_OPERATORS = (*ORDERED, "between", "not_between", *DATED)
SCHEMA: dict[str, Any] = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "array"}, {"type": "object"}]}
WHEN_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "object"}]}
KEYS = ("count", "within", "when")
SCHEMAS: dict[str, Any] = {"count": SCHEMA, "within": {"type": "string"}, "when": WHEN_SCHEMA}


@dataclass(frozen=True)
class Having:
    """A test on the rows of a contact taken together, and whether no rows at all pass it."""

    clause: ColumnElement[bool]
    for_nothing: bool


class Count(BaseModel):
    """Comparisons that the number of rows must pass; at least one row if there are none."""

    model_config = ConfigDict(frozen=True)

    tests: tuple[Comparison, ...] = ()

    def having(self) -> list[Having]:
        """As tests on a group of rows."""
        return [number_having(test, func.count()) for test in self.tests]

    def clause(
        self, table: FromClause, *conditions: ColumnElement[bool], owner: ColumnElement[Any] | None = None
    ) -> ColumnElement[bool]:
        """Whether the number of the contact's rows of `table` with these conditions passes."""
        if len(self.tests) == 1 and (self.tests[0].operator, self.tests[0].operand) in {("eq", 0), ("lt", 1)}:
            return not_(facts.some(table, *conditions, owner=owner))
        return passing(table, conditions, self.having(), owner)

    def words(self) -> str:
        """` at least 3 times`, or nothing."""
        if not self.tests:
            return ""
        return " " + " and ".join(f"{test.words().removeprefix('is ')} times" for test in self.tests)


def number_having(test: Comparison, number: ColumnElement[Any]) -> Having:
    """A test on a number that is 0 where there are no rows."""
    return Having(test.on_number(number), test.holds(0, comparison.SOME_TIME))


def passing(
    table: FromClause,
    conditions: Sequence[ColumnElement[bool]],
    having: Sequence[Having],
    owner: ColumnElement[Any] | None = None,
) -> ColumnElement[bool]:
    """Whether the contact's rows, taken together, pass every test; at least one row if there is no test."""
    if not having:
        return facts.some(table, *conditions, owner=owner)
    every = and_(*(one.clause for one in having))
    if all(one.for_nothing for one in having):
        return not_(facts.grouped(table, *conditions, having=not_(every), owner=owner))
    return facts.grouped(table, *conditions, having=every, owner=owner)


class Window(BaseModel):
    """When rows came about that count."""

    within: timedelta | None = None
    when: tuple[Comparison, ...] = ()

    def times(self, column: ColumnElement[Any]) -> tuple[ColumnElement[bool], ...]:
        """The conditions on the time of a row."""
        return (*since(column, self.within), *(test.on_moment(column, sure=False) for test in self.when))

    def lately(self) -> str:
        """` within 30 days`, or nothing."""
        when = f" when it {' and '.join(test.words() for test in self.when)}" if self.when else ""
        return f"{lately(self.within)}{when}"


class Counted(Window, Leaf):
    """A criterion over rows: how many there are, and when they came about."""

    count: Count = Count()

    def often(self) -> str:
        """` at least 3 times within 30 days`, or nothing."""
        return f"{self.count.words()}{self.lately()}"


def read_window(value: dict[str, Any], context: Context) -> dict[str, Any]:
    """Read `within` and `when` as far as they are given, as fields of `Window`."""
    found: dict[str, Any] = {}
    if "within" in value:
        found["within"] = read_within(value["within"], context.under("within"))
    if "when" in value:
        found["when"] = read_moment(value["when"], context.under("when"))
    return found


def read_counted(value: dict[str, Any], context: Context) -> dict[str, Any]:
    """Read `count`, `within` and `when` as far as they are given, as fields of `Counted`."""
    found = read_window(value, context)
    if "count" in value:
        found["count"] = read_count(value["count"], context.under("count"))
    return found


def read_count(value: Any, context: Context) -> Count:
    """Read `count: 3` or `count: {gte: 3}`."""
    tests = context.tests(value)
    for test in tests:
        operands = test.operand if isinstance(test.operand, list) else [test.operand]
        whole = all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**31 for one in operands)
        if test.operator not in _OPERATORS or not whole:
            context.problem("count takes whole numbers", "write count: {gte: 3}")
    return Count(tests=tests)


def read_numbers(value: Any, context: Context) -> tuple[Comparison, ...]:
    """Read comparisons of a number."""
    tests = context.tests(value)
    for test in tests:
        if test.operator not in _OPERATORS or not test.fits("number"):
            context.problem("a number is compared here", "write {gte: 100}")
    return tests


def read_within(value: Any, context: Context) -> timedelta | None:
    """Read `within: 30d`."""
    length = words.duration(value) if isinstance(value, str) else None
    if length is None or not timedelta() < length <= words.LONGEST:
        context.problem("within takes a duration of up to ten years", "write within: 30d")
        return None
    return length


def read_moment(value: Any, context: Context) -> tuple[Comparison, ...]:
    """Read a period (`last month`), or comparisons of a time."""
    tests = context.tests({"date": value} if isinstance(value, str) else value)
    for test in tests:
        if test.operator not in _MOMENT_OPERATORS or not test.fits("datetime"):
            context.problem("a time is compared here", "write this month, {after: now-7d} or {before: 2026-05-09}")
        elif test.operator in DATED and comparison.is_contacts_own(test.operand):
            context.problem("this is looked at by the installation's clock", "leave the time zone out, or name one")
    return tests


def since(column: ColumnElement[Any], within: timedelta | None) -> tuple[ColumnElement[bool], ...]:
    """The condition that a time lies within the last so much."""
    return () if within is None else (column > NOW - literal(within, Interval),)


def lately(within: timedelta | None) -> str:
    """` within 30 days`, or nothing."""
    return "" if within is None else f" within {words.said(within.total_seconds())}"
