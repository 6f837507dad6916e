"""Tags: `{contact.tags: vip}`, `{contact.tags: {not_in: [vip, staff]}}`."""

from typing import Any, ClassVar, Self

from sqlalchemy import Boolean, ColumnElement, Text, and_, func, literal, not_
from sqlalchemy.dialects.postgresql import ARRAY

from core.schema.contacts import contact
from segments import comparison
from segments.criteria.base import Context, Leaf

_OPERATORS = ("eq", "contains", "not_contains", "ne", "in", "contains_any", "contains_all", "not_in", "exists", "empty")
_DENIALS = ("ne", "not_in", "not_contains")


class Tag(Leaf):
    """The contact has a tag, one of several, none of them, or any at all."""

    KEYS: ClassVar[tuple[str, ...]] = ("contact.tags",)
    SCHEMA: ClassVar[dict[str, Any]] = {"$ref": "#/$defs/Test"}

    tests: tuple[comparison.Comparison, ...]

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read `contact.tags: vip` (has it), `{ne: vip}`, `{in: […]}` (has one of them), `{not_in: […]}`."""
        tests = context.tests(value)
        for test in tests:
            if test.operator not in _OPERATORS or not _all_texts(test):
                context.problem(f"{test.operator} with this value does not fit tags", "write contact.tags: vip")
        return cls(tests=tests)

    def clause(self) -> ColumnElement[bool]:
        """Overlap of arrays."""
        return and_(*(_clause(test) for test in self.tests))

    def words(self) -> str:
        """`has the tag vip`."""
        return " and ".join(_words(test) for test in self.tests)


def _all_texts(test: comparison.Comparison) -> bool:
    operands = test.operand if isinstance(test.operand, list) else [test.operand]
    return test.operator in {"exists", "empty"} or all(isinstance(one, str) for one in operands)


def _clause(test: comparison.Comparison) -> ColumnElement[bool]:
    if test.operator in {"exists", "empty"}:
        some = func.cardinality(contact.c.tags) > 0
        return some if test.operand is (test.operator == "exists") else not_(some)
    names = test.operand if isinstance(test.operand, list) else [test.operand]
    held = "@>" if test.operator == "contains_all" else "&&"
    has_them = contact.c.tags.op(held, return_type=Boolean())(literal(names, ARRAY(Text)))
    return not_(has_them) if test.operator in _DENIALS else has_them


def _words(test: comparison.Comparison) -> str:
    if test.operator in {"exists", "empty"}:
        return "has tags" if test.operand is (test.operator == "exists") else "has no tags"
    names = test.operand if isinstance(test.operand, list) else [test.operand]
    several = "all of the tags" if test.operator == "contains_all" else "one of the tags"
    count = "the tag" if len(names) == 1 else several
    if test.operator in _DENIALS:
        count = "no tag" if len(names) == 1 else "none of the tags"
    return f"has {count} {', '.join(map(str, names))}"
