"""Journeys that begin by the calendar: by a date of each contact, or by a recurrence rule. A duty of the router."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import eventlog
from core.clock import now
from core.database import Database
from core.errors import Conflict, NotFound
from engine import broadcasts, cursors
from engine.routing import ENTER
from engine.versions import Version, Versions
from journeys import recurrence
from journeys.calendar import date_due
from journeys.plan import AttributeDate
from segments import matching
from segments.criteria import parse

log = structlog.get_logger()

_CATCH_UP = timedelta(hours=24)
"""What fell due while nobody was at work is made up for within this time."""
_PAGE = 5000
_DATES_SECONDS = 60.0
_DATES_REST = 20
"""How long to leave contacts' dates alone, and how many times as long as looking through them took."""
_DAY = timedelta(days=1)


class Almanac:
    """Lets contacts in whose day has come, and starts broadcasts whose rule falls due."""

    def __init__(self, database: Database, versions: Versions) -> None:
        self._database = database
        self._versions = versions
        self._rests: dict[int, float] = {}
        """Journey to when its contacts' dates are looked through next: that reads all contacts."""

    async def turn(self) -> None:
        """Do what has fallen due since the last time. Contacts whose day comes while their journey is paused wait at
        its door, like all newcomers; the runs of a rule that fall due then are left out, like those of a schedule."""
        async with self._database.begin() as connection:
            rows = await connection.execute(
                text(
                    "select j.version_id, j.state = 'paused' as paused from journey j "
                    "join journey_version v on v.id = j.version_id where j.state in ('active', 'paused') "
                    "and (v.plan -> 'entry' ->> 'rrule' is not null "
                    "or v.plan -> 'entry' -> 'date' ->> 'attribute' is not null) order by j.id"
                )
            )
            paused = {row.version_id: row.paused for row in rows}
            known = await self._versions.get_all(connection, list(paused))
        for version in known.values():
            if version.plan.entry.rrule is not None:
                await self._recur(version, paused=paused[version.id])
            elif time.monotonic() >= self._rests.get(version.id, 0.0):
                begun = time.monotonic()
                while await self._remember(version):
                    pass
                ended = time.monotonic()
                self._rests[version.id] = ended + max(_DATES_SECONDS, _DATES_REST * (ended - begun))

    async def _recur(self, version: Version, *, paused: bool) -> None:
        entry = version.plan.entry
        async with self._database.begin() as connection:
            since, until = await _window(connection, f"rule:{version.journey_id}")
            if paused:
                return
            moment = recurrence.following(entry.rrule or "", entry.zone, since)
            while moment is not None and moment <= until:
                try:
                    await broadcasts.start(connection, version.journey, occasion=f"rule:{version.journey_id}:{moment}")
                except (NotFound, Conflict) as reason:
                    log.warning("scheduled run left out", journey=version.journey, reason=str(reason))
                moment = recurrence.following(entry.rrule or "", entry.zone, moment)

    async def _remember(self, version: Version) -> bool:
        """Let a page of those in whose day came, by events of the log; says whether there are more.

        Each page is a transaction of its own: whoever appends to the log holds up everybody else who does.
        """
        date, name = version.plan.entry.date, f"date:{version.journey_id}"
        if date is None:
            return False
        async with self._database.begin() as connection:
            since = await cursors.position(connection, name, "extract(epoch from now())::bigint")
            until = await cursors.position(connection, f"{name}:until", str(int(now().timestamp())))
            after = await cursors.position(connection, f"{name}:after", "0")
            end = datetime.fromtimestamp(until, UTC)
            begin = max(datetime.fromtimestamp(since, UTC), end - _CATCH_UP)
            rows = await _candidates(connection, date, begin, end, after) if begin < end else []
            due = [row.id for row in rows if begin < (date_due(row.value, date, row.time_zone, begin) or begin) <= end]
            await _let_in(connection, version, due, end)
            if len(rows) == _PAGE:
                await cursors.move(connection, f"{name}:after", rows[-1].id)
                return True
            await cursors.move(connection, name, until)
            await cursors.forget(connection, [f"{name}:until", f"{name}:after"])
        return False


async def _window(connection: AsyncConnection, reader: str) -> tuple[datetime, datetime]:
    """From when until when things are to be done now; at first nothing of the past."""
    until = now().replace(microsecond=0)
    position = await cursors.position(connection, reader, "extract(epoch from now())::bigint")
    await cursors.move(connection, reader, int(until.timestamp()))
    return max(datetime.fromtimestamp(position, UTC), until - _CATCH_UP), until


async def _candidates(
    connection: AsyncConnection, date: AttributeDate, since: datetime, until: datetime, after: int
) -> Sequence[Row[Any]]:
    """A page of contacts with one of the few days that can be meant anywhere on earth."""
    offset = timedelta(seconds=date.offset_seconds)
    first, last = (since - offset - 2 * _DAY).date(), (until - offset + 2 * _DAY).date()
    days = [first + _DAY * n for n in range((last - first).days + 1)]
    meant = {f"{day:%m-%d}" if date.yearly else f"{day:%Y-%m-%d}" for day in days}
    if date.yearly and any((day.month, day.day) == (2, 28) for day in days):
        meant.add("02-29")
    begin, length = (6, 5) if date.yearly else (1, 10)
    rows = await connection.execute(
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
    return rows.all()


async def _let_in(connection: AsyncConnection, version: Version, contacts: Sequence[int], at: datetime) -> None:
    """Ask for contacts to enter who meet the entry's criteria. The last thing of its transaction but for cursors."""
    criteria = version.plan.entry.criteria
    if criteria is not None and contacts:
        contacts = sorted(await matching(connection, parse(criteria), contacts))
    if not contacts:
        return
    names = await eventlog.name_ids(connection, [ENTER])
    body = msgspec.json.encode({"journey": version.journey, "key": ""})
    await eventlog.append(connection, [eventlog.NewEvent(contact, names[ENTER], at, body) for contact in contacts])
