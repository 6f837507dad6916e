"""Custom attributes: `{contact.city: Moscow}`, `{contact.age: {gte: 18}}`."""

import re
from collections.abc import Iterator
from typing import Any, Self

from sqlalchemy import ColumnElement, and_, func
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.contacts import contact
from segments import comparison
from segments.comparison import ZONE
from segments.criteria.base import Context, Leaf, Reference

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")


class Attribute(Leaf):
    """A typed custom attribute passes every comparison."""

    name: str
    tests: tuple[comparison.Comparison, ...]
    path: str = ""

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read `contact.<name>: test`."""
        name = key.removeprefix("contact.")
        if not NAME.fullmatch(name):
            context.problem(f"{name!r} cannot be the name of an attribute", "use letters, digits and _")
            return None
        tests = context.tests(value)
        return cls(name=name, tests=tests, path=context.pointer)

    def clause(self) -> ColumnElement[bool]:
        """Comparisons over `contact.attributes -> name`."""
        element = contact.c.attributes.op("->", return_type=JSONB())(self.name)
        return and_(*(test.clause(element, contact_zone()) for test in self.tests))

    def words(self) -> str:
        """`city is Moscow`."""
        return comparison.phrase(self.name, self.tests)

    def references(self) -> Iterator[Reference]:
        """The attribute, with how it is compared."""
        yield Reference("attribute", self.name, self.path, self.tests)


def contact_zone() -> ColumnElement[str]:
    """The contact's own time zone; the installation's where it is not known."""
    return func.coalesce(contact.c.time_zone, ZONE)
