"""Taking back messages that are prepared and have not left, because nobody wants them any more."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from channels import spending
from channels.claims import LEASE
from channels.metrics import MESSAGES
from channels.policy import Reason
from channels.requests import Item
from core.database import driver
from core.ids import message_id
from core.schema.messages import MessageState

# What an attempt that died was handing over is in doubt. Locked in the order in which attempts lock.
_WITHDRAW = """
update message m set state = case when was.state = 10 then 15 else 30 end, claim = null, claimed_at = null,
    reason = case when was.state = 10 then %(reason)s else 'the attempt that handed it over died before the answer' end
from (
    select id, state from message where created_at = %(at)s and id = any(%(ids)s) and (state = 10
        or (state = 20 and (claimed_at is null or claimed_at < clock_timestamp() - %(lease)s)))
    order by id for update
) was
where m.id = was.id and m.created_at = %(at)s
returning m.id, m.channel, m.state
"""
_LEAVING = "select count(*) from message where created_at = %(at)s and id = any(%(ids)s) and state = 20"


async def withdraw(connection: AsyncConnection, at: datetime, items: Sequence[Item], reason: Reason) -> int:
    """Skip what has not left of a prepared batch. A repeat changes nothing.

    Args:
        connection: an open transaction.
        at: when the batch was made; its messages' created_at.
        items: whose messages.
        reason: why they are not sent.

    Returns:
        How many are just being handed over: they will have a final word soon, or be in doubt.
    """
    raw = await driver(connection)
    values = {"at": at, "ids": [message_id(item.enrollment_id, item.visit) for item in items], "lease": LEASE}
    done = await (await raw.execute(_WITHDRAW, {**values, "reason": str(reason)})).fetchall()
    skipped = [row[0] for row in done if row[2] == MessageState.SKIPPED]
    await spending.correct(connection, at, skipped)
    for (channel, state), count in Counter((row[1], row[2]) for row in done).items():
        MESSAGES.labels(channel, MessageState(state).name.lower()).inc(count)
    row = await (await raw.execute(_LEAVING, values)).fetchone()
    return int(row[0]) if row else 0
