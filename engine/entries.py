"""Putting enrollments into cohorts: rows first, then the workflow is told.

A cohort's workflow id is derived from its row, and an enrollment stays `entering` until its workflow has written it
down, so whoever finds an old `entering` row can tell the workflow again (`engine.cohorts.retell`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import ids
from core.settings import Settings
from engine.versions import Version

CLOSING_MARGIN = timedelta(seconds=60)
"""A workflow outlives the time in which contacts may join its cohort by this much."""


@dataclass(frozen=True)
class NewRow:
    """An enrollment about to be written."""

    id: int
    contact_id: int
    key: str
    exclusive: bool
    entered_at: datetime
    """When it was asked for; with an event, when that was received. Cooldowns count from here."""
    entry_event_id: int | None = None
    entry_event_at: datetime | None = None
    closed_by: int | None = None
    correlation: dict[str, Any] | None = None


@dataclass(frozen=True)
class Cohort:
    """A cohort's row."""

    id: int
    version_id: int
    opened_at: datetime
    broadcast: bool
    control: int
    """The journey's control count when the row was read, and what it meant."""
    state: str


@dataclass(frozen=True)
class Placed:
    """Enrollments that were written into a cohort."""

    cohort: Cohort
    version: Version
    joins: list[list[int]]
    """[enrollment, seed]"""


def state_told(journey: Row[Any]) -> str:
    """What a cohort is told of its journey's state: one that paused itself, because its budget is `spent`, prepares no
    message more, but those that it has paid for leave."""
    return "spent" if journey.state == "paused" and journey.paused_because is not None else str(journey.state)


async def reserve_ids(connection: AsyncConnection, count: int) -> list[int]:
    """Ids for enrollments to come."""
    rows = await connection.execute(
        text("select nextval(pg_get_serial_sequence('enrollment', 'id')) from generate_series(1, :count)"),
        {"count": count},
    )
    return list(rows.scalars())


async def place(
    connection: AsyncConnection, settings: Settings, version: Version, rows: Sequence[NewRow], *, broadcast: bool
) -> list[Placed]:
    """Write enrollments and assign each to a cohort with room: the open one, or new ones.

    An enrollment that the database refuses, because the contact is in already (by another way, or in an earlier try
    of the same work), is left out.
    """
    placed: list[Placed] = []
    rest = list(rows)
    while rest:
        cohort, room = await _cohort_with_room(connection, settings, version.id, broadcast)
        chunk, rest = rest[:room], rest[room:]
        accepted = await _insert(connection, version, cohort, chunk)
        await connection.execute(
            text(
                "update cohort set size = size + :more, "
                "state = case when size + :more >= :limit or state = 'closed' then 'closed' else 'open' end "
                "where id = :id"
            ),
            {"more": len(accepted), "limit": settings.cohort_size, "id": cohort.id},
        )
        joins = [[row.id, ids.seed(row.contact_id)] for row in chunk if row.id in accepted]
        if joins:
            placed.append(Placed(cohort, version, joins))
    return placed


async def _cohort_with_room(
    connection: AsyncConnection, settings: Settings, version_id: int, broadcast: bool
) -> tuple[Cohort, int]:
    if not broadcast:
        await connection.execute(
            text(
                "update cohort set state = 'closed' where version_id = :version and state = 'open' "
                "and opened_at < now() - make_interval(secs => :open)"
            ),
            {"version": version_id, "open": settings.cohort_open_seconds},
        )
        found = (
            await connection.execute(
                text(
                    "select c.id, c.opened_at, c.size, j.control, j.state, j.paused_because from cohort c "
                    "join journey_version v on v.id = c.version_id join journey j on j.id = v.journey_id "
                    "where c.version_id = :version and c.state = 'open' and c.size < :limit "
                    "order by c.id limit 1 for update of c"
                ),
                {"version": version_id, "limit": settings.cohort_size},
            )
        ).first()
        if found:
            cohort = Cohort(found.id, version_id, found.opened_at, broadcast, found.control, state_told(found))
            return cohort, settings.cohort_size - found.size
    made = (
        await connection.execute(
            text(
                "with j as (select j.control, j.state, j.paused_because from journey_version v "
                "join journey j on j.id = v.journey_id where v.id = :version), "
                "made as (insert into cohort (version_id, state, control, broadcast) "
                "select :version, :state, j.control, :broadcast from j returning id, opened_at) "
                "select made.id, made.opened_at, j.control, j.state, j.paused_because from made, j"
            ),
            {"version": version_id, "state": "closed" if broadcast else "open", "broadcast": broadcast},
        )
    ).one()
    return Cohort(made.id, version_id, made.opened_at, broadcast, made.control, state_told(made)), settings.cohort_size


async def _insert(connection: AsyncConnection, version: Version, cohort: Cohort, rows: Sequence[NewRow]) -> set[int]:
    result = await connection.execute(
        text(
            "insert into enrollment (id, contact_id, cohort_id, entered_at, entry_event_id, entry_event_at, closed_by, "
            "journey_id, version_id, exclusive, key, correlation) "
            "select u.id, u.contact, :cohort, u.entered, u.event, u.at, u.closed, :journey, :version, u.exclusive, "
            "u.key, cast(u.correlation as jsonb) from unnest(cast(:ids as bigint[]), cast(:contacts as bigint[]), "
            "cast(:entered as timestamptz[]), cast(:events as bigint[]), cast(:ats as timestamptz[]), "
            "cast(:closed as bigint[]), cast(:exclusives as boolean[]), cast(:keys as text[]), "
            "cast(:correlations as text[])) "
            "as u(id, contact, entered, event, at, closed, exclusive, key, correlation) "
            "on conflict do nothing returning id"
        ),
        {
            "cohort": cohort.id,
            "journey": version.journey_id,
            "version": version.id,
            "ids": [row.id for row in rows],
            "contacts": [row.contact_id for row in rows],
            "entered": [row.entered_at for row in rows],
            "events": [row.entry_event_id for row in rows],
            "ats": [row.entry_event_at for row in rows],
            "closed": [row.closed_by for row in rows],
            "exclusives": [row.exclusive for row in rows],
            "keys": [row.key for row in rows],
            "correlations": [
                msgspec.json.encode(row.correlation).decode() if row.correlation else None for row in rows
            ],
        },
    )
    return set(result.scalars())
