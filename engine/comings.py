"""The segments that journeys listen to are tracked, so that their members' comings and goings become events. A duty of
the router."""

from collections.abc import Iterable

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database import Database
from engine import cursors
from engine.versions import Versions
from journeys.plan import Plan
from segments import naming, tracking

_LOOK_LIMIT = 5000
_TOO_FAR = 50_000
"""Events behind which contacts are not looked at one by one any more; going through everybody finds them."""


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
            position = await cursors.position(connection, "segments", "(select coalesce(max(id), 0) from event)")
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
            await cursors.move(connection, "segments", rows[-1].id if rows else position)
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
