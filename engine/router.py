"""The router: reads the event log in order and turns events into entries and news for cohorts.

A round reads what has gathered, decides (`engine.routing`), writes the new enrollments in one transaction, tells the
cohorts, and only then moves its cursor. A crash at any point repeats the round: enrollments that exist are not made
again, and cohorts ignore what they have heard. While a round is under way the next one gathers, so throughput grows
with load. One router is at work at a time; others stand by for its lock.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog
from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.service import RPCError

from contacts import identities, merging
from core import eventlog
from core.database import Database
from core.errors import Unavailable
from core.settings import Settings
from engine import conversions, runs
from engine.cohorts import Cohorts
from engine.entries import NewRow, Placed, place, reserve_ids
from engine.routing import (
    ENTER,
    Enrolled,
    LoggedEvent,
    NewEnrollment,
    Round,
    Routed,
    Unrouted,
    subscriptions_by_event,
    tried,
)
from engine.versions import Version, Versions
from journeys.plan import ANY_EVENT
from segments import matching
from segments.criteria import parse

ROUTED = Counter("kaskad_router_events_total", "Events read from the log")
ENTERED = Counter("kaskad_router_entries_total", "Enrollments begun by the router")
HEARD = Counter("kaskad_router_heard_total", "Events told to cohorts")
LAG = Gauge("kaskad_router_lag_events", "Events in the log that are not routed yet, when the last round began")
UNROUTED = Counter("kaskad_router_unrouted_total", "Events left out because they could not be taken in")
ROUND_SECONDS = Histogram("kaskad_router_round_seconds", "How long a round takes")
log = structlog.get_logger()

_ROUND_LIMIT = 5000
_MOST_UNROUTED = 100
"""So many events of a round may be left out; if more fail, it is not they that are wrong."""
# What goes away by itself once a server is back.
_PASSING = (Unavailable, OperationalError, InterfaceError, RPCError, OSError)


@dataclass
class _Routes:
    """Who listens to which event, as of a state of the journeys."""

    signature: tuple[int, ...] = ()
    entrances: dict[str, list[Version]] = field(default_factory=dict)
    listeners: frozenset[str] = frozenset()
    conversions: dict[str, list[Version]] = field(default_factory=dict)
    """Event name to the versions for which it is a conversion."""


class Router:
    """Routes the event log of one installation."""

    def __init__(self, database: Database, settings: Settings, cohorts: Cohorts, versions: Versions) -> None:
        self._database = database
        self._settings = settings
        self._cohorts = cohorts
        self._versions = versions
        self._routes = _Routes()

    async def round(self) -> int:
        """Route what has gathered in the log, up to a bounded number of events.

        Returns:
            How many events were read; 0 when there was nothing new.
        """
        async with self._database.begin() as connection:
            position, last = await _position(connection)
            if position == last:
                return 0
            await self._refresh_routes(connection)
            begin, until = await eventlog.next_stretch(connection, position, last)
            events, end = await self._read(connection, begin, until) if begin < until else ([], until)
        with ROUND_SECONDS.time():
            unrouted = await self._route_all(events)
            async with self._database.begin() as connection:
                await _keep(connection, unrouted)
                await connection.execute(
                    text(
                        "update log_cursor set position = greatest(position, :end), moved_at = now() "
                        "where reader = 'router'"
                    ),
                    {"end": end},
                )
        ROUTED.inc(end - position)
        return end - position

    async def _route_all(self, events: Sequence[LoggedEvent]) -> list[Unrouted]:
        """Route events, all but those that cannot be; gives these. One that fails must not hold up all others for ever.

        Raises:
            Exception: it is not the events' fault: what they fail of passes, or none of them can be routed, or many
                cannot.
        """
        failed: list[Unrouted] = []

        async def route(some: Sequence[LoggedEvent]) -> None:
            try:
                await self._route(some)
            except _PASSING:
                raise
            except Exception as error:
                if len(some) == 1:
                    failed.append(Unrouted(some[0], None, error))
                if len(failed) > min(_MOST_UNROUTED, len(events) - 1):
                    raise
                if len(some) > 1:  # in the order of the log; what is routed twice takes effect once
                    await route(some[: len(some) // 2])
                    await route(some[len(some) // 2 :])

        if events:
            await route(events)
        return failed

    async def _route(self, events: Sequence[LoggedEvent]) -> None:
        async with self._database.begin() as connection:
            # For a moment after PostgreSQL has restarted there may be two routers: the one whose lock was lost with its
            # session does not know yet. They take turns here, so that the second sees what the first has written.
            await connection.execute(text("select from log_cursor where reader = 'router' for update"))
            events = await _follow(connection, events)
            routed, cohort_of = await self._decide(connection, events)
            placed = await self._write(connection, routed)
            await conversions.record(connection, self._routes.conversions, events)
            await _children(connection, routed, placed)
            await _keep(connection, routed.unrouted)
        joined = {enrollment: one.cohort.id for one in placed for enrollment, _ in one.joins}
        dropped = {entry.id for entry in routed.entries} - joined.keys()
        await self._cohorts.join(self._database, placed)
        if routed.unsure:
            await self._cohorts.retell(self._database, self._versions, sorted(routed.unsure))
        news: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        for row in routed.heard:
            if row[1] not in dropped:
                news[joined.get(row[1]) or cohort_of[row[1]]].append(row)
        await asyncio.gather(*(self._cohorts.hear(cohort, heard) for cohort, heard in news.items()))
        ENTERED.inc(len(joined))
        HEARD.inc(len(routed.heard))

    async def _refresh_routes(self, connection: AsyncConnection) -> None:
        """Read the journeys anew when one was published, paused, resumed or stopped."""
        signature = tuple(
            (
                await connection.execute(
                    text(
                        "select (select coalesce(max(id), 0) from journey_version), "
                        "(select coalesce(sum(control), 0) from journey), "
                        "(select coalesce(sum(version_id), 0) from journey)"
                    )
                )
            ).one()
        )
        if signature == self._routes.signature:
            return
        current = list(
            (
                await connection.execute(
                    text(
                        "select version_id from journey where state in ('active', 'paused') and version_id is not null"
                    )
                )
            ).scalars()
        )
        running = list(
            (
                await connection.execute(
                    text(
                        "select version_id from cohort where state <> 'finished' union "
                        "select version_id from broadcast where finished_at is null union "
                        "select version_id from journey_move"
                    )
                )
            ).scalars()
        )
        known = await self._versions.get_all(connection, sorted({*current, *running}))
        entrances: dict[str, list[Version]] = defaultdict(list)
        for number in sorted(current):
            version = known[number]
            entrances[ENTER].append(version)
            if version.plan.entry.event is not None:
                entrances[version.plan.entry.event.event].append(version)
        listeners = frozenset(name for version in known.values() for name in subscriptions_by_event(version))
        wanted = await conversions.wanted(connection, self._versions)
        self._routes = _Routes(signature, dict(entrances), listeners, wanted)

    async def _read(self, connection: AsyncConnection, position: int, last: int) -> tuple[list[LoggedEvent], int]:
        """The next events that anybody listens to, and the position after all that were read.

        None that is younger than `last`: the journeys were read after that, so a journey that was published before
        its event is always known here.
        """
        routes = self._routes
        wanted = sorted({ENTER, *routes.entrances, *routes.listeners, *routes.conversions} - {ANY_EVENT})
        everything = ANY_EVENT in routes.listeners
        rows = (
            await connection.execute(
                text(
                    "with next as (select id, occurred_at, received_at, contact_id, name_id from event "
                    "where id > :position and id <= :last order by id limit :limit) "
                    "select next.id, next.occurred_at, next.received_at, next.contact_id, n.name, "
                    "case when n.name = any(:wanted) then (select e.properties from event e "
                    "where e.id = next.id and e.occurred_at = next.occurred_at) end as properties "
                    "from next join event_name n on n.id = next.name_id order by next.id"
                ),
                {"position": position, "last": last, "limit": _ROUND_LIMIT, "wanted": wanted},
            )
        ).all()
        if not rows:
            return [], last
        names = set(wanted)
        events = [
            LoggedEvent(row.id, row.occurred_at, row.received_at, row.contact_id, row.name, row.properties or {})
            for row in rows
            if everything or row.name in names
        ]
        return events, rows[-1].id

    async def _decide(
        self, connection: AsyncConnection, events: Sequence[LoggedEvent]
    ) -> tuple[Routed, dict[int, int]]:
        enrolled = await self._enrolled(connection, events)
        versions = await self._versions.get_all(connection, sorted({one.version_id for one in enrolled}))
        entrances = self._routes.entrances
        allowed = await self._allowed(connection, events)
        most_entries = sum(len(entrances.get(event.name, ())) for event in events)
        fresh = iter(await reserve_ids(connection, most_entries) if most_entries else [])
        current = {version.id: version for group in entrances.values() for version in group}
        work = Round(
            {**versions, **current},
            entrances,
            enrolled,
            lambda version, contact: contact in allowed[version],
            lambda: next(fresh),
        )
        for event in events:
            work.take(event)
        return work.end(), {one.id: one.cohort_id for one in enrolled}

    async def _allowed(self, connection: AsyncConnection, events: Sequence[LoggedEvent]) -> dict[int, set[int]]:
        """Version id to the contacts of this round that meet its entry criteria."""
        candidates: dict[int, set[int]] = defaultdict(set)
        by_id: dict[int, Version] = {}
        for event in events:
            for version in self._routes.entrances.get(event.name, ()):
                entry = version.plan.entry
                if entry.criteria is None or entry.event is None or event.name == ENTER:
                    continue
                if tried(entry.event, event, {}) is True:
                    candidates[version.id].add(event.contact_id)
                    by_id[version.id] = version
        return {
            number: await matching(connection, parse(by_id[number].plan.entry.criteria), sorted(contacts))
            for number, contacts in candidates.items()
        }

    async def _enrolled(self, connection: AsyncConnection, events: Sequence[LoggedEvent]) -> list[Enrolled]:
        """The enrollments that may hear the events, and those that re-entry rules look at."""
        entering = {v.journey_id for event in events for v in self._routes.entrances.get(event.name, ())}
        rows = await connection.execute(
            text(
                "select id, contact_id, cohort_id, version_id, journey_id, key, entered_at, entry_event_id, closed_by, "
                "finished_at is not null as finished, state = 'entering' as entering, correlation from enrollment "
                "where contact_id = any(:contacts) and (finished_at is null or journey_id = any(:entering)) order by id"
            ),
            {"contacts": sorted({event.contact_id for event in events}), "entering": sorted(entering)},
        )
        return [Enrolled(**{**row._mapping, "correlation": row.correlation or {}}) for row in rows]

    async def _write(self, connection: AsyncConnection, routed: Routed) -> list[Placed]:
        """Write closings, then entries, which may take the place of what was closed; gives the cohorts to be told."""
        if routed.closed:
            await connection.execute(
                text(
                    "update enrollment e set closed_by = u.event from unnest(cast(:ids as bigint[]), "
                    "cast(:events as bigint[])) as u(id, event) where e.id = u.id and e.closed_by is null"
                ),
                {"ids": list(routed.closed), "events": list(routed.closed.values())},
            )
        by_version: dict[int, list[NewEnrollment]] = defaultdict(list)
        for entry in routed.entries:
            by_version[entry.version.id].append(entry)
        placed: list[Placed] = []
        for entries in by_version.values():
            rows = [
                NewRow(
                    e.id,
                    e.contact_id,
                    e.key,
                    e.exclusive,
                    e.event.received_at,
                    e.event.id,
                    e.event.at,
                    routed.closed.get(e.id),
                    e.correlation,
                )
                for e in entries
            ]
            placed += await place(connection, self._settings, entries[0].version, rows, broadcast=False)
        return placed


async def _keep(connection: AsyncConnection, unrouted: Sequence[Unrouted]) -> None:
    """Write down which events could not be taken in. Only the error's name is kept: its words may be a contact's."""
    for one in unrouted:
        UNROUTED.inc()
        log.error("event not routed", event_id=one.event.id, version=one.version_id, exc_info=one.error)
        await connection.execute(
            text(
                "insert into unrouted_event (event_id, version_id, occurred_at, error) values "
                "(:event, :version, :at, :error) on conflict do nothing"
            ),
            {
                "event": one.event.id,
                "version": one.version_id or 0,
                "at": one.event.at,
                "error": type(one.error).__name__,
            },
        )


async def _position(connection: AsyncConnection) -> tuple[int, int]:
    """How far the log is routed, and where it ends."""
    row = (
        await connection.execute(
            text(
                "select position, (select coalesce(max(id), 0) from event) as last from log_cursor "
                "where reader = 'router'"
            )
        )
    ).first()
    if row is None:
        await connection.execute(
            text("insert into log_cursor (reader, position) values ('router', 0) on conflict do nothing")
        )
        return await _position(connection)
    LAG.set(row.last - row.position)
    return row.position, row.last


async def _follow(connection: AsyncConnection, events: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    """The events with the contacts that theirs have been merged into since they were read."""
    merged = await merging.current(connection, sorted({event.contact_id for event in events}))
    return [
        replace(event, contact_id=merged[event.contact_id]) if event.contact_id in merged else event for event in events
    ]


async def _children(connection: AsyncConnection, routed: Routed, placed: Sequence[Placed]) -> None:
    """Note whose entry another enrollment asked for, and tell those who asked in vain. The last of its transaction."""
    joined = {enrollment for one in placed for enrollment, _ in one.joins}
    asked = [entry for entry in routed.entries if entry.event.name == ENTER and "parent" in entry.event.properties]
    children = [(one.id, int(one.event.properties["parent"])) for one in asked if one.id in joined]
    if children:
        await runs.remember(connection, children)
    refused = [*routed.refused, *(one.event for one in asked if one.id not in joined)]
    vain = [(event.contact_id, str(event.properties["journey"]), int(event.properties["parent"])) for event in refused]
    if vain:
        await identities.hold_off_erasure(connection)
        await runs.refuse(connection, vain)
