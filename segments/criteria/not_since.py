"""What a contact has not done since it did something else: `{not_since: {event: order.paid, since: cart.updated}}`."""

from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, and_, func, or_

from core.schema.events import event
from segments.criteria import counting, deeds
from segments.criteria.base import Context, Leaf, options_of
from segments.criteria.counting import Having
from segments.criteria.sequence import DEED, Deed, read_deed

_KEYS = ("event", "since", "within", "when")


class NotSince(counting.Window, Leaf):
    """The contact did one thing, and since the last time it did, not the other."""

    KEYS: ClassVar[tuple[str, ...]] = ("not_since",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"event": DEED, "since": DEED, "within": {"type": "string"}, "when": counting.WHEN_SCHEMA},
        "required": ["event", "since"],
        "additionalProperties": False,
    }

    event: Deed
    since: Deed

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read the mapping under `not_since`; `within` and `when` are about the last time of `since`."""
        options = options_of(value, _KEYS, context, "{not_since: {event: order.paid, since: cart.updated}}")
        if options is None:
            return None
        missing = [one for one in ("event", "since") if one not in options]
        for one in missing:
            context.problem(f"{one} is missing", f"add {one}: the name of an event")
        if missing:
            return None
        undone, done = (read_deed(options[one], context.under(one)) for one in ("event", "since"))
        window = counting.read_window(options, context)
        return None if undone is None or done is None else cls(event=undone, since=done, **window)

    def clause(self) -> ColumnElement[bool]:
        """One pass over both kinds of events, compared by their last times."""
        done = and_(*deeds.conditions(self.since.names, self.since.where))
        undone = and_(*deeds.conditions(self.event.names, self.event.where))
        last_done = func.max(event.c.occurred_at).filter(done)
        last_undone = func.max(event.c.occurred_at).filter(undone)
        holds = and_(last_done.is_not(None), func.coalesce(last_undone <= last_done, True), *self.times(last_done))
        names = deeds.named(tuple(dict.fromkeys((*self.since.names, *self.event.names))))
        return counting.passing(event, [names, or_(done, undone)], [Having(func.coalesce(holds, False), False)])

    def words(self) -> str:
        """`no order.paid since cart.updated`."""
        return f"no {self.event.words()} since {self.since.words()}{self.lately()}"
