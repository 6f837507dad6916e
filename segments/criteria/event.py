"""What a contact did: `{event: {name: order.paid, count: {gte: 3}, within: 30d, where: {event.total: {gt: 100}}}}`."""

from datetime import timedelta
from typing import Any, ClassVar, Self

from pydantic import Field
from sqlalchemy import ColumnElement, select

from core.schema.contacts import contact
from core.schema.events import event, event_name
from segments import eventfilter
from segments.criteria import counting
from segments.criteria.base import Context, Leaf, known_keys

_KEYS = ("name", "count", "within", "where")


class Event(Leaf):
    """The contact did something so many times, lately, in a certain way."""

    KEYS: ClassVar[tuple[str, ...]] = ("event",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "count": counting.SCHEMA,
            "within": {"type": "string"},
            "where": {"type": "object"},
        },
        "required": ["name"],
        "additionalProperties": False,
    }

    name: str
    count: counting.Count = counting.Count()
    within: timedelta | None = None
    where: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read the mapping under `event`."""
        if isinstance(value, str):
            value = {"name": value}
        if not known_keys(value, _KEYS, "name", context):
            return None
        found: dict[str, Any] = {"name": value["name"]}
        if "count" in value:
            found["count"] = counting.read_count(value["count"], context.under("count"))
        if "within" in value:
            found["within"] = counting.read_within(value["within"], context.under("within"))
        if "where" in value:
            found["where"] = eventfilter.parse(value["where"], (*context.path, "where"), context.problems)
        return cls(**found)

    def clause(self) -> ColumnElement[bool]:
        """EXISTS, NOT EXISTS or a count over the event log."""
        number = select(event_name.c.id).where(event_name.c.name == self.name).scalar_subquery()
        conditions = [
            event.c.contact_id == contact.c.id,
            event.c.name_id == number,
            *counting.since(event.c.occurred_at, self.within),
        ]
        if self.where:
            conditions.append(eventfilter.clause(self.where, event.c.properties))
        return self.count.clause(event, *conditions)

    def words(self) -> str:
        """`order.paid at least 3 times within 30 days, where total is more than 100`."""
        where = f", where {eventfilter.phrase(self.where)}" if self.where else ""
        return f"{self.name}{self.count.words() or ' happened'}{counting.lately(self.within)}{where}"
