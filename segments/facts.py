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

In a journey a condition may also ask of the event that began the run (`ENTRY`): then it holds or not for each run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    FromClause,
    ScalarSelect,
    bindparam,
    column,
    exists,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql import visitors

from core.schema.contacts import contact
from core.schema.events import event_name as names

Narrowing = Callable[[ColumnElement[Any]], ColumnElement[bool]]
"""From a column with contact ids to a condition on it."""

RUNS = (
    func.unnest(
        bindparam("runs", type_=ARRAY(BigInteger)),
        bindparam("runners", type_=ARRAY(BigInteger)),
        bindparam("entries", type_=ARRAY(JSONB)),
    )
    .table_valued(column("id", BigInteger), column("contact_id", BigInteger), column("entry", JSONB), name="run")
    .render_derived()
)
"""The runs through a journey that are asked about: a statement with `ENTRY` in it joins them with their contacts."""
ENTRY: ColumnElement[Any] = RUNS.c.entry
"""The properties of the event that began a run."""

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
    ).correlate(contact, RUNS)


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
    rows = select(of_contact.label("contact_id")).select_from(table).where(*conditions).group_by(of_contact)
    if _asks_of_entry(*conditions, having):
        # Two runs of one contact count other rows: they are grouped for each run, and found by its contact.
        return rows.where(of_contact == contact.c.id).having(having).correlate(contact, RUNS).exists()
    groups = rows.where(*_narrowed(of_contact)).having(having).subquery()
    return exists().select_from(groups).where(groups.c.contact_id == contact.c.id).correlate(contact)


def _narrowed(column: ColumnElement[Any]) -> tuple[ColumnElement[bool], ...]:
    narrowing = _narrowing.get()
    return () if narrowing is None else (narrowing(column),)


def _asks_of_entry(*clauses: ColumnElement[Any]) -> bool:
    return any(one is ENTRY for clause in clauses for one in visitors.iterate(clause))
