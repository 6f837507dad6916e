"""Monthly partitions: made ahead of time, dropped by retention."""

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

PARTITIONED = ("event", "step_visit", "message", "delivery_report", "message_content")

_FILLED = {"message": 70}
"""Percent of a page that new rows fill. A message is written, claimed and settled: where the page has room for it, an
update touches no index. Partitions are told apart from their table, which has no pages."""
_LOCK = 0x6B617370  # "kasp": one maker of partitions at a time
_DROP_PATIENCE = "2s"  # longer than autovacuum takes to give way (deadlock_timeout)


def month_start(moment: datetime) -> datetime:
    """Midnight (UTC) of the first day of the month that `moment` lies in."""
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(moment: datetime) -> datetime:
    """The start of the month after the one that `moment` lies in."""
    return month_start(month_start(moment) + timedelta(days=32))


def _name(table: str, month: datetime) -> str:
    return f"{table}_{month:%Y_%m}"


async def ensure(connection: AsyncConnection, table: str, first: datetime, last: datetime) -> int:
    """Make the partitions of `table` for every month from `first` to `last`.

    A partition is made apart and then attached: `create table … partition of` would wait for every query that reads
    the table, and all writers would queue behind it.

    Returns:
        How many were new.
    """
    if not await _missing(connection, table, first, last):
        return 0
    await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    missing = await _missing(connection, table, first, last)  # another process may have made them meanwhile
    for month in missing:
        name = _name(table, month)
        share = f" with (fillfactor = {_FILLED[table]})" if table in _FILLED else ""
        await connection.execute(
            text(f"create table {name} (like {table} including defaults including constraints){share}")
        )
        await connection.execute(
            text(
                f"alter table {table} attach partition {name} "
                f"for values from ('{month:%Y-%m-%d} 00:00:00+00') to ('{next_month(month):%Y-%m-%d} 00:00:00+00')"
            )
        )
    return len(missing)


async def _missing(connection: AsyncConnection, table: str, first: datetime, last: datetime) -> list[datetime]:
    existing = await months(connection, table)
    wanted, month = [], month_start(first)
    while month <= last:
        if month not in existing:
            wanted.append(month)
        month = next_month(month)
    return wanted


async def months(connection: AsyncConnection, table: str) -> list[datetime]:
    """The months that `table` has partitions for, oldest first."""
    rows = await connection.execute(
        text("select inhrelid::regclass::text from pg_inherits where inhparent = cast(:table as regclass)"),
        {"table": table},
    )
    return sorted(datetime.strptime(name[-7:] + "+0000", "%Y_%m%z") for name in rows.scalars())


async def before(connection: AsyncConnection, table: str, oldest: datetime) -> list[str]:
    """The partitions of `table` that lie wholly before the month of `oldest`."""
    return [_name(table, month) for month in await months(connection, table) if month < month_start(oldest)]


async def between(connection: AsyncConnection, table: str, first: datetime, last: datetime) -> list[str]:
    """The partitions of `table` for the months from that of `first` to that of `last`."""
    return [_name(table, month) for month in await months(connection, table) if month_start(first) <= month <= last]


async def drop(connection: AsyncConnection, name: str) -> None:
    """Drop a partition, unless its table is being read: what waits for the lock makes all who come later wait, too.

    Raises:
        sqlalchemy.exc.OperationalError: of psycopg's LockNotAvailable: the lock was not to be had. Try again later.
    """
    await connection.execute(text(f"set local lock_timeout = '{_DROP_PATIENCE}'"))
    await connection.execute(text(f"drop table if exists {name}"))
