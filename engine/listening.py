"""Whether the router has told cohorts of everything that was in the log at a moment.

A wait that an event could have ended must not end by time while the answer lies in the log and nobody has carried it to
the cohort, because the router, Temporal or PostgreSQL was dead. So the cohort asks here first. The answer is a position
and no time, so no clocks are compared: the log's order is that of commits, so what was committed before the question
has no id beyond the log's end of then; and the router signals before it moves its cursor, so Temporal has all of that
before it has the answer.
"""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from core.database import Database
from engine.wire import Listen, Listened

PATIENCE_SECONDS = 5.0
"""How long a question waits for the router before it is answered with no."""
_GATHER_SECONDS = 0.025
"""So long questions gather before the database is asked for all of them."""


class Listening:
    """The activity that waits for the router. All questions of a process share one look at the database at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[tuple[int, int]] | None = None

    @activity.defn
    async def listen(self, request: Listen) -> Listened:
        """Wait until the router is past `end`, or past where the log ends now; not longer than PATIENCE_SECONDS."""
        clock = asyncio.get_running_loop().time
        ends, end = clock() + PATIENCE_SECONDS, request.end
        while True:
            position, last = await self._look()
            end = last if end is None else end
            if position >= end or clock() > ends:
                return Listened(end, position >= end)

    async def _look(self) -> tuple[int, int]:
        """What the next look finds that begins after this call."""
        if self._next is None:
            self._next = asyncio.create_task(self._look_for_all())
        return await asyncio.shield(self._next)  # who is cancelled takes it from nobody else

    async def _look_for_all(self) -> tuple[int, int]:
        await asyncio.sleep(_GATHER_SECONDS)
        async with self._turn:
            self._next = None
            async with self._database.begin() as connection:
                return await _position(connection)


async def _position(connection: AsyncConnection) -> tuple[int, int]:
    """How far the log is routed and where it ends, as of one moment."""
    row = (
        await connection.execute(
            text(
                "select coalesce((select position from log_cursor where reader = 'router'), 0) as position, "
                "coalesce((select max(id) from event), 0) as last"
            )
        )
    ).one()
    return row.position, row.last
