"""Housekeeping: partitions ahead of time, retention, event ids that are forgotten."""

import asyncio
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from core import maintenance
from core.clock import now
from core.database import Database
from core.maintenance import MONTHS_AHEAD, maintain
from core.schema import partitions
from core.settings import Settings

KEY = {"key": uuid4()}


async def months(database: Database, table: str) -> list[datetime]:
    async with database.begin() as connection:
        return await partitions.months(connection, table)


async def old_event(database: Database, at: datetime) -> None:
    """An event of long ago, in a partition of its own."""
    async with database.begin() as connection:
        await partitions.ensure(connection, "event", at, at)
        await connection.execute(
            text("insert into event_name (name) values ('page.viewed') on conflict (name) do nothing")
        )
        await connection.execute(
            text(
                "insert into event (occurred_at, contact_id, name_id) "
                "select :at, 1, id from event_name where name = 'page.viewed'"
            ),
            {"at": at},
        )


async def test_partitions_are_there_ahead_of_time(database: Database, settings: Settings) -> None:
    await maintain(database, settings)
    last = partitions.month_start(now())
    for _ in range(MONTHS_AHEAD):
        last = partitions.next_month(last)
    for table in partitions.PARTITIONED:
        assert (await months(database, table))[-1] == last


async def test_retention_drops_whole_months_and_keeps_the_rest(database: Database, settings: Settings) -> None:
    settings = settings.model_copy(update={"event_retention_months": 6})
    kept, gone = now() - timedelta(days=31 * 5), now() - timedelta(days=31 * 8)
    await old_event(database, kept)
    await old_event(database, gone)
    await maintain(database, settings)
    there = await months(database, "event")
    assert partitions.month_start(kept) in there
    assert partitions.month_start(gone) not in there
    async with database.begin() as connection:
        assert list((await connection.execute(text("select occurred_at from event"))).scalars()) == [kept]


async def test_a_long_reader_is_neither_disturbed_nor_made_a_queue_of(database: Database, settings: Settings) -> None:
    long_ago = now() - timedelta(days=31 * (settings.message_retention_months + 2))
    async with database.begin() as connection:
        for table in ("message", "step_visit"):
            await partitions.ensure(connection, table, long_ago, long_ago)
        await connection.execute(text("insert into event_key (key, received_on) values (:key, '2020-01-01')"), KEY)

    async with database.begin() as reader:
        await reader.execute(text("select count(*) from message"))
        async with asyncio.timeout(30):  # it would wait as long as the reader reads, and all others behind it
            await maintain(database, settings)
            async with database.begin() as another:
                await another.execute(text("select count(*) from message"))
        assert partitions.month_start(long_ago) in await months(database, "message")
        # What nobody reads goes meanwhile.
        assert partitions.month_start(long_ago) not in await months(database, "step_visit")
        async with database.begin() as connection:
            assert (await connection.execute(text("select count(*) from event_key"))).scalar() == 0

    await maintain(database, settings)
    assert partitions.month_start(long_ago) not in await months(database, "message")


async def test_a_table_is_gone_through_to_its_end(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "BLOCKS", 3)
    async with database.begin() as connection:
        await connection.execute(
            text(
                "insert into event_key (key, received_on) select gen_random_uuid(), current_date - 30 * (n % 2) "
                "from generate_series(1, 5000) n"
            )
        )
    await maintain(database, settings)
    async with database.begin() as connection:
        found = await connection.execute(text("select count(*), min(received_on) = current_date from event_key"))
        assert tuple(found.one()) == (2500, True)


async def test_event_ids_are_forgotten_after_their_days(database: Database, settings: Settings) -> None:
    fresh, stale = uuid4(), uuid4()
    async with database.begin() as connection:
        await connection.execute(
            text("insert into event_key (key, received_on) values (:fresh, current_date), (:stale, current_date - 30)"),
            {"fresh": fresh, "stale": stale},
        )
    await maintain(database, settings)
    async with database.begin() as connection:
        assert list((await connection.execute(text("select key from event_key"))).scalars()) == [fresh]


async def test_what_providers_did_long_ago_is_forgotten(database: Database, settings: Settings) -> None:
    async with database.begin() as connection:
        await connection.execute(
            text("insert into provider (name, channel, secret) values ('one', 'email', ''), ('two', 'email', '')")
        )
        for days in (1, 40):
            values = {"days": days}
            await connection.execute(
                text(
                    "insert into provider_minute (provider_id, minute) values (1, now() - make_interval(days => :days))"
                ),
                values,
            )
            await connection.execute(
                text(
                    "insert into provider_day (provider_id, day, taken) "
                    "values (1, current_date - cast(:days as int), 5)"
                ),
                values,
            )
    await maintain(database, settings)
    async with database.begin() as connection:
        for table in ("provider_minute", "provider_day"):
            assert (await connection.execute(text(f"select count(*) from {table}"))).scalar() == 1


async def test_hooks_are_dropped_after_their_days_and_what_they_meant_stays(
    database: Database, settings: Settings
) -> None:
    fresh, stale = now() - timedelta(days=13), now() - timedelta(days=15)
    async with database.begin() as connection:
        for at in (fresh, stale):
            await partitions.ensure(connection, "delivery_report", at, at)
            await connection.execute(
                text(
                    "insert into delivery_report (received_at, reported_at, provider_id, kind, raw) "
                    "values (:at, :at, 1, 'delivered', 'x')"
                ),
                {"at": at},
            )
    await maintain(database, settings)
    async with database.begin() as connection:
        rows = await connection.execute(text("select kind, raw is not null from delivery_report order by received_at"))
        assert [tuple(row) for row in rows] == [("delivered", False), ("delivered", True)]


async def test_content_is_dropped_by_months_after_its_days(database: Database, settings: Settings) -> None:
    long_ago = now() - timedelta(days=settings.content_days + 62)
    async with database.begin() as connection:
        await partitions.ensure(connection, "message_content", long_ago, long_ago)
    await maintain(database, settings)
    assert partitions.month_start(long_ago) not in await months(database, "message_content")


async def test_pages_of_messages_and_enrollments_have_room_for_updates(database: Database) -> None:
    async with database.begin() as connection:
        rows = await connection.execute(
            text(
                "select relname, reloptions from pg_class where oid = 'enrollment'::regclass "
                "or oid in (select inhrelid from pg_inherits where inhparent = 'message'::regclass)"
            )
        )
        found = {row.relname: row.reloptions for row in rows}
    assert len(found) > MONTHS_AHEAD
    assert found.pop("enrollment") == ["fillfactor=50"]
    assert all(options == ["fillfactor=70"] for options in found.values()), found
