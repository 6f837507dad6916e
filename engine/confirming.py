"""Double opt-in: telling the log whom to ask, and the journey that asks, where there is none of that name yet."""

from datetime import datetime
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import templates
from contacts import optin
from core.clock import now
from core.database import Database
from journeys import store

NAME = "confirm-consent"
"""Of the journey and of its template."""
_DEFAULTS = Path(__file__).with_name("defaults")
_SECONDS = 1.0


async def ask(database: Database) -> float:
    """Tell the log of consents that wait for their contacts; a duty of the router.

    The journey is published in a transaction of its own first: the log's events are judged by journeys that were there
    before them.

    Returns:
        After how many seconds to look again.
    """
    async with database.begin() as connection:
        if not await optin.waiting(connection):
            return _SECONDS
        await _ensure_journey(connection)
    async with database.begin() as connection:
        return 0.0 if await optin.tell(connection, now()) else _SECONDS


async def lapse(database: Database, at: datetime) -> int:
    """Forget requests that nobody confirmed in time; returns how many."""
    async with database.begin() as connection:
        return await optin.lapse(connection, at)


async def _ensure_journey(connection: AsyncConnection) -> None:
    """Publish the journey that asks, unless there is one, whatever its state: then it is the operator's."""
    there = await connection.execute(text("select 1 from journey where name = :name"), {"name": NAME})
    if there.first() is not None:
        return
    written = await connection.execute(text("select 1 from template where name = :name"), {"name": NAME})
    if written.first() is None:
        await templates.publish(connection, (_DEFAULTS / f"{NAME}.mjml").read_bytes(), f"{NAME}.mjml")
    await store.publish(connection, (_DEFAULTS / f"{NAME}.yaml").read_bytes(), f"{NAME}.yaml", by="kaskad")
