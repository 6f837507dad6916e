"""Writing on the messages of a batch takes a time that grows with the batch, whatever the planner believes.

It takes a time that the statistics do not know to be rare, and joined what it thought to be one row with the new values
by comparing each row with each of them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import ledger
from channels.claims import Claims, Requeued
from channels.ledger import Step
from core.database import Database, driver
from core.ids import message_id
from core.schema.messages import MessageState
from studio.stack.postgres import EmbeddedPostgres
from tests.channels.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

MANY = 400


@pytest_asyncio.fixture(loop_scope="session")
async def explaining(postgres: EmbeddedPostgres, database: Database) -> AsyncIterator[Database]:
    """The same database through connections that are told the plan of each statement."""
    url = make_url(database.url)
    async with await psycopg.AsyncConnection.connect(postgres.superuser_url, autocommit=True) as connection:
        for name, value in (
            ("session_preload_libraries", "auto_explain"),
            ("auto_explain.log_min_duration", "0"),
            ("client_min_messages", "log"),
        ):
            await connection.execute(
                sql.SQL("alter database {} set {} = {}").format(
                    sql.Identifier(url.database or ""), sql.SQL(name), sql.Literal(value)
                )
            )
    told = Database(make_url(postgres.superuser_url).set(database=url.database).render_as_string(hide_password=False))
    yield told
    await told.close()


Work = Callable[[AsyncConnection, Claims, list[UUID]], Awaitable[object]]
WORK: dict[str, Work] = {
    "settle": lambda connection, claims, ids: ledger.advance(
        connection, claims.at, [Step(one, MessageState.ACCEPTED) for one in ids], claims.claim, claims.provider_id
    ),
    "skip": lambda connection, claims, ids: claims.skip(connection, dict.fromkeys(ids, "no_consent")),
    "readdress": lambda connection, claims, ids: claims.readdress(connection, dict.fromkeys(ids, "new@example.com")),
    "requeue": lambda connection, claims, ids: claims.requeue(connection, [Requeued(one) for one in ids]),
}


@pytest.mark.parametrize("work", WORK)
async def test_rows_of_a_batch_that_is_younger_than_the_statistics_are_not_compared_in_pairs(
    world: World, explaining: Database, at: datetime, hour_ago: datetime, work: str
) -> None:
    earlier = await world.enroll(MANY)
    await world.prepare(earlier, hour_ago)
    await world.run("analyze message")
    items = await world.enroll(MANY)
    await world.prepare(items, at)
    ids = [message_id(item.enrollment_id, item.visit) for item in items]
    [row] = await world.run("select id from provider")
    claims = Claims(uuid4(), at, row.id, repeat=False)
    async with world.database.begin() as connection:
        assert len(await claims.take(connection, ids)) == MANY
    plans: list[str] = []
    async with explaining.begin() as connection:
        raw = await driver(connection)
        raw.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
        await WORK[work](connection, claims, ids)
    [plan] = [one for one in plans if "Update on message" in one]
    assert "Join" not in plan, plan
    assert "Loop" not in plan, plan
    assert plan.count("Update on message_") == 1, plan  # one month's partition
