"""Monthly partitions: made ahead of time, dropped by retention."""

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

PARTITIONED = ("event", "step_visit", "message")


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

    Returns:
        How many were new.
    """
    made, month = 0, month_start(first)
    existing = await months(connection, table)
    while month <= last:
        end = next_month(month)
        if month not in existing:
            await connection.execute(
                text(
                    f"create table if not exists {_name(table, month)} partition of {table} "
                    f"for values from ('{month:%Y-%m-%d}') to ('{end:%Y-%m-%d}')"
                )
            )
            made += 1
        month = end
    return made


async def months(connection: AsyncConnection, table: str) -> list[datetime]:
    """The months that `table` has partitions for, oldest first."""
    rows = await connection.execute(
        text("select inhrelid::regclass::text from pg_inherits where inhparent = cast(:table as regclass)"),
        {"table": table},
    )
    return sorted(datetime.strptime(name[-7:] + "+0000", "%Y_%m%z") for name in rows.scalars())


async def drop_before(connection: AsyncConnection, table: str, oldest: datetime) -> list[str]:
    """Drop the partitions of `table` that lie wholly before the month of `oldest`; returns their names."""
    gone = [_name(table, month) for month in await months(connection, table) if month < month_start(oldest)]
    for name in gone:
        await connection.execute(text(f"drop table {name}"))
    return gone
