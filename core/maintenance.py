"""Housekeeping of the database that has to happen from time to time, whoever is running."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import now
from core.database import Database
from core.schema import partitions
from core.settings import Settings

MONTHS_AHEAD = 3
_FORGET_EFFECTS = (
    "delete from applied_visit where applied_at < now() - make_interval(days => :days)",
    "delete from call_attempt where began_at < now() - make_interval(days => :days)",
    "delete from sending_turn where leaves_at < now() - make_interval(days => :days)",
    "delete from message_watch where accepted_at < now() - make_interval(days => :days)",
    "delete from delivery_report_key where received_on < current_date - cast(:days as int)",
    "delete from provider_minute where minute < now() - make_interval(days => :days)",
    "delete from provider_day where day < current_date - cast(:days as int)",
)
_FORGET_HOOKS = text(
    "update delivery_report set raw = null where raw is not null and received_at < now() - make_interval(days => :days)"
    " and received_at > now() - make_interval(days => :days + 40)"
)
"""Beyond the 40 days an earlier look has been already; they bound what is read."""
_EFFECT_DAYS = 30
"""A step's work is over long before; what it did need not be known any longer."""


async def _forget_hooks(connection: AsyncConnection, days: int) -> None:
    """Drop what providers sent literally, which may hold anything; what it meant stays."""
    await connection.execute(_FORGET_HOOKS, {"days": days})


async def maintain(database: Database, settings: Settings) -> None:
    """Make partitions ahead of time, drop those past retention, forget old event ids. Safe to run at any time."""
    async with database.begin() as connection:
        await connection.execute(text("select pg_advisory_xact_lock(7341)"))
        at = now()
        last = at
        for _ in range(MONTHS_AHEAD):
            last = partitions.next_month(last)
        oldest_event = at - timedelta(days=31 * settings.event_retention_months)
        oldest_message = at - timedelta(days=31 * settings.message_retention_months)
        first_event = max(oldest_event, at - timedelta(days=31))
        await partitions.ensure(connection, "event", first_event, last)
        for table in ("message", "step_visit", "delivery_report"):
            await partitions.ensure(connection, table, at, last)
            await partitions.drop_before(connection, table, oldest_message)
        await partitions.ensure(connection, "message_content", at, last)
        await partitions.drop_before(connection, "message_content", at - timedelta(days=settings.content_days))
        await _forget_hooks(connection, settings.hook_days)
        await partitions.drop_before(connection, "event", oldest_event)
        await connection.execute(
            text("delete from event_key where received_on < current_date - cast(:days as int)"),
            {"days": settings.event_dedupe_days},
        )
        await connection.execute(text("delete from session where started_at < :oldest"), {"oldest": oldest_event})
        await connection.execute(text("delete from site_count where day < :oldest"), {"oldest": oldest_event.date()})
        await connection.execute(text("delete from visitor_salt where day < current_date - 1"))
        await connection.execute(text("delete from import_reject where noted_at < now() - interval '7 days'"))
        for statement in _FORGET_EFFECTS:
            await connection.execute(text(statement), {"days": _EFFECT_DAYS})
