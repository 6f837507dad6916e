"""The company of a contact: `{contact.company: acme.com}`, `{company.employees: {gte: 100}}`."""

from collections.abc import Iterator
from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, and_, exists, not_
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.companies import company
from core.schema.contacts import contact
from segments.comparison import Comparison, phrase
from segments.criteria import counting
from segments.criteria.attribute import NAME, contact_zone
from segments.criteria.base import Context, Leaf, Reference

PREFIX = "company."
_COLUMNS = ("key", "name", "created_at", "changed_at")
_TIMES = ("created_at", "changed_at")


class Company(Leaf):
    """The contact's company passes every comparison. Whoever has none passes denials, like a missing attribute."""

    KEYS: ClassVar[tuple[str, ...]] = ("contact.company", *(f"{PREFIX}{one}" for one in _COLUMNS))
    SCHEMA: ClassVar[dict[str, Any]] = {"$ref": "#/$defs/Test"}

    name: str
    tests: tuple[Comparison, ...]
    path: str = ""

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read `contact.company` (its key), `company.name` and so on, or `company.<attribute>`."""
        name = "key" if key == "contact.company" else key.removeprefix(PREFIX)
        if not NAME.fullmatch(name):
            context.problem(f"{name!r} cannot be the name of an attribute", "use letters, digits and _")
            return None
        tests = counting.read_moment(value, context) if name in _TIMES else context.tests(value)
        if name in _COLUMNS and name not in _TIMES:
            for test in tests:
                if not test.fits("text"):
                    context.problem(f"the {name} of a company is a text", "write a text")
        return cls(name=name, tests=tests, path=context.pointer)

    def clause(self) -> ColumnElement[bool]:
        """EXISTS over companies for each test; NOT EXISTS of the contrary where a missing company passes."""
        return and_(*(self._one(test) for test in self.tests))

    def _one(self, test: Comparison) -> ColumnElement[bool]:
        own = company.c.id == contact.c.company_id
        if test.for_nothing:
            return not_(exists().select_from(company).where(own, not_(self._test(test))).correlate(contact))
        return exists().select_from(company).where(own, self._test(test)).correlate(contact)

    def _test(self, test: Comparison) -> ColumnElement[bool]:
        if self.name in _TIMES:
            return test.on_moment(company.c[self.name])
        if self.name in _COLUMNS:
            return test.on_text(company.c[self.name])
        return test.clause(company.c.attributes.op("->", return_type=JSONB())(self.name), contact_zone())

    def words(self) -> str:
        """`the company's employees is at least 100`."""
        return phrase(f"the company's {self.name.replace('_', ' ')}", self.tests)

    def references(self) -> Iterator[Reference]:
        """The attribute, unless every company has it."""
        if self.name not in _COLUMNS:
            yield Reference("company attribute", self.name, self.path, self.tests)
