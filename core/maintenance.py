"""Housekeeping of the database that has to happen from time to time, whoever is running.

Nothing here may make others wait: every piece of work is a transaction of its own, and gives way to who reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import structlog
from sqlalchemy import exc, text

from core.clock import now
from core.database import Database
from core.schema import partitions
from core.settings import Settings

MONTHS_AHEAD = 3
BLOCKS = 4096
"""How much of a table one transaction goes through: 32 MB."""
_FORGET_EFFECTS = {
    "applied_visit": "delete from applied_visit where applied_at < now() - make_interval(days => :days)",
    "call_attempt": "delete from call_attempt where began_at < now() - make_interval(days => :days)",
    "sending_turn": "delete from sending_turn where leaves_at < now() - make_interval(days => :days)",
    "message_watch": "delete from message_watch where accepted_at < now() - make_interval(days => :days)",
    "delivery_report_key": "delete from delivery_report_key where received_on < current_date - cast(:days as int)",
    "provider_minute": "delete from provider_minute where minute < now() - make_interval(days => :days)",
    "provider_day": "delete from provider_day where day < current_date - cast(:days as int)",
}
_EFFECT_DAYS = 30
"""A step's work is over long before; what it did need not be known any longer."""
_HOOK_LATE_DAYS = 40
"""Beyond these an earlier look has been already; they bound what is read."""
_log = structlog.get_logger()


@dataclass(frozen=True)
class _Chore:
    """Rows of a table that are not needed any longer."""

    table: str
    statement: str
    values: dict[str, Any]


async def maintain(database: Database, settings: Settings) -> None:
    """Make partitions ahead of time, drop those past retention, forget old event ids. Safe to run at any time."""
    at = now()
    await _make_partitions(database, settings, at)
    await _drop_partitions(database, settings, at)
    for chore in (*_forgotten(settings, at), *await _hooks(database, settings.hook_days, at)):
        await _do(database, chore)


def _oldest_event(settings: Settings, at: datetime) -> datetime:
    return at - timedelta(days=31 * settings.event_retention_months)


async def _make_partitions(database: Database, settings: Settings, at: datetime) -> None:
    last = at
    for _ in range(MONTHS_AHEAD):
        last = partitions.next_month(last)
    first_event = max(_oldest_event(settings, at), at - timedelta(days=31))
    for table in partitions.PARTITIONED:
        async with database.begin() as connection:
            await partitions.ensure(connection, table, first_event if table == "event" else at, last)


async def _drop_partitions(database: Database, settings: Settings, at: datetime) -> None:
    oldest_message = at - timedelta(days=31 * settings.message_retention_months)
    kept_since = {
        **dict.fromkeys(("message", "step_visit", "delivery_report"), oldest_message),
        "message_content": at - timedelta(days=settings.content_days),
        "event": _oldest_event(settings, at),
    }
    for table, oldest in kept_since.items():
        await _drop_before(database, table, oldest)


async def _drop_before(database: Database, table: str, oldest: datetime) -> None:
    async with database.begin() as connection:
        gone = await partitions.before(connection, table, oldest)
    try:
        for name in gone:
            async with database.begin() as connection:
                await partitions.drop(connection, name)
    except exc.OperationalError as error:
        if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise
        _log.info("partitions are dropped next time, for somebody reads the table", table=table)


def _forgotten(settings: Settings, at: datetime) -> Iterator[_Chore]:
    for table, statement in _FORGET_EFFECTS.items():
        yield _Chore(table, statement, {"days": _EFFECT_DAYS})
    keys = "delete from event_key where received_on < current_date - cast(:days as int)"
    yield _Chore("event_key", keys, {"days": settings.event_dedupe_days})
    oldest = _oldest_event(settings, at)
    yield _Chore("session", "delete from session where started_at < :oldest", {"oldest": oldest})
    yield _Chore("site_count", "delete from site_count where day < :oldest", {"oldest": oldest.date()})
    yield _Chore("visitor_salt", "delete from visitor_salt where day < current_date - 1", {})
    yield _Chore("import_reject", "delete from import_reject where noted_at < now() - interval '7 days'", {})


async def _hooks(database: Database, days: int, at: datetime) -> list[_Chore]:
    """What providers sent literally, which may hold anything, is dropped; what it meant stays."""
    newest = at - timedelta(days=days)
    async with database.begin() as connection:
        months = await partitions.between(
            connection, "delivery_report", newest - timedelta(days=_HOOK_LATE_DAYS), newest
        )
    forget = "set raw = null where raw is not null and received_at < :newest"
    return [_Chore(name, f"update {name} {forget}", {"newest": newest}) for name in months]


async def _do(database: Database, chore: _Chore) -> None:
    """Go through a table once, a stretch after the other, so that no transaction is long and no index is needed."""
    async with database.begin() as connection:
        size = "select pg_relation_size(cast(:table as regclass)) / current_setting('block_size')::int"
        blocks = int((await connection.execute(text(size), {"table": chore.table})).scalar_one())
    statement = text(f"{chore.statement} and ctid >= cast(:first as tid) and ctid < cast(:last as tid)")
    for first in range(0, blocks, BLOCKS):
        stretch = {"first": f"({first},0)", "last": f"({first + BLOCKS},0)"}
        async with database.begin() as connection:
            await connection.execute(statement, {**chore.values, **stretch})
