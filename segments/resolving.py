"""Filling in the criteria of the segments that criteria name, and what stands in the way of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import InvalidInput, Problem
from core.schema.segments import segment
from segments import criteria as language
from segments.criteria import Criteria
from segments.criteria.base import Leaf
from segments.criteria.segment import Segment

NESTING_LIMIT = 10
SIZE_LIMIT = 1000
"""Of how many criteria a question may be made up, those of the segments it names among them. SQL grows with it, and
ten segments that name ten others each, four times over, would be ten thousand."""

_VALUES_LIMIT = 30_000
"""Of the values of a statement; PostgreSQL takes 65,535, and two segments are compared by one statement."""


@dataclass(frozen=True)
class _Filled:
    criteria: Criteria
    size: int
    height: int
    """How many segments lie inside each other."""


async def resolve(connection: AsyncConnection, criteria: Criteria, inside: tuple[str, ...] = ()) -> Criteria:
    """The criteria with those of the segments they name filled in, so that they can become SQL.

    Args:
        connection: an open transaction.
        criteria: as parsed.
        inside: names of segments whose criteria these are; naming one of them again is refused.

    Raises:
        InvalidInput: segments that contain each other, too long a chain of them, or too many criteria in all.
    """
    if not segments_of(criteria):
        return criteria
    return _filled(criteria, await _contained(connection, criteria), inside, {}).criteria


async def problems_of(
    connection: AsyncConnection, criteria: Criteria, path: str, inside: tuple[str, ...] = ()
) -> list[Problem]:
    """Why criteria cannot be asked: names that do not exist, types that do not fit, segments that contain too much.

    Args:
        connection: an open transaction.
        criteria: as parsed.
        path: JSON Pointer of where they stand.
        inside: as in `resolve`.
    """
    if found := await language.check(connection, criteria.references()):
        return found
    try:
        await ask(connection, criteria, inside)
    except InvalidInput as error:
        return [replace(one, mend="name another segment, or fewer", path=path) for one in error.problems]
    return []


async def ask(connection: AsyncConnection, criteria: Criteria, inside: tuple[str, ...] = ()) -> None:
    """See that PostgreSQL could be asked. Raises InvalidInput like `resolve`, and where it could not."""
    clause = (await resolve(connection, criteria, inside)).clause()
    dialect = psycopg.dialect()  # type: ignore[no-untyped-call]
    values = len(clause.compile(dialect=dialect).params or {})
    if values > _VALUES_LIMIT:
        raise InvalidInput(f"the question has {values:,} values, more than {_VALUES_LIMIT:,}")


def segments_of(criteria: Criteria) -> set[str]:
    """The segments that criteria name, those inside these not among them."""
    return {reference.name for reference in criteria.references() if reference.kind == "segment"}


def around(names: set[str], named: Mapping[str, set[str]]) -> set[str]:
    """These segments, and all that name them, themselves or through others.

    Args:
        names: of segments.
        named: of each segment, which it names.
    """
    found, before = set(names), set[str]()
    while found != before:
        before = set(found)
        found |= {one for one, inner in named.items() if inner & found}
    return found


async def _contained(connection: AsyncConnection, criteria: Criteria) -> dict[str, Criteria]:
    """The criteria of all segments that these name, themselves or through others."""
    known: dict[str, Criteria] = {}
    asked: set[str] = set()
    wanted = segments_of(criteria)
    while wanted:
        rows = await connection.execute(
            select(segment.c.name, segment.c.criteria).where(
                segment.c.name.in_(sorted(wanted)), segment.c.criteria.is_not(None)
            )
        )
        found = {name: language.parse(data) for name, data in rows}
        known |= found
        asked |= wanted
        wanted = {name for one in found.values() for name in segments_of(one)} - asked
    return known


def _filled(
    criteria: Criteria, known: Mapping[str, Criteria], inside: tuple[str, ...], made: dict[str, _Filled]
) -> _Filled:
    size = height = 0

    def fill(one: Criteria) -> Criteria:
        nonlocal size, height
        if not isinstance(one, Segment) or one.name not in known:
            size += isinstance(one, Leaf)
            return one
        inner = _segment(one.name, known, inside, made)
        size, height = size + inner.size, max(height, inner.height + 1)
        return one.model_copy(update={"criteria": inner.criteria})

    whole = criteria.rebuilt(fill)
    if size > SIZE_LIMIT:
        where = f" in {' → '.join(inside)}" if inside else ""
        raise InvalidInput(
            Problem(f"{size:,} criteria, those of segments inside among them, more than {SIZE_LIMIT:,}{where}")
        )
    return _Filled(whole, size, height)


def _segment(name: str, known: Mapping[str, Criteria], inside: tuple[str, ...], made: dict[str, _Filled]) -> _Filled:
    """A segment filled in, each only once, wherever it is named."""
    chain = (*inside, name)
    if name in inside:
        raise InvalidInput(f"the segment {name} would contain itself: {' → '.join(chain)}")
    if name not in made and len(chain) <= NESTING_LIMIT:
        made[name] = _filled(known[name], known, chain, made)
    if name not in made or len(chain) + made[name].height > NESTING_LIMIT:
        raise InvalidInput(f"segments inside segments more than {NESTING_LIMIT} deep: {' → '.join(chain)}")
    return made[name]
