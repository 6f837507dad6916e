"""Asking the database for a report."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database import bounded
from core.documents import did_you_mean
from core.errors import InvalidInput, Problem
from core.schema.journeys import journey
from reports.query import Wanted, build


@dataclass(frozen=True)
class Report:
    """The figures.

    Attributes:
        rows: by slug of dimension and measure, in the order that was asked for. A dimension is null where it has no
            value, such as the journey of a message outside of journeys; a rate is null where nothing was sent.
        truncated: whether there are more rows than the limit.
    """

    rows: list[dict[str, Any]]
    truncated: bool


async def count(connection: AsyncConnection, wanted: Wanted, seconds: int) -> Report:
    """Count what is wanted.

    Args:
        connection: an open transaction; its statements are bounded by `seconds` from here on.
        wanted: by `reports.asking.read`.
        seconds: how long the database may take.

    Raises:
        InvalidInput: a journey that does not exist.
        Unavailable: it took longer.
    """
    await _check_journeys(connection, wanted)
    async with bounded(connection, seconds, "the report", "ask for a shorter period, or raise KASKAD_REPORT_SECONDS"):
        rows = (await connection.execute(build(wanted))).mappings().all()
    return Report([dict(row) for row in rows[: wanted.limit]], len(rows) > wanted.limit)


async def _check_journeys(connection: AsyncConnection, wanted: Wanted) -> None:
    if not wanted.journeys:
        return
    known = (await connection.execute(select(journey.c.name))).scalars().all()
    problems = [
        Problem(f"there is no journey {name[:60]}", did_you_mean(name[:60], list(known)), path="journey")
        for name in wanted.journeys
        if name not in set(known)
    ]
    if problems:
        raise InvalidInput(*problems)
