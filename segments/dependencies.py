"""What a segment's members can change with, read off the SQL that its criteria become.

So a new criterion needs to declare nothing, and what it really asks is what counts. An event then makes only those
segments look that ask about events of its name.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Select, Table
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, Over

from core.schema.contacts import contact
from core.schema.events import event, event_name
from segments.sqltests import NOW

TIME = "time"
"""Time passing alone changes it."""
BIRTH = "birth"
"""A new contact, about whom nothing is known: part of every dependency, because of criteria that deny something."""
ANY_EVENT = "event:*"

FED = frozenset({"contact", "identity", "consent", "enrollment", "message", "segment_member"})
"""Tables whose changes a trigger notes in segment_look (migration 0003)."""
_DEFINITIONS = frozenset({"event_name", "journey", "journey_version", "segment", "template", "template_version"})
"""Tables that people change by publishing; what depends on a segment that changed is gone through at once."""


def of(clause: ColumnElement[bool]) -> frozenset[str]:
    """`event:NAME` or `event:*`, the names of fed tables, `time`, and always `birth`.

    Rows of a table without a feed come with events or with time: both are named then. What compares contacts with each
    other changes whenever anybody does something; only going through everybody keeps up with that.
    """
    if compares(clause):
        return frozenset({TIME})
    found = {BIRTH}
    if any(_is_now(one) for one in visitors.iterate(clause)):
        found.add(TIME)
    for table in _tables(clause):
        if table.name in FED:
            found.add(table.name)
        elif table is not event and table.name not in _DEFINITIONS:
            found |= {ANY_EVENT, TIME}
    for query in visitors.iterate(clause):
        if isinstance(query, Select) and any(event in set(_tables(one)) for one in query.get_final_froms()):
            found |= {f"event:{name}" for name in _names(query)} or {ANY_EVENT}
    if ANY_EVENT in found:
        found = {ANY_EVENT, *(one for one in found if not one.startswith("event:"))}
    return frozenset(found)


def compares(clause: ColumnElement[bool]) -> bool:
    """Whether contacts are compared with each other (a window over all of them): to ask about one then costs as much as
    to ask about everybody."""
    return any(isinstance(one, Over) and one.partition_by is None for one in visitors.iterate(clause))


def touched_by(depends: Iterable[str], event_name: str) -> bool:
    """Whether an event of this name can change the membership."""
    return ANY_EVENT in depends or f"event:{event_name}" in depends


def _is_now(element: Any) -> bool:
    return isinstance(element, BindParameter) and element.key == NOW.key


def _tables(element: Any) -> Iterator[Table]:
    """The tables, but contact only where more is asked than who it is."""
    for one in visitors.iterate(element):
        if isinstance(one, Table):
            if one is not contact:
                yield one
        elif one is not contact.c.id and isinstance(table := getattr(one, "table", None), Table):
            yield table


def _names(query: Select[Any]) -> set[str]:
    """The event names that a query asks for; none if they cannot be told."""
    names: set[str] = set()
    for one in visitors.iterate(query):
        if not isinstance(one, Select) or event_name not in one.get_final_froms():
            continue
        asked = {
            value
            for test in visitors.iterate(one)
            if isinstance(test, BinaryExpression) and test.left is event_name.c.name
            for value in _values(test)
        }
        if not asked:
            return set()
        names |= asked
    return names


def _values(test: BinaryExpression[Any]) -> tuple[str, ...]:
    value = getattr(test.right, "value", None)
    if test.operator is operators.eq and isinstance(value, str):
        return (value,)
    if test.operator is operators.in_op and isinstance(value, (list, tuple)):
        return tuple(value)
    return ()
