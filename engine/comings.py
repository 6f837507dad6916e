"""Journeys that begin by themselves: members of segments who come and go, dates of contacts, recurrence rules, and
members who are let in once when a journey is published. Duties of the router.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import eventlog
from core.clock import now
from core.database import Database
from core.errors import Conflict, NotFound
from engine import broadcasts
from engine.routing import ENTER
from engine.versions import Version, Versions
from journeys import recurrence
from journeys.calendar import date_due
from journeys.plan import Plan
from segments import matching, naming, tracking
from segments.criteria import parse

log = structlog.get_logger()

_CATCH_UP = timedelta(hours=24)
"""What fell due while nobody was at work is made up for within this time."""
_LOOK_LIMIT = 5000
_TOO_FAR = 50_000
"""Events behind which contacts are not looked at one by one any more; going through everybody finds them."""
_PAGE = 5000
_DATES_SECONDS = 60.0
_DATES_REST = 20
"""How long to leave contacts' dates alone, and how many times as long as looking through them took."""
_DAY = timedelta(days=1)


# --- members of segments


def segments_heard(plan: Plan) -> set[str] | None:
    """The segments whose comings and goings a plan listens to; None for all of them."""
    filters = [one.filter for one in plan.subscriptions]
    if plan.entry.event is not None:
        filters.append(plan.entry.event)
    if plan.conversion is not None:
        filters.append(plan.conversion.filter)
    return _union(naming.heard(one.event, one.where) for one in filters)


def _union(parts: Iterable[set[str] | None]) -> set[str] | None:
    whole: set[str] = set()
    for part in parts:
        if part is None:
            return None
        whole |= part
    return whole


class Tracker:
    """Keeps an eye on the segments that journeys listen to."""

    def __init__(self, database: Database, versions: Versions) -> None:
        self._database = database
        self._versions = versions
        self._known: tuple[int, ...] | None = None
        self._tracks = False
        self._questions = tracking.Questions()

    async def track(self) -> int:
        """Look at the contacts to whom something happened, then at a page of those of whom a fact changed.

        Returns:
            How much there was to do; 0 for nothing.
        """
        await self._listen()
        if not self._tracks:
            return 0
        done = await self._look()
        async with self._database.begin() as connection:
            done += await tracking.look_on(connection, self._questions)
        return done

    async def sweep(self) -> bool:
        """Go through everybody for the segment whose turn it is, if it is anyone's."""
        if not self._tracks:
            return False
        async with self._database.begin() as connection:
            return await tracking.sweep(connection)

    async def _listen(self) -> None:
        """Find out which segments are listened to, when the journeys have changed."""
        async with self._database.begin() as connection:
            rows = await connection.execute(
                text(
                    "select version_id from journey where state in ('active', 'paused') and version_id is not null "
                    "union select version_id from cohort where state <> 'finished' "
                    "union select version_id from journey_move order by 1"
                )
            )
            present = tuple(rows.scalars())
            signature = (*present, await _segments_signature(connection))
            if signature == self._known:
                return
            known = await self._versions.get_all(connection, list(present))
            names = _union(segments_heard(version.plan) for version in known.values())
            await tracking.listen(connection, names)
            self._tracks = await tracking.tracks(connection)
            if not self._tracks:
                await connection.execute(text("delete from log_cursor where reader = 'segments'"))
            signature = (*present, await _segments_signature(connection))
        self._known = signature

    async def _look(self) -> int:
        async with self._database.begin() as connection:
            position = await _cursor(connection, "segments", "(select coalesce(max(id), 0) from event)")
            last = (await connection.execute(text("select coalesce(max(id), 0) from event"))).scalar_one()
            if last - position > _TOO_FAR:
                position = last
                await connection.execute(text("update segment set sweep_due_at = now() where tracking is not null"))
            rows = (
                await connection.execute(
                    text(
                        "select e.id, e.contact_id, n.name from (select id, contact_id, name_id from event "
                        "where id > :position and id <= :last order by id limit :limit) e "
                        "join event_name n on n.id = e.name_id order by e.id"
                    ),
                    {"position": position, "last": last, "limit": _LOOK_LIMIT},
                )
            ).all()
            await _move_cursor(connection, "segments", rows[-1].id if rows else position)
            if rows:
                await tracking.look_at(connection, [(row.contact_id, row.name) for row in rows], self._questions)
        return len(rows)


async def _segments_signature(connection: AsyncConnection) -> int:
    """Changes when segments begin or cease to be asked for, or come or go."""
    row = await connection.execute(
        text(
            "select hashtext(string_agg(id || coalesce(tracking, '') || coalesce(kept_until > now(), false) "
            "|| coalesce(rests_until > now(), false), ',' "
            "order by id)) from segment"
        )
    )
    return int(row.scalar_one() or 0)


async def _cursor(connection: AsyncConnection, reader: str, beginning: str) -> int:
    """Where a reader stands; it begins at an SQL expression of ours."""
    await connection.execute(
        text(
            f"insert into log_cursor (reader, position) values (:reader, {beginning}) "  # noqa: S608 -- a constant
            "on conflict do nothing"
        ),
        {"reader": reader},
    )
    row = await connection.execute(
        text("select position from log_cursor where reader = :reader for update"), {"reader": reader}
    )
    return int(row.scalar_one())


async def _move_cursor(connection: AsyncConnection, reader: str, position: int) -> None:
    await connection.execute(
        text("update log_cursor set position = :position, moved_at = now() where reader = :reader"),
        {"reader": reader, "position": position},
    )


# --- those who are in already


async def let_members_in(database: Database) -> None:
    """Begin the broadcasts that publishing asked for: for a segment's present members, once each."""
    async with database.begin() as connection:
        rows = await connection.execute(
            text(
                "select w.name, w.occasion from (select j.name, 'backfill:' || j.id || ':' || j.backfills as occasion "
                "from journey j where j.backfills > 0 and j.state = 'active' union all "
                "select j.name, 'present:' || j.id || ':' || (v.plan -> 'entry' ->> 'segment') from journey j "
                "join journey_version v on v.id = j.version_id "
                "where j.state = 'active' and (v.plan -> 'entry' ->> 'present') = 'true') w "
                "where not exists (select from broadcast b where b.occasion = w.occasion)"
            )
        )
        for name, occasion in rows.all():
            try:
                await broadcasts.start(connection, name, occasion=occasion)
            except (NotFound, Conflict) as reason:
                log.warning("members were not let in", journey=name, reason=str(reason))


# --- dates and recurrence rules


class Almanac:
    """Lets contacts in whose day has come, and starts broadcasts whose rule falls due."""

    def __init__(self, database: Database, versions: Versions) -> None:
        self._database = database
        self._versions = versions
        self._rests: dict[int, float] = {}
        """Journey to when its contacts' dates are looked through next: that reads all contacts."""

    async def turn(self) -> None:
        """Do what has fallen due since the last time."""
        async with self._database.begin() as connection:
            rows = await connection.execute(
                text(
                    "select j.version_id from journey j join journey_version v on v.id = j.version_id "
                    "where j.state = 'active' and (v.plan -> 'entry' ->> 'rrule' is not null "
                    "or v.plan -> 'entry' -> 'date' ->> 'attribute' is not null)"
                )
            )
            known = await self._versions.get_all(connection, list(rows.scalars()))
        for version in known.values():
            if version.plan.entry.rrule is not None:
                await self._recur(version)
            elif time.monotonic() >= self._rests.get(version.id, 0.0):
                begun = time.monotonic()
                await self._remember(version)
                ended = time.monotonic()
                self._rests[version.id] = ended + max(_DATES_SECONDS, _DATES_REST * (ended - begun))

    async def _recur(self, version: Version) -> None:
        entry = version.plan.entry
        async with self._database.begin() as connection:
            since, until = await _window(connection, f"rule:{version.journey_id}")
            moment = recurrence.following(entry.rrule or "", entry.zone, since)
            while moment is not None and moment <= until:
                try:
                    await broadcasts.start(connection, version.journey, occasion=f"rule:{version.journey_id}:{moment}")
                except (NotFound, Conflict) as reason:
                    log.warning("scheduled run left out", journey=version.journey, reason=str(reason))
                moment = recurrence.following(entry.rrule or "", entry.zone, moment)

    async def _remember(self, version: Version) -> None:
        """Let those in whose day came; by events of the log, in the transaction that says up to when it was done."""
        async with self._database.begin() as connection:
            since, until = await _window(connection, f"date:{version.journey_id}")
            contacts = [contact async for contact in _due(connection, version, since, until)]
            if not contacts:
                return
            criteria = version.plan.entry.criteria
            if criteria is not None:
                contacts = sorted(await matching(connection, parse(criteria), contacts))
            names = await eventlog.name_ids(connection, [ENTER])
            body = msgspec.json.encode({"journey": version.journey, "key": ""})
            await eventlog.append(
                connection, [eventlog.NewEvent(contact, names[ENTER], until, body) for contact in contacts]
            )


async def _window(connection: AsyncConnection, reader: str) -> tuple[datetime, datetime]:
    """From when until when things are to be done now; at first nothing of the past."""
    until = now().replace(microsecond=0)
    position = await _cursor(connection, reader, "extract(epoch from now())::bigint")
    await _move_cursor(connection, reader, int(until.timestamp()))
    return max(datetime.fromtimestamp(position, UTC), until - _CATCH_UP), until


async def _due(connection: AsyncConnection, version: Version, since: datetime, until: datetime) -> Any:
    """The contacts whose date falls after `since` and not after `until`.

    The database finds those with one of the few days that can be meant anywhere on earth; the rest is decided here.
    """
    date = version.plan.entry.date
    if date is None or since >= until:
        return
    offset = timedelta(seconds=date.offset_seconds)
    first, last = (since - offset - 2 * _DAY).date(), (until - offset + 2 * _DAY).date()
    days = [first + _DAY * n for n in range((last - first).days + 1)]
    if any((day.month, day.day) == (2, 28) for day in days) and date.yearly:
        meant = {f"{day:%m-%d}" for day in days} | {"02-29"}
    else:
        meant = {f"{day:%m-%d}" if date.yearly else f"{day:%Y-%m-%d}" for day in days}
    begin, length = (6, 5) if date.yearly else (1, 10)
    after = 0
    while True:
        rows = (
            await connection.execute(
                text(
                    "select id, time_zone, attributes ->> :name as value from contact where id > :after "
                    "and substr(attributes ->> :name, :begin, :length) = any(:days) order by id limit :limit"
                ),
                {
                    "name": date.attribute,
                    "after": after,
                    "begin": begin,
                    "length": length,
                    "days": sorted(meant),
                    "limit": _PAGE,
                },
            )
        ).all()
        for row in rows:
            moment = date_due(row.value, date, row.time_zone, since)
            if moment is not None and since < moment <= until:
                yield row.id
        if len(rows) < _PAGE:
            return
        after = rows[-1].id
