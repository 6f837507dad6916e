"""Tags: `{contact.tags: vip}`, `{contact.tags: {not_in: [vip, staff]}}`."""

from typing import Any, ClassVar, Self

from sqlalchemy import Boolean, ColumnElement, Text, and_, func, literal, not_
from sqlalchemy.dialects.postgresql import ARRAY

from core.schema.contacts import contact
from segments import comparison
from segments.criteria.base import Context, Leaf

_OPERATORS = ("eq", "contains", "ne", "in", "not_in", "exists")


class Tag(Leaf):
    """The contact has a tag, one of several, none of them, or any at all."""

    KEYS: ClassVar[tuple[str, ...]] = ("contact.tags",)
    SCHEMA: ClassVar[dict[str, Any]] = {"$ref": "#/$defs/Test"}

    tests: tuple[comparison.Comparison, ...]

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read `contact.tags: vip` (has it), `{ne: vip}`, `{in: […]}` (has one of them), `{not_in: […]}`."""
        tests = comparison.parse(value, context.path, context.problems)
        for test in tests:
            if test.operator not in _OPERATORS or not test.fits("text"):
                context.problem(f"{test.operator} with this value does not fit tags", "write contact.tags: vip")
        return cls(tests=tests)

    def clause(self) -> ColumnElement[bool]:
        """Overlap of arrays."""
        return and_(*(_clause(test) for test in self.tests))

    def words(self) -> str:
        """`has the tag vip`."""
        return " and ".join(_words(test) for test in self.tests)


def _clause(test: comparison.Comparison) -> ColumnElement[bool]:
    if test.operator == "exists":
        some = func.cardinality(contact.c.tags) > 0
        return some if test.operand else not_(some)
    names = test.operand if isinstance(test.operand, list) else [test.operand]
    one_of_them = contact.c.tags.op("&&", return_type=Boolean())(literal(names, ARRAY(Text)))
    return not_(one_of_them) if test.operator in {"ne", "not_in"} else one_of_them


def _words(test: comparison.Comparison) -> str:
    if test.operator == "exists":
        return "has tags" if test.operand else "has no tags"
    names = test.operand if isinstance(test.operand, list) else [test.operand]
    count = "the tag" if len(names) == 1 else "one of the tags"
    if test.operator in {"ne", "not_in"}:
        count = "no tag" if len(names) == 1 else "none of the tags"
    return f"has {count} {', '.join(map(str, names))}"
