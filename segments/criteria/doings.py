"""What criteria over one event of the site share: pages, forms, links."""

from typing import Any, ClassVar, Self

from pydantic import Field
from sqlalchemy import ColumnElement

from core.schema.events import event
from segments import eventfilter
from segments.criteria import counting, deeds
from segments.criteria.base import Context, options_of

_TEST = {"$ref": "#/$defs/Test"}


def schema(*properties: str) -> dict[str, Any]:
    """The JSON Schema: a text, or tests on these properties, on others, on how often and when."""
    options = {**dict.fromkeys(properties, _TEST), "where": {"$ref": "#/$defs/Properties"}, **counting.SCHEMAS}
    whole = {"type": "object", "properties": options, "minProperties": 1, "additionalProperties": False}
    return {"anyOf": [{"type": "string"}, whole]}


class Doing(counting.Counted):
    """The contact did something on the site so many times, lately; * in a text stands for anything."""

    NAME: ClassVar[str]
    """Of the event."""
    PROPERTIES: ClassVar[tuple[str, ...]]
    """Those that have a key of their own."""
    EXAMPLE: ClassVar[str]
    DID: ClassVar[str]
    """In words: `sent a form`."""

    where: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def property_of(cls, text: str) -> str:
        """The property that a text alone is about."""
        return cls.PROPERTIES[0]

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read a text, or the mapping under the key."""
        if isinstance(value, str):
            value = {cls.property_of(value): value}
        options = options_of(value, (*cls.PROPERTIES, "where", *counting.KEYS), context, cls.EXAMPLE)
        if options is None:
            return None
        where = deeds.read_where(options, "where", context)
        for name in cls.PROPERTIES:
            if name in options:
                where[name] = deeds.pattern(options[name])
                context.under(name).tests(where[name])
        return cls(where=where, **counting.read_counted(options, context))

    def clause(self) -> ColumnElement[bool]:
        """Over the event log."""
        conditions = deeds.conditions((self.NAME,), self.where)
        return self.count.clause(event, *conditions, *self.times(event.c.occurred_at))

    def words(self) -> str:
        """`looked at a page whose path is like /pricing% at least 3 times`."""
        which = f" whose {eventfilter.phrase(self.where)}" if self.where else ""
        return f"{self.DID}{which}{self.often()}"
