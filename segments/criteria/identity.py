"""What a contact is known by: `{contact.email: {exists: true}}`, `{contact.email: {ends: "@example.com"}}`."""

from functools import cache
from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, and_, not_

from contacts import identities
from core.errors import InvalidInput
from core.schema.contacts import IDENTITY_KINDS, identity
from core.settings import Settings
from segments import facts
from segments.comparison import Comparison, phrase
from segments.criteria.base import Context, Leaf
from segments.operands import NEGATIONS, TEXT_OPERATORS

_OPERATORS = ("eq", "ne", "in", "not_in", *TEXT_OPERATORS, "exists", "empty")


class Identity(Leaf):
    """Some identity of a kind passes; for denials and `exists: false`, none does the contrary."""

    KEYS: ClassVar[tuple[str, ...]] = tuple(f"contact.{kind}" for kind in IDENTITY_KINDS)
    SCHEMA: ClassVar[dict[str, Any]] = {"$ref": "#/$defs/Test"}

    kind: str
    tests: tuple[Comparison, ...]

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read `contact.email: test`; addresses and phone numbers are compared as they are stored."""
        kind = key.removeprefix("contact.")
        tests = context.tests(value)
        for test in tests:
            if test.operator not in _OPERATORS or not test.fits("text"):
                context.problem(f"{kind} is a text; {test.operator} does not fit", "write a text in quotes")
        if kind == "email":
            tests = tuple(_lowered(test) for test in tests)
        if kind == "phone":
            tests = tuple(_as_stored(test, context) for test in tests)
        return cls(kind=kind, tests=tests)

    def clause(self) -> ColumnElement[bool]:
        """EXISTS over identities, or NOT EXISTS."""
        return and_(*(self._one(test) for test in self.tests))

    def _one(self, test: Comparison) -> ColumnElement[bool]:
        of_kind = identity.c.kind == self.kind
        if test.operator in {"exists", "empty"}:
            some = facts.some(identity, of_kind)
            return some if test.operand is (test.operator == "exists") else not_(some)
        denied = NEGATIONS.get(test.operator)
        positive = Comparison(operator=denied or test.operator, operand=test.operand)
        some = facts.some(identity, of_kind, positive.on_text(identity.c.value, sure=False))
        return not_(some) if denied else some

    def words(self) -> str:
        """`email ends with @example.com`."""
        return phrase(self.kind.replace("_", " "), self.tests)


def _as_stored(test: Comparison, context: Context) -> Comparison:
    """The same with whole phone numbers in E.164, as they are stored."""
    if NEGATIONS.get(test.operator, test.operator) not in {"eq", "in"} or not test.fits("text"):
        return test

    def number(value: str) -> str:
        try:
            return identities.normalise("phone", value, _region())
        except InvalidInput as error:
            context.problem(f"{value} is no phone number: {error.problems[0].message}", "write +79161234567 in quotes")
            return value

    operand = [number(one) for one in test.operand] if isinstance(test.operand, list) else number(test.operand)
    return Comparison(operator=test.operator, operand=operand)


@cache
def _region() -> str:
    return Settings().phone_region


def _lowered(test: Comparison) -> Comparison:
    """The same with texts in lower case; in a regular expression, capitals mean classes (`\\D`), so it gets `(?i)`."""

    def lower(value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    if test.operator in {"regexp", "not_regexp"}:
        pattern = test.operand if test.operand.startswith("(?i)") else f"(?i){test.operand}"
        return Comparison(operator=test.operator, operand=pattern)
    operand = [lower(one) for one in test.operand] if isinstance(test.operand, list) else lower(test.operand)
    return Comparison(operator=test.operator, operand=operand)
