"""Broadcasts: letting a segment, everybody, or a list into a journey, page by page.

A row in `broadcast` says who enters and how far it has come. Each page is one transaction (enrollments, their cohort,
the position), so a crash repeats nothing and skips nobody.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from prometheus_client import Counter
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import merging
from core.clock import now
from core.database import Database
from core.errors import Conflict, NotFound
from core.settings import Settings
from engine import reentry, urgency
from engine.cohorts import Cohorts
from engine.entries import NewRow, Placed, place, reserve_ids
from engine.versions import Version, Versions
from journeys.plan import Plan
from segments import page
from segments.criteria import parse
from segments.store import criteria_of

ENTERED = Counter("kaskad_broadcast_entries_total", "Enrollments begun by broadcasts")


async def start(
    connection: AsyncConnection,
    journey: str,
    *,
    occasion: str,
    segment: str | None = None,
    contact_ids: Sequence[int] | None = None,
) -> int | None:
    """Ask for a segment (`all` is everybody) or a list of contacts to enter a journey.

    Args:
        connection: An open transaction.
        journey: The journey's name.
        occasion: What tells this broadcast from others; the same occasion is taken once.
        segment: Who enters; without it and without `contact_ids`, the segment that the journey itself names.
        contact_ids: Who enters, as a list.

    Returns:
        The broadcast's id, or None when this occasion was taken before.

    Raises:
        NotFound: no such journey or segment.
        Conflict: the journey was stopped or says nothing of a segment.
    """
    found = (
        await connection.execute(
            text(
                "select j.state, j.version_id, v.plan -> 'entry' ->> 'segment' as segment, v.plan from journey j "
                "join journey_version v on v.id = j.version_id where j.name = :name"
            ),
            {"name": journey},
        )
    ).first()
    if found is None:
        raise NotFound(f"no journey is called {journey}")
    if found.state in {"finishing", "stopped"}:
        raise Conflict(f"the journey {journey} is {found.state}; resume it first")
    segment = segment or found.segment
    if segment is None and contact_ids is None:
        raise Conflict(f"the journey {journey} names no segment; say which one enters")
    criteria = None
    if contact_ids is None and segment is not None and segment != "all":
        criteria = await criteria_of(connection, segment)
    made = await connection.execute(
        text(
            "insert into broadcast (version_id, criteria, contact_ids, occasion, priority) values "
            "(:version, cast(:criteria as jsonb), cast(:contacts as jsonb), :occasion, :priority) "
            "on conflict (occasion) do nothing returning id"
        ),
        {
            "version": found.version_id,
            "criteria": None if criteria is None else msgspec.json.encode(criteria).decode(),
            "contacts": None if contact_ids is None else msgspec.json.encode(sorted(set(contact_ids))).decode(),
            "occasion": occasion,
            "priority": urgency.of_plan(Plan.model_validate(found.plan), broadcast=True),
        },
    )
    return made.scalar()


async def next_page(database: Database, settings: Settings, cohorts: Cohorts, versions: Versions) -> int | None:
    """Let the next page of an unfinished broadcast in: of the most urgent ones, that whose turn was longest ago. So one
    of millions holds up no other.

    Returns:
        How many contacts the page had; None when there is no broadcast to do.
    """
    async with database.begin() as connection:
        row = (
            await connection.execute(
                text(
                    "select b.id, b.version_id, b.criteria, b.contact_ids, b.position, j.state from broadcast b "
                    "join journey_version v on v.id = b.version_id join journey j on j.id = v.journey_id "
                    "where b.finished_at is null order by b.priority, b.served_at nulls first, b.id limit 1 "
                    "for update of b skip locked"
                )
            )
        ).first()
        if row is None:
            return None
        if row.state in {"finishing", "stopped"}:
            await connection.execute(text("update broadcast set finished_at = now() where id = :id"), {"id": row.id})
            return 0
        version = await versions.get(connection, row.version_id)
        contacts = await _contacts(connection, row, settings.cohort_size)
        placed = await _enter(connection, settings, version, contacts)
        done = len(contacts) < settings.cohort_size
        entered = sum(len(one.joins) for one in placed)
        await connection.execute(
            text(
                "update broadcast set position = :position, entered = entered + :entered, served_at = now(), "
                "finished_at = case when :done then now() end where id = :id"
            ),
            {
                "id": row.id,
                "position": contacts[-1] if contacts else row.position,
                "entered": entered,
                "done": done,
            },
        )
    await cohorts.join(database, placed)
    ENTERED.inc(entered)
    return len(contacts)


async def _contacts(connection: AsyncConnection, row: Row[Any], limit: int) -> list[int]:
    if row.contact_ids is not None:
        return [contact for contact in row.contact_ids if contact > row.position][:limit]
    criteria = None if row.criteria is None else parse(row.criteria)
    return await page(connection, criteria, row.position, limit)


async def _enter(
    connection: AsyncConnection, settings: Settings, version: Version, contacts: Sequence[int]
) -> list[Placed]:
    merged = await merging.current(connection, contacts)
    meant = sorted({merged.get(contact, contact) for contact in contacts})
    there = await connection.execute(text("select id from contact where id = any(:ids) order by id"), {"ids": meant})
    allowed = await _allowed(connection, version, list(there.scalars()))
    fresh = await reserve_ids(connection, len(allowed)) if allowed else []
    exclusive = version.plan.entry.reenter != "always"
    at = now()
    rows = [NewRow(number, contact, "", exclusive, at) for number, contact in zip(fresh, allowed, strict=True)]
    return await place(connection, settings, version, rows, broadcast=True)


async def _allowed(connection: AsyncConnection, version: Version, contacts: Sequence[int]) -> list[int]:
    """Those whom the re-entry rules let in. Who is in now is refused by the database itself."""
    entry = version.plan.entry
    if entry.reenter != "never" and not entry.cooldown_seconds:
        return list(contacts)
    rows = await connection.execute(
        text(
            "select contact_id, max(entered_at) as latest from enrollment "
            "where journey_id = :journey and contact_id = any(:contacts) and key = '' group by contact_id"
        ),
        {"journey": version.journey_id, "contacts": list(contacts)},
    )
    latest: dict[int, datetime] = {row.contact_id: row.latest for row in rows}
    at = now()
    return [one for one in contacts if reentry.allows(entry, latest.get(one), at, running=False)]
