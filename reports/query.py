"""From what is asked for to one SQL statement. Pure.

Each source is grouped by the keys first, which touches every row once and joins nothing; the groups of all sources are
put together, and only then names are looked up, once a group. So figures do not depend on what stands beside them, and
a plan (which is large) is read once a group instead of once a message.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Select,
    Subquery,
    cast,
    func,
    literal,
    select,
    union_all,
)

from core.schema.journeys import journey, journey_version
from core.schema.messages import message
from reports.declarations import MESSAGES, AnyMeasure, Dimension, Key, Measure, Rate, Source
from reports.measures.registry import BY_SLUG


@dataclass(frozen=True)
class Wanted:
    """What a report is asked for; `reports.asking` checks it.

    Attributes:
        measures: at least one, in the order of the columns.
        dimensions: in the order of the columns; rows come in their order.
        since, until: the period, `until` not included; aware.
        zone: the IANA name of the time zone that days are counted in.
        limit: rows at most.
        journeys: only these, by name; all if empty.
        channels: only messages of these; all if empty.
    """

    measures: tuple[AnyMeasure, ...]
    dimensions: tuple[Dimension, ...]
    since: datetime
    until: datetime
    zone: str
    limit: int
    journeys: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


def parts(measures: tuple[AnyMeasure, ...]) -> tuple[Measure, ...]:
    """The counted measures that these are made of, each once."""
    found: dict[str, Measure] = {}
    for measure in measures:
        slugs = (measure.part, measure.whole) if isinstance(measure, Rate) else (measure.slug,)
        for slug in slugs:
            part = BY_SLUG[slug]
            if not isinstance(part, Measure):
                raise TypeError(f"{measure.slug} is made of {slug}, which is computed itself")
            found[slug] = part
    return tuple(found.values())


def build(wanted: Wanted) -> Select[Any]:
    """The statement: columns named by slug, dimensions first; one row more than the limit where there are more."""
    counted = parts(wanted.measures)
    keys = tuple({key.name: key for dimension in wanted.dimensions for key in dimension.keys}.values())
    sources = tuple({part.source.name: part.source for part in counted}.values())
    groups = union_all(*(_of_source(source, counted, keys, wanted) for source in sources)).subquery("groups")
    shown = [
        dimension.shown(*(groups.c[_key(key)] for key in dimension.keys)).label(dimension.slug)
        for dimension in wanted.dimensions
    ]
    # Names are a level of their own: groups of two versions of a journey are added up by the journey's name.
    named = select(*shown, *(groups.c[_part(part)] for part in counted)).subquery("named")
    names = [named.c[dimension.slug] for dimension in wanted.dimensions]
    figures = [_figure(measure, named).label(measure.slug) for measure in wanted.measures]
    return (
        select(*names, *figures)
        .group_by(*names)
        .order_by(*(name.nulls_last() for name in names))
        .limit(wanted.limit + 1)
    )


def _of_source(source: Source, counted: tuple[Measure, ...], keys: tuple[Key, ...], wanted: Wanted) -> Select[Any]:
    """The figures of one source by its keys, and nothing for the measures of others."""
    columns = [_expression(key, source, wanted.zone).label(_key(key)) for key in keys]
    figures = [(part.expression if part.source is source else literal(0)) for part in counted]
    statement = select(
        *columns, *(cast(figure, _type(part)).label(_part(part)) for figure, part in zip(figures, counted, strict=True))
    ).select_from(source.table)
    statement = statement.where(source.time >= wanted.since, source.time < wanted.until)
    if wanted.journeys:
        versions = select(journey_version.c.id).join(journey, journey.c.id == journey_version.c.journey_id)
        statement = statement.where(
            source.table.c.version_id.in_(versions.where(journey.c.name.in_(wanted.journeys)).correlate(None))
        )
    if wanted.channels and source is MESSAGES:
        statement = statement.where(message.c.channel.in_(wanted.channels))
    # By name: a bound parameter in the expression would make another expression of it.
    return statement.group_by(*(_key(key) for key in keys))


def _expression(key: Key, source: Source, zone: str) -> ColumnElement[Any]:
    expression = key.of(source, zone)
    if expression is None:
        raise ValueError(f"{source.name} have no {key.name}")
    return expression


def _figure(measure: AnyMeasure, rows: Subquery) -> ColumnElement[Any]:
    if isinstance(measure, Rate):
        part, whole = (func.sum(rows.c[_part(BY_SLUG[slug])]) for slug in (measure.part, measure.whole))
        return cast(part, Double) / cast(func.nullif(whole, 0), Double)
    return cast(func.sum(rows.c[_part(measure)]), _type(measure))


def _type(measure: AnyMeasure) -> type[BigInteger] | type[Double[float]]:
    return BigInteger if measure.unit == "count" else Double


def _key(key: Key) -> str:
    return f"key_{key.name}"


def _part(measure: AnyMeasure) -> str:
    return f"part_{measure.slug}"
