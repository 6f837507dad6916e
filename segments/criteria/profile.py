"""What every contact has: language, time zone, when it was created and changed."""

from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, and_, func
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.contacts import contact
from segments import comparison
from segments.criteria.base import Context, Leaf

_TIMES = ("created_at", "updated_at")
_TIME_OPERATORS = (*comparison.ORDERED, "between")


class Profile(Leaf):
    """A column of the contact passes every comparison."""

    KEYS: ClassVar[tuple[str, ...]] = (
        "contact.language",
        "contact.time_zone",
        "contact.created_at",
        "contact.updated_at",
    )
    SCHEMA: ClassVar[dict[str, Any]] = {"$ref": "#/$defs/Test"}

    column: str
    tests: tuple[comparison.Comparison, ...]

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read `contact.language: ru`, `contact.created_at: {after: now-7d}`."""
        column = key.removeprefix("contact.")
        tests = comparison.parse(value, context.path, context.problems)
        for test in tests:
            timely = test.operator in _TIME_OPERATORS and not test.fits("number")
            if column in _TIMES and not timely:
                context.problem(f"{column} is compared with dates", "write {after: now-7d}")
            elif column not in _TIMES and not test.fits("text"):
                context.problem(f"{column} is a text", "write a text")
        return cls(column=column, tests=tests)

    def clause(self) -> ColumnElement[bool]:
        """Comparisons over the column."""
        column = contact.c[self.column]
        if self.column in _TIMES:
            return and_(*(_time_clause(test, column) for test in self.tests))
        return and_(*(test.clause(func.to_jsonb(column, type_=JSONB)) for test in self.tests))

    def words(self) -> str:
        """`language is ru`."""
        return comparison.phrase(self.column.replace("_", " "), self.tests)


def _time_clause(test: comparison.Comparison, column: ColumnElement[Any]) -> ColumnElement[bool]:
    if test.operator == "between":
        low, high = (comparison.moment_expression(one) for one in test.operand)
        return and_(column >= low, column <= high)
    return comparison.order(test.operator, column, comparison.moment_expression(test.operand))
