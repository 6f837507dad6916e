"""What every contact has: number, language, time zone, when it was created and changed."""

from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, and_

from core.schema.contacts import contact
from segments.comparison import Comparison, phrase
from segments.criteria import counting
from segments.criteria.attribute import contact_zone
from segments.criteria.base import Context, Leaf
from segments.operands import DATED, ORDERED

_TIMES = ("created_at", "updated_at")
_TIME_OPERATORS = (*ORDERED, "between", "not_between", *DATED)


class Profile(Leaf):
    """A column of the contact passes every comparison."""

    KEYS: ClassVar[tuple[str, ...]] = (
        "contact.id",
        "contact.language",
        "contact.time_zone",
        "contact.created_at",
        "contact.updated_at",
    )
    SCHEMA: ClassVar[dict[str, Any]] = {"$ref": "#/$defs/Test"}

    column: str
    tests: tuple[Comparison, ...]

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read `contact.language: ru`, `contact.created_at: {after: now-7d}`."""
        column = key.removeprefix("contact.")
        if column == "id":
            return cls(column=column, tests=counting.read_numbers(value, context))
        tests = context.tests(value)
        for test in tests:
            timely = test.operator in _TIME_OPERATORS and test.fits("datetime")
            if column in _TIMES and not timely:
                context.problem(f"{column} is compared with dates", "write {after: now-7d}")
            elif column not in _TIMES and not test.fits("text"):
                context.problem(f"{column} is a text", "write a text")
        return cls(column=column, tests=tests)

    def clause(self) -> ColumnElement[bool]:
        """Comparisons over the column."""
        return and_(*(self._one(test) for test in self.tests))

    def _one(self, test: Comparison) -> ColumnElement[bool]:
        column = contact.c[self.column]
        if self.column in _TIMES:  # never null, so that an index may serve
            return test.on_moment(column, contact_zone(), sure=False)
        return test.on_number(column, sure=False) if self.column == "id" else test.on_text(column)

    def words(self) -> str:
        """`language is ru`."""
        return phrase(self.column.replace("_", " "), self.tests)
