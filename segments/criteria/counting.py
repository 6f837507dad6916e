"""How often, and since when: what criteria over events, messages and journeys share."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, FromClause, Interval, and_, exists, func, literal, not_, select

from core.schema.contacts import contact
from segments import comparison, words
from segments.comparison import NOW
from segments.criteria.base import Context

_OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "between")
SCHEMA: dict[str, Any] = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "object"}]}


class Count(BaseModel):
    """Comparisons that the number of rows must pass; at least one row if there are none."""

    model_config = ConfigDict(frozen=True)

    tests: tuple[comparison.Comparison, ...] = ()

    def clause(self, table: FromClause, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        """Whether the number of rows of `table` with these conditions passes, for the contact of the outer query."""
        if not self.tests:
            return exists().select_from(table).where(*conditions).correlate(contact)
        if len(self.tests) == 1 and (self.tests[0].operator, self.tests[0].operand) in {("eq", 0), ("lt", 1)}:
            return not_(exists().select_from(table).where(*conditions).correlate(contact))
        number = select(func.count()).select_from(table).where(*conditions).correlate(contact).scalar_subquery()
        return and_(*(_number_clause(test, number) for test in self.tests))

    def words(self) -> str:
        """` at least 3 times`, or nothing."""
        if not self.tests:
            return ""
        return " " + " and ".join(f"{test.words().removeprefix('is ')} times" for test in self.tests)


def read_count(value: Any, context: Context) -> Count:
    """Read `count: 3` or `count: {gte: 3}`."""
    tests = comparison.parse(value, context.path, context.problems)
    for test in tests:
        operands = test.operand if isinstance(test.operand, list) else [test.operand]
        whole = all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**31 for one in operands)
        if test.operator not in _OPERATORS or not whole:
            context.problem("count takes whole numbers", "write count: {gte: 3}")
    return Count(tests=tests)


def read_within(value: Any, context: Context) -> timedelta | None:
    """Read `within: 30d`."""
    length = words.duration(value) if isinstance(value, str) else None
    if length is None or not timedelta() < length <= words.LONGEST:
        context.problem("within takes a duration of up to ten years", "write within: 30d")
        return None
    return length


def since(column: ColumnElement[Any], within: timedelta | None) -> tuple[ColumnElement[bool], ...]:
    """The condition that a time lies within the last so much."""
    return () if within is None else (column > NOW - literal(within, Interval),)


def lately(within: timedelta | None) -> str:
    """` within 30 days`, or nothing."""
    return "" if within is None else f" within {words.said(within.total_seconds())}"


def _number_clause(test: comparison.Comparison, number: ColumnElement[int]) -> ColumnElement[bool]:
    match test.operator:
        case "eq":
            return and_(number == test.operand)
        case "ne":
            return and_(number != test.operand)
        case "between":
            return number.between(*test.operand)
    return comparison.order(test.operator, number, literal(test.operand))
