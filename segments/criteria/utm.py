"""Campaigns that brought a contact: `{utm: {source: google, campaign: spring, which: first}}`."""

from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement

from core.schema.sessions import FIRST, LAST, contact_touch
from segments import comparison, facts
from segments.criteria import visits
from segments.criteria.base import Context

FIELDS = ("source", "medium", "campaign", "term", "content")
_TOUCHES = {"first": FIRST, "last": LAST}


class Utm(visits.Visited):
    """A session with these campaign parameters; or the first or last campaign that brought the contact."""

    KEYS: ClassVar[tuple[str, ...]] = ("utm",)
    SCHEMA: ClassVar[dict[str, Any]] = visits.schema(FIELDS)

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read the mapping under `utm`."""
        found = visits.read(value, FIELDS, context, "{utm: {source: google, campaign: spring}}")
        if found is not None and found["which"] != "any" and "count" in found:
            context.problem(f"there is one {found['which']} campaign, so nothing to count", "leave count out", "count")
        return cls(**found) if found is not None else None

    def clause(self) -> ColumnElement[bool]:
        """Over sessions; the first and last campaign have rows of their own."""
        if self.which == "any":
            return super().clause()
        conditions = [test.on_text(contact_touch.c[name], sure=False) for name, tests in self.tests for test in tests]
        which = contact_touch.c.which == _TOUCHES[self.which]
        return facts.some(contact_touch, which, *conditions, *self.times(contact_touch.c.at))

    def words(self) -> str:
        """`came by a campaign whose source is google`."""
        said = " and ".join(comparison.phrase(name, tests) for name, tests in self.tests)
        of_which = "a" if self.which == "any" else f"the {self.which}"
        return f"came by {of_which} campaign{f' whose {said}' if said else ''}{self.often()}"
