"""What a contact did: `{event: {name: order.paid, count: {gte: 3}, within: 30d, where: {event.total: {gt: 100}}}}`."""

from collections.abc import Iterator
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ARRAY, Boolean, ColumnElement, Date, Numeric, cast, distinct, func
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by

from core.schema.events import event
from segments import comparison, eventfilter, sqltests
from segments.comparison import ZONE, Comparison
from segments.criteria import counting, deeds
from segments.criteria.base import Context, options_of
from segments.criteria.counting import Having

VALUE = "value"
"""The property whose number has a column of its own."""
_OF_PROPERTY = ("sum", "min", "max", "average", "distinct")
_OF_TIME = ("first", "last")
_ONE_OF_THEM = ("earliest", "latest")
_KEYS = ("name", *counting.KEYS, "days", *_OF_PROPERTY, *_OF_TIME, *_ONE_OF_THEM, "where")
_SAID = {
    "sum": "the sum of",
    "min": "the least",
    "max": "the greatest",
    "average": "the average",
    "distinct": "the number of different",
}
_NAMES_LIMIT = 20
NAME_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
}
_WHERE = {"$ref": "#/$defs/Properties"}


class Measure(BaseModel):
    """A figure over the events that count, and what it must pass."""

    model_config = ConfigDict(frozen=True)

    kind: str
    property: str = ""
    tests: tuple[Comparison, ...]

    def having(self) -> list[Having]:
        """As tests on the group of a contact's events."""
        if self.kind in _OF_TIME:
            moment = func.min(event.c.occurred_at) if self.kind == "first" else func.max(event.c.occurred_at)
            return [Having(test.on_moment(moment), False) for test in self.tests]
        if self.kind == "days":
            day = cast(func.timezone(ZONE, event.c.occurred_at), Date)
            return [counting.number_having(test, func.count(distinct(day))) for test in self.tests]
        if self.kind == "distinct":
            element = self._element()
            number = func.count(distinct(element)).filter(func.jsonb_typeof(element) != "null")
            return [counting.number_having(test, number) for test in self.tests]
        if self.kind == "sum":
            return [counting.number_having(test, func.coalesce(func.sum(self._number()), 0)) for test in self.tests]
        figure = getattr(func, {"average": "avg"}.get(self.kind, self.kind))(self._number())
        return [Having(test.on_number(figure), False) for test in self.tests]

    def words(self) -> str:
        """`the sum of total is at least 100`."""
        if self.kind in _OF_TIME:
            return comparison.phrase(f"the {self.kind} time", self.tests)
        if self.kind == "days":
            return comparison.phrase("the number of days", self.tests)
        return comparison.phrase(f"{_SAID[self.kind]} {self.property}", self.tests)

    def _element(self) -> ColumnElement[Any]:
        return event.c.properties.op("->", return_type=JSONB())(self.property)

    def _number(self) -> ColumnElement[Any]:
        # Exact, so that sums do not depend on the order in which rows are met
        return cast(event.c.value, Numeric) if self.property == VALUE else sqltests.number_of(self._element())


class Event(counting.Counted):
    """The contact did something so many times, lately, in a certain way, worth so much."""

    KEYS: ClassVar[tuple[str, ...]] = ("event",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {
                    "name": NAME_SCHEMA,
                    **counting.SCHEMAS,
                    "days": counting.SCHEMA,
                    **dict.fromkeys((*_OF_PROPERTY, *_ONE_OF_THEM, "where"), _WHERE),
                    **dict.fromkeys(_OF_TIME, counting.WHEN_SCHEMA),
                },
                "required": ["name"],
                "additionalProperties": False,
            },
        ]
    }

    names: tuple[str, ...]
    where: dict[str, Any] = Field(default_factory=dict)
    measures: tuple[Measure, ...] = ()
    one: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Tests on the properties of the earliest or latest of the events."""

    @property
    def name(self) -> str:
        """The names in one."""
        return " or ".join(self.names)

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read a name, or the mapping under `event`."""
        if isinstance(value, str):
            value = {"name": value}
        options = options_of(value, _KEYS, context, "{event: order.paid}")
        names = read_names(options, context) if options is not None else ()
        if options is None or not names:
            return None
        return cls(
            names=names,
            where=deeds.read_where(options, "where", context),
            measures=tuple(_measures(options, context)),
            one=tuple((kind, deeds.read_where(options, kind, context)) for kind in _ONE_OF_THEM if kind in options),
            **counting.read_counted(options, context),
        )

    def clause(self) -> ColumnElement[bool]:
        """EXISTS, NOT EXISTS, or the same over groups of the event log."""
        conditions = [*deeds.conditions(self.names, self.where), *self.times(event.c.occurred_at)]
        having = [*(one for measure in self.measures for one in measure.having()), *map(_of_one, self.one)]
        if not having:
            return self.count.clause(event, *conditions)
        return counting.passing(event, conditions, [*self.count.having(), *having])

    def words(self) -> str:
        """`order.paid at least 3 times within 30 days, where total is more than 100`."""
        where = f", where {eventfilter.phrase(self.where)}" if self.where else ""
        happened = "" if self.count.tests else " happened"
        figures = "".join(f", {measure.words()}" for measure in self.measures)
        ones = "".join(f", the {kind} one with {eventfilter.phrase(tests)}" for kind, tests in self.one)
        return f"{self.name}{happened}{self.often()}{where}{figures}{ones}"


def read_names(options: dict[str, Any], context: Context) -> tuple[str, ...]:
    """The name of an event or several under `name`; problems are noted."""
    given = options.get("name")
    names = given if isinstance(given, list) else [given]
    good = all(isinstance(one, str) and 0 < len(one) <= 200 and comparison.storable(one) for one in names)
    if not good or not 0 < len(names) <= _NAMES_LIMIT:
        context.problem("name is missing or is not the name of an event", "add name: order.paid")
        return ()
    return tuple(dict.fromkeys(names))


def _measures(options: dict[str, Any], context: Context) -> Iterator[Measure]:
    for kind in _OF_TIME:
        if kind in options:
            yield Measure(kind=kind, tests=counting.read_moment(options[kind], context.under(kind)))
    if "days" in options:
        yield Measure(kind="days", tests=counting.read_count(options["days"], context.under("days")).tests)
    for kind in _OF_PROPERTY:
        if kind not in options:
            continue
        given = options[kind]
        if not isinstance(given, dict) or not given:
            context.problem(f"{kind} names a property", f"write {kind}: {{event.total: {{gte: 100}}}}", kind)
            continue
        for name, value in given.items():
            if not eventfilter.is_property(name):
                context.problem(f"{name} is not a property of the event", f"did you mean event.{name}?", kind, name)
                continue
            here = context.under(kind, name)
            tests = counting.read_numbers(value, here)
            yield Measure(kind=kind, property=name.removeprefix(eventfilter.PREFIX), tests=tests)


def _of_one(given: tuple[str, dict[str, Any]]) -> Having:
    """That the earliest or latest of the events has properties; of two at the same moment, the log's order decides."""
    kind, where = given
    order: list[ColumnElement[Any]] = [event.c.occurred_at, event.c.id]
    order = [column.desc() for column in order] if kind == "latest" else order
    passed = aggregate_order_by(eventfilter.clause(where, event.c.properties), *order)
    return Having(func.array_agg(passed, type_=ARRAY(Boolean))[1], False)
