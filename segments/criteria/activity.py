"""When a contact was last active, and whether and since when it is known by more than a cookie."""

from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, and_, func, not_, or_, select

from core.schema.contacts import identity
from core.schema.events import event, event_name
from segments import facts
from segments.comparison import Comparison, phrase
from segments.criteria import counting
from segments.criteria.base import Context, Leaf
from segments.criteria.counting import Having

_ACTIVE, _IDENTIFIED, _KNOWN = "contact.last_active_at", "contact.identified_at", "contact.known"
_OURS = (
    *("segment.", "journey.", "consent.requested"),
    *("message.delivered", "message.bounced", "message.complained", "message.unsubscribed"),
)
"""How events begin that are no doing of the contact: what we did, or a mail server. To open, click or answer is one; to
complain and to unsubscribe is to want to hear no more."""
_LATER = {"after": "gt", "gt": "gt", "gte": "gte"}
_EARLIER = {"before": "gte", "lt": "gte", "lte": "gt"}
"""The last time was before a moment if there is none at or behind it."""


class Activity(Leaf):
    """The last event of a contact, or the moment at which it became known, passes every comparison."""

    KEYS: ClassVar[tuple[str, ...]] = (_ACTIVE, _IDENTIFIED, _KNOWN)
    SCHEMA: ClassVar[dict[str, Any]] = {"anyOf": [{"type": "boolean"}, counting.WHEN_SCHEMA]}

    key: str
    tests: tuple[Comparison, ...] = ()
    known: bool = True

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read comparisons with times; `contact.known: true`."""
        if key != _KNOWN:
            return cls(key=key, tests=counting.read_moment(value, context))
        if not isinstance(value, bool):
            context.problem("contact.known is true or false", "write contact.known: true")
            return None
        return cls(key=key, known=value)

    def clause(self) -> ColumnElement[bool]:
        """Over the event log, or over identities."""
        named = identity.c.kind != "anonymous_id"
        if self.key == _KNOWN:
            known = facts.some(identity, named)
            return known if self.known else not_(known)
        if self.key == _IDENTIFIED:
            first = func.min(identity.c.created_at)
            having = [Having(test.on_moment(first), test.for_nothing) for test in self.tests]
            return and_(*(counting.passing(identity, [named], [one]) for one in having))
        return and_(*(_last_active(test) for test in self.tests))

    def words(self) -> str:
        """`last active at is after now-7d`."""
        if self.key == _KNOWN:
            return "is known" if self.known else "is anonymous"
        return phrase(self.key.removeprefix("contact.").replace("_", " "), self.tests)


def _last_active(test: Comparison) -> ColumnElement[bool]:
    """Without grouping the whole log where one event, or none, is an answer."""
    theirs = event.c.name_id.not_in(
        select(event_name.c.id).where(or_(*(event_name.c.name.startswith(one, autoescape=True) for one in _OURS)))
    )
    at = event.c.occurred_at
    if test.operator in _LATER:
        return facts.some(event, theirs, test.on_moment(at, sure=False))
    if test.operator in _EARLIER:
        later = Comparison(operator=_EARLIER[test.operator], operand=test.operand).on_moment(at, sure=False)
        return and_(facts.some(event, theirs), not_(facts.some(event, theirs, later)))
    return counting.passing(event, [theirs], [Having(test.on_moment(func.max(at)), test.for_nothing)])
