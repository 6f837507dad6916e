"""How recently, how often and for how much: `{rfm: {event: order.paid, value: event.total, recency: {gte: 4}}}`."""

from dataclasses import replace
from typing import Any, ClassVar, Self

from pydantic import Field
from sqlalchemy import ColumnElement, Numeric, cast, exists, func, select
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.contacts import contact
from core.schema.events import event
from segments import comparison, eventfilter, sqltests
from segments.comparison import NOW, Comparison
from segments.criteria import counting, deeds, visits
from segments.criteria.base import Context, Leaf, options_of
from segments.criteria.event import NAME_SCHEMA, VALUE, read_names

_SCORES = ("recency", "frequency", "monetary", "total")
_KEYS = ("event", "value", "within", "when", "where", *_SCORES)
_FIFTHS = 5


class Rfm(counting.Window, Leaf):
    """Scores from 1 to 5 among all contacts with such events: 5 is the fifth that did it last, most often, for most."""

    KEYS: ClassVar[tuple[str, ...]] = ("rfm",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "event": NAME_SCHEMA,
            "value": {"type": "string", "pattern": "^event\\..+"},
            "within": {"type": "string"},
            "when": counting.WHEN_SCHEMA,
            "where": {"$ref": "#/$defs/Properties"},
            **dict.fromkeys(_SCORES, visits.TEST),
        },
        "required": ["event"],
        "additionalProperties": False,
    }

    names: tuple[str, ...]
    value: str = VALUE
    where: dict[str, Any] = Field(default_factory=dict)
    scores: tuple[tuple[str, tuple[Comparison, ...]], ...]

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read the mapping under `rfm`."""
        example = "{rfm: {event: order.paid, value: event.total, recency: {gte: 4}}}"
        options = options_of(value, _KEYS, context, example)
        if options is None:
            return None
        names = read_names({"name": options.get("event")}, context)
        worth = options.get("value", f"{eventfilter.PREFIX}{VALUE}")
        if not eventfilter.is_property(worth):
            context.problem("value names a property of the event", "write value: event.total", "value")
            return None
        scores = [
            (name, counting.read_numbers(options[name], context.under(name))) for name in _SCORES if name in options
        ]
        if not scores:
            context.problem("nothing is compared", f"write {example}")
        if not scores or not names:
            return None
        return cls(
            names=names,
            value=worth.removeprefix(eventfilter.PREFIX),
            # It is one score for all runs of a contact, as it says how the contact compares to the others.
            where=deeds.read_where(options, "where", replace(context, in_journey=False)),
            scores=tuple(scores),
            **counting.read_window(options, context),
        )

    def clause(self) -> ColumnElement[bool]:
        """Scores of everybody, whoever is asked about: a score says how a contact compares to the others."""
        element = event.c.properties.op("->", return_type=JSONB())(self.value)
        worth = cast(event.c.value, Numeric) if self.value == VALUE else sqltests.number_of(element)
        # That nothing after now counts also says that the answer changes with time: with what the others do.
        at = event.c.occurred_at
        figures = (
            select(
                event.c.contact_id,
                func.max(event.c.occurred_at).label("recency"),
                func.count().label("frequency"),
                func.coalesce(func.sum(worth), 0).label("monetary"),
            )
            .where(*deeds.conditions(self.names, self.where), *self.times(at), at <= NOW)
            .group_by(event.c.contact_id)
            .subquery()
        )
        fifths = [_fifth(figures.c[name]).label(name) for name in _SCORES[:3]]
        scored = select(figures.c.contact_id, *fifths).subquery()
        columns: dict[str, ColumnElement[Any]] = {name: scored.c[name] for name in _SCORES[:3]}
        columns["total"] = scored.c.recency + scored.c.frequency + scored.c.monetary
        tests = [test.on_number(columns[name], sure=False) for name, tests in self.scores for test in tests]
        return exists().select_from(scored).where(scored.c.contact_id == contact.c.id, *tests).correlate(contact)

    def words(self) -> str:
        """`recency is at least 4 among those with order.paid`."""
        said = " and ".join(comparison.phrase(name, tests) for name, tests in self.scores)
        where = f" where {eventfilter.phrase(self.where)}" if self.where else ""
        return f"{said} among those with {' or '.join(self.names)}{where}{self.lately()}"


def _fifth(figure: ColumnElement[Any]) -> ColumnElement[Any]:
    """From 1 to 5; equal figures get equal scores."""
    before = func.rank().over(order_by=figure) - 1
    return 1 + (_FIFTHS * before) // func.count().over()
