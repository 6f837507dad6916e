"""One thing after another: `{sequence: {steps: [cart.updated, order.paid], apart: 1d}}`, or one that did not follow."""

from datetime import timedelta
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, FromClause, Interval, and_, exists, literal, not_

from core.schema.events import event
from segments import eventfilter, facts
from segments.comparison import NOW
from segments.criteria import counting, deeds
from segments.criteria.base import Context, Leaf, options_of
from segments.criteria.event import NAME_SCHEMA, read_names

_KEYS = ("steps", "apart", "without", "within", "when")
_STEPS_LIMIT = 5
_STEP_KEYS = ("name", "where")
DEED: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"name": NAME_SCHEMA, "where": {"$ref": "#/$defs/Properties"}},
            "required": ["name"],
            "additionalProperties": False,
        },
    ]
}


class Deed(BaseModel):
    """An event of one of some names that passes tests."""

    model_config = ConfigDict(frozen=True)

    names: tuple[str, ...]
    where: dict[str, Any] = Field(default_factory=dict)

    def words(self) -> str:
        """`order.paid (total is more than 100)`."""
        where = f" ({eventfilter.phrase(self.where)})" if self.where else ""
        return " or ".join(self.names) + where


class Sequence(counting.Window, Leaf):
    """The contact did things one after the other, each within a time after the one before; or did not go on."""

    KEYS: ClassVar[tuple[str, ...]] = ("sequence",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "steps": {"type": "array", "items": DEED, "minItems": 1, "maxItems": _STEPS_LIMIT},
            "apart": {"type": "string"},
            "without": DEED,
            "within": {"type": "string"},
            "when": counting.WHEN_SCHEMA,
        },
        "required": ["steps"],
        "additionalProperties": False,
    }

    steps: tuple[Deed, ...]
    apart: timedelta | None = None
    without: Deed | None = None

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read the mapping under `sequence`; `within` and `when` are about the first of the steps."""
        options = options_of(value, _KEYS, context, "{sequence: {steps: [cart.updated, order.paid], apart: 1d}}")
        if options is None:
            return None
        given = options.get("steps")
        least = 1 if "without" in options else 2
        if not isinstance(given, list) or not least <= len(given) <= _STEPS_LIMIT:
            mend = "write steps: [cart.updated, order.paid]"
            context.problem(f"steps takes a list of {least} to {_STEPS_LIMIT} events", mend, "steps")
            return None
        steps = [read_deed(one, context.under("steps", place)) for place, one in enumerate(given)]
        without = read_deed(options["without"], context.under("without")) if "without" in options else None
        return cls(
            steps=tuple(one for one in steps if one is not None),
            without=without,
            apart=counting.read_within(options["apart"], context.under("apart")) if "apart" in options else None,
            **counting.read_window(options, context),
        )

    def clause(self) -> ColumnElement[bool]:
        """EXISTS over the event log joined with itself."""
        first: Any = event.alias()
        joined: FromClause = first
        conditions = [
            *_conditions(self.steps[0], first),
            *self.times(first.c.occurred_at),
        ]
        before = first
        for step in self.steps[1:]:
            later: Any = event.alias()
            joined = joined.join(later, self._follows(later, before))
            conditions += _conditions(step, later)
            before = later
        if self.without is not None:
            missed: Any = event.alias()
            follows = and_(self._follows(missed, before), *_conditions(self.without, missed))
            if self.apart is not None:  # it did not come within the time once the time is over
                conditions.append(before.c.occurred_at <= NOW - literal(self.apart, Interval))
            conditions.append(not_(exists().select_from(missed).where(follows).correlate(before, facts.RUNS)))
        return facts.some(joined, *conditions, owner=first.c.contact_id)

    def _follows(self, later: Any, before: Any) -> ColumnElement[bool]:
        tests = [later.c.contact_id == before.c.contact_id, later.c.occurred_at > before.c.occurred_at]
        if self.apart is not None:
            tests.append(later.c.occurred_at <= before.c.occurred_at + literal(self.apart, Interval))
        return and_(*tests)

    def words(self) -> str:
        """`cart.updated, then order.paid within 1 day`."""
        way = ", then ".join(step.words() for step in self.steps)
        apart = counting.lately(self.apart)
        without = f", but no {self.without.words()} after it{apart}" if self.without else apart
        began = f", beginning{self.lately()}" if self.lately() else ""
        return f"{way}{without}{began}"


def read_deed(value: Any, context: Context) -> Deed | None:
    """An event's name, or a mapping with `name` and `where`."""
    if isinstance(value, str):
        value = {"name": value}
    options = options_of(value, _STEP_KEYS, context, "{name: order.paid}")
    names = read_names(options, context) if options is not None else ()
    if options is None or not names:
        return None
    return Deed(names=names, where=deeds.read_where(options, "where", context))


def _conditions(deed: Deed, table: Any) -> list[ColumnElement[bool]]:
    return deeds.conditions(deed.names, deed.where, table)
