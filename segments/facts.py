"""How criteria reach the rows that belong to contacts: events, messages, enrollments and whatever comes later.

Every criterion over such rows makes its condition here, so that the same words are fast for everybody, for a range of
contacts and for a few:

    facts.some(event, event.c.name_id == facts.event_name("order.paid"), event.c.occurred_at > …)
    facts.grouped(event, event.c.name_id == …, having=func.sum(event.c.value) > 100)

Both are EXISTS over rows of one contact. PostgreSQL turns such a condition into one semi-join (or, negated, an
anti-join) over the whole table when all contacts are asked about, also when the inner part groups; inside `any` it
builds a hash once, or asks an index for each contact where that would not fit into memory. `IN (… group by …)` knows
no such way out, and an aggregate in a correlated subquery is computed for each contact (docs/decisions/0003).

Whoever asks about some contacts only makes the clause inside `among`: then the inner rows are narrowed to them, too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import ColumnElement, FromClause, ScalarSelect, exists, select

from core.schema.contacts import contact
from core.schema.events import event_name as names

Narrowing = Callable[[ColumnElement[Any]], ColumnElement[bool]]
"""From a column with contact ids to a condition on it."""

_narrowing: ContextVar[Narrowing | None] = ContextVar("narrowing", default=None)


@contextmanager
def among(narrowing: Narrowing) -> Iterator[None]:
    """Clauses that are made inside look only at rows of contacts whose id meets the condition."""
    token = _narrowing.set(narrowing)
    try:
        yield
    finally:
        _narrowing.reset(token)


def event_name(name: str) -> ScalarSelect[int]:
    """The number of an event name, null while no such event has ever come."""
    return select(names.c.id).where(names.c.name == name).scalar_subquery()


def some(
    table: FromClause, *conditions: ColumnElement[bool], owner: ColumnElement[Any] | None = None
) -> ColumnElement[bool]:
    """Whether the contact has at least one row with these conditions; `not_` of it is NOT EXISTS.

    Args:
        table: a table, or a join.
        conditions: beside that the row is the contact's.
        owner: the column with the contact's id; `table.c.contact_id` if None.
    """
    of_contact = table.c.contact_id if owner is None else owner
    return (
        exists().select_from(table).where(of_contact == contact.c.id, *_narrowed(of_contact), *conditions)
    ).correlate(contact)


def grouped(
    table: FromClause,
    *conditions: ColumnElement[bool],
    having: ColumnElement[bool],
    owner: ColumnElement[Any] | None = None,
) -> ColumnElement[bool]:
    """Whether the contact's rows with these conditions, taken together, pass; who has none does not pass.

    For a test that no rows at all pass too (`count < 3`), negate the test of the contrary: `not_(grouped(… >= 3))`.

    Args:
        table: a table, or a join.
        conditions: beside that the row is the contact's.
        having: over aggregates of the rows, such as `func.count() >= 3`; not null.
        owner: the column with the contact's id; `table.c.contact_id` if None.
    """
    of_contact = table.c.contact_id if owner is None else owner
    groups = (
        select(of_contact.label("contact_id"))
        .select_from(table)
        .where(*_narrowed(of_contact), *conditions)
        .group_by(of_contact)
        .having(having)
        .subquery()
    )
    return exists().select_from(groups).where(groups.c.contact_id == contact.c.id).correlate(contact)


def _narrowed(column: ColumnElement[Any]) -> tuple[ColumnElement[bool], ...]:
    narrowing = _narrowing.get()
    return () if narrowing is None else (narrowing(column),)
