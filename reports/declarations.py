"""What a measure and a dimension are: declarations, from which `reports/query.py` makes SQL.

A source is a table whose rows are counted, and the time that places a row in a period. A row of a source is looked at
once: measures add up over its rows, and dimensions only look names up, so no join can count a row twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Table

from core.schema.effects import conversion
from core.schema.journeys import enrollment
from core.schema.messages import message

Unit = Literal["count", "share", "value"]


@dataclass(frozen=True)
class Source:
    """Rows that are counted.

    Attributes:
        name: in words.
        table: whose rows they are.
        time: the column that says whether a row lies in a period, and on which day.
    """

    name: str
    table: Table
    time: ColumnElement[Any]


MESSAGES = Source("messages", message, message.c.created_at)
"""The ledger. What became of a message counts where the message was written, so that a rate compares like with like."""
ENROLLMENTS = Source("enrollments", enrollment, enrollment.c.entered_at)
"""What became of an enrollment counts where the contact entered."""
CONVERSIONS = Source("conversions", conversion, conversion.c.occurred_at)


@dataclass(frozen=True)
class Measure:
    """A number of the rows of a source.

    Attributes:
        slug: its name in commands and URLs.
        label: its name for people.
        description: what exactly is counted, in a sentence.
        unit: count, or value (of conversions, in whatever unit the events had).
        source: the rows.
        expression: an aggregate that adds up: the sum over parts of the rows is the figure of all. Never null.
    """

    slug: str
    label: str
    description: str
    unit: Unit
    source: Source
    expression: ColumnElement[Any]


@dataclass(frozen=True)
class Rate:
    """A computed measure: one measure divided by another of the same source; null where there is nothing to divide by.

    Attributes:
        part: the slug above the line.
        whole: the slug below it.
    """

    slug: str
    label: str
    description: str
    part: str
    whole: str
    unit: Unit = "share"


AnyMeasure = Measure | Rate


@dataclass(frozen=True)
class Key:
    """A column that rows are grouped by, before any name is looked up.

    Attributes:
        name: one name, one meaning: dimensions share keys.
        of: the expression for each source that has it; `zone` is an IANA name, for what depends on the calendar.
    """

    name: str
    of: Callable[[Source, str], ColumnElement[Any] | None]


@dataclass(frozen=True)
class Dimension:
    """What measures are cut by.

    Attributes:
        slug: its name in commands and URLs.
        label: its name for people.
        description: in a sentence.
        keys: what rows are grouped by.
        shown: from the key columns of a group to what is shown. It looks up by primary key, in a scalar subquery.
    """

    slug: str
    label: str
    description: str
    keys: tuple[Key, ...]
    shown: Callable[..., ColumnElement[Any]]

    def fits(self, source: Source) -> bool:
        """Whether rows of this source can be cut by it."""
        return all(key.of(source, "UTC") is not None for key in self.keys)


def columns(name: str, by_source: Mapping[str, ColumnElement[Any]]) -> Key:
    """A key that is an expression for each source (by its name), whatever the calendar."""
    return Key(name, lambda source, _zone: by_source.get(source.name))


VERSION = Key("version_id", lambda source, _zone: source.table.c.version_id)
"""The journey version; every source has it."""
