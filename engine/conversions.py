"""Conversions: the events that journeys are meant to bring about, counted for a time after entering.

The router writes them as it reads the log, in the order of the log, so each is counted exactly once. They need no
workflow, so they count after the journey has ended, too.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.routing import LoggedEvent
from engine.versions import Version, Versions
from segments import eventfilter


async def wanted(connection: AsyncConnection, versions: Versions) -> dict[str, list[Version]]:
    """Event name to the versions for which it is a conversion; all versions ever published, for time may be left."""
    rows = await connection.execute(
        text("select id from journey_version where jsonb_typeof(plan -> 'conversion') = 'object' order by id")
    )
    known = await versions.get_all(connection, list(rows.scalars()))
    found: dict[str, list[Version]] = defaultdict(list)
    for version in known.values():
        if version.plan.conversion is not None:
            found[version.plan.conversion.filter.event].append(version)
    return dict(found)


async def record(
    connection: AsyncConnection, versions: Mapping[str, Sequence[Version]], events: Sequence[LoggedEvent]
) -> int:
    """Write the conversions that are among events of the log; says how many. A repeat changes nothing.

    Of several runs of a contact through one journey, among those that began before the event, the latest that the event
    counts for (its `same:` and its window) has it; so with a run for each cart it is the cart that was paid.
    """
    concerned = [event for event in events if event.name in versions]
    if not concerned:
        return 0
    by_id = {version.id: version for group in versions.values() for version in group}
    runs = await _runs(connection, sorted({event.contact_id for event in concerned}), sorted(by_id))
    rows = []
    for event in concerned:
        latest: dict[int, Any] = {}
        for run in runs.get(event.contact_id, ()):
            if _began(run, event) and _counts(run, event, by_id):
                latest[run.journey_id] = run
        rows += [_row(run, event, by_id[run.version_id]) for run in latest.values()]
    if rows:
        await connection.execute(
            text(
                "insert into conversion (enrollment_id, event_id, occurred_at, contact_id, value, journey_id, "
                "version_id) values (:enrollment, :event, :at, :contact, :value, :journey, :version) "
                "on conflict do nothing"
            ),
            rows,
        )
    return len(rows)


async def _runs(
    connection: AsyncConnection, contact_ids: Sequence[int], version_ids: Sequence[int]
) -> dict[int, list[Any]]:
    """The runs of each contact through versions that have a conversion, oldest first."""
    rows = await connection.execute(
        text(
            "select id, contact_id, journey_id, version_id, entered_at, entry_event_id, correlation from enrollment "
            "where contact_id = any(:contacts) and version_id = any(:versions) order by entered_at, id"
        ),
        {"contacts": list(contact_ids), "versions": list(version_ids)},
    )
    found: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.contact_id].append(row)
    return found


def _began(run: Any, event: LoggedEvent) -> bool:
    if run.entry_event_id is not None:
        return bool(run.entry_event_id < event.id)
    return bool(run.entered_at <= event.received_at)


def _counts(run: Any, event: LoggedEvent, versions: Mapping[int, Version]) -> bool:
    conversion = versions[run.version_id].plan.conversion
    if conversion is None or conversion.filter.event != event.name:
        return False
    if event.received_at > run.entered_at + timedelta(seconds=conversion.within_seconds):
        return False
    return eventfilter.matches(conversion.filter.where, event.properties, run.correlation or {})


def _row(run: Any, event: LoggedEvent, version: Version) -> dict[str, Any]:
    name = version.plan.conversion.value if version.plan.conversion else None
    value = event.properties.get(name) if name else None
    return {
        "enrollment": run.id,
        "event": event.id,
        "at": event.at,
        "contact": event.contact_id,
        "value": _number(value),
        "journey": run.journey_id,
        "version": run.version_id,
    }


def _number(value: Any) -> float | None:
    """A value as it is kept; None for what is no number, or one beyond all that are kept."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
