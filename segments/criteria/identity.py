"""What a contact is known by: `{contact.email: {exists: true}}`, `{contact.email: {ends: "@example.com"}}`."""

from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, and_, exists, func, not_, or_
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.contacts import IDENTITY_KINDS, contact, identity
from segments import comparison
from segments.criteria.base import Context, Leaf

_OPPOSITES = {"ne": "eq", "not_in": "in"}
_OPERATORS = ("eq", "ne", "in", "not_in", "contains", "starts", "ends", "exists")


class Identity(Leaf):
    """Some identity of a kind passes; for `ne`, `not_in` and `exists: false`, none does the contrary."""

    KEYS: ClassVar[tuple[str, ...]] = tuple(f"contact.{kind}" for kind in IDENTITY_KINDS)
    SCHEMA: ClassVar[dict[str, Any]] = {"$ref": "#/$defs/Test"}

    kind: str
    tests: tuple[comparison.Comparison, ...]

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read `contact.email: test`; addresses are compared in lower case, as they are stored."""
        kind = key.removeprefix("contact.")
        tests = comparison.parse(value, context.path, context.problems)
        for test in tests:
            if test.operator not in _OPERATORS or not test.fits("text"):
                context.problem(f"{kind} is a text; {test.operator} does not fit", "write a text in quotes")
        if kind == "email":
            tests = tuple(_lowered(test) for test in tests)
        return cls(kind=kind, tests=tests)

    def clause(self) -> ColumnElement[bool]:
        """EXISTS over identities, or NOT EXISTS."""
        return and_(*(self._one(test) for test in self.tests))

    def _one(self, test: comparison.Comparison) -> ColumnElement[bool]:
        of_contact = and_(identity.c.contact_id == contact.c.id, identity.c.kind == self.kind)
        if test.operator == "exists":
            some = exists().where(of_contact).correlate(contact)
            return some if test.operand else not_(some)
        opposite = _OPPOSITES.get(test.operator)
        positive = comparison.Comparison(operator=opposite or test.operator, operand=test.operand)
        some = exists().where(of_contact, _value_clause(positive)).correlate(contact)
        return not_(some) if opposite else some

    def words(self) -> str:
        """`email ends with @example.com`."""
        return comparison.phrase(self.kind.replace("_", " "), self.tests)


def _value_clause(test: comparison.Comparison) -> ColumnElement[bool]:
    if test.operator == "eq":  # plain, so that the key of the table serves
        return and_(identity.c.value == test.operand)
    if test.operator == "in":
        return or_(*(identity.c.value == one for one in test.operand))
    return test.clause(func.to_jsonb(identity.c.value, type_=JSONB))


def _lowered(test: comparison.Comparison) -> comparison.Comparison:
    def lower(value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    operand = [lower(one) for one in test.operand] if isinstance(test.operand, list) else lower(test.operand)
    return comparison.Comparison(operator=test.operator, operand=operand)
