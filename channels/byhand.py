"""What people decide about single messages: settling one that is in doubt, sending one again. Who and why is kept.

What was not delivered in time (channels.undelivered) is sent again by the same list.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import caps, messages
from channels.delivery import Delivery
from channels.policy import Rules
from channels.provider import NotNow
from channels.requests import DeliverRequest, Item
from core.database import Database
from core.errors import Conflict, DatabaseUnavailable, InvalidInput, Misconfigured, NotFound, Problem
from core.schema.messages import MessageState

_WHY_LIMIT = 500
_AT_ONCE = 500
_log = structlog.get_logger()


async def resolve(connection: AsyncConnection, message_id: UUID, sent: bool, by: str, why: str | None) -> None:
    """Settle a message that is in doubt: it was sent, or it was not and will not be.

    Args:
        connection: an open transaction.
        message_id: which.
        sent: whether it was.
        by: who says so.
        why: how they know.

    Raises:
        NotFound: there is no such message.
        Conflict: it is not in doubt, or not any more.
    """
    word = "sent" if sent else "not-sent"
    state = MessageState.ACCEPTED if sent else MessageState.FAILED
    reason = None if sent else "settled by hand: not sent"
    await _settle(connection, message_id, {MessageState.IN_DOUBT}, (state, reason), (word, by, why), again=False)


async def retry(connection: AsyncConnection, message_id: UUID, by: str, why: str | None) -> None:
    """Have a failed message, or one in doubt, sent again by the next worker that looks (`send_again`).

    The policy is asked once more. Of two who ask at the same time one is refused. One in doubt may arrive twice: that
    is what is being decided here.

    Raises:
        NotFound: there is no such message.
        Conflict: it is neither failed nor in doubt, was erased, or has nobody to carry it.
    """
    may = {MessageState.FAILED, MessageState.IN_DOUBT}
    await _settle(connection, message_id, may, (MessageState.QUEUED, None), ("retried", by, why), again=True)


_LOCK = text(
    "select m.state, m.address, m.contact_id, m.reason, m.enrollment_id, m.visit, m.channel, p.state as provider from "
    "message m left join provider p on p.id = m.provider_id where m.id = :id and m.created_at = :at for update of m"
)
_MOVE = text(
    "update message set state = :state, reason = :reason, claim = null, claimed_at = null, "
    "attempts = case when :state = 10 then 0 else attempts end, "
    "accepted_at = case when :state = 50 then clock_timestamp() else accepted_at end "
    "where id = :id and created_at = :at"
)
_NOTE = text(
    "insert into message_settlement (message_id, contact_id, word, was, reason, by, why, open) "
    "values (:id, :contact, :word, :was, :reason, :by, :why, :open)"
)


async def _settle(
    connection: AsyncConnection,
    message_id: UUID,
    may: set[MessageState],
    becomes: tuple[MessageState, str | None],
    said: tuple[str, str, str | None],
    again: bool,
) -> None:
    word, by, why = said
    if not by.strip() or len(by) > 200 or len(why or "") > _WHY_LIMIT:
        raise InvalidInput(Problem("say who decides, and why in 500 characters", path="by"))
    at = await messages.place(connection, message_id)
    row = (await connection.execute(_LOCK, {"id": message_id, "at": at})).one_or_none()
    if row is None:
        raise NotFound(f"there is no message {message_id}")
    state = MessageState(row.state)
    if state not in may:
        wanted = " or ".join(sorted(one.name.lower() for one in may))
        raise Conflict(f"the message is {state.name.lower()}; only one that is {wanted} can be {word}")
    if again and (row.address is None or row.enrollment_id is None or row.visit is None):
        raise Conflict("the message's contact was erased: there is nobody to send it to")
    if again and row.provider in {None, "removed"}:
        raise Conflict("the message's provider was removed: nobody can send it")
    if again:  # it counts again from here on
        await caps.hold(connection, row.channel, [row.contact_id])
    await connection.execute(_MOVE, {"id": message_id, "at": at, "state": int(becomes[0]), "reason": becomes[1]})
    values = {"id": message_id, "contact": row.contact_id, "word": word, "was": int(state), "reason": row.reason}
    await connection.execute(_NOTE, {**values, "by": by, "why": why, "open": again})


RulesOf = Callable[[int, int], Awaitable[Rules]]
"""What a journey asks of the messages of a version's step; the engine knows."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Messages that were made together, of one step, and that one provider has."""

    provider: str
    at: datetime
    version_id: int
    step: int


# The oldest of each provider: one that takes nothing for now must not keep those of others waiting.
_OPEN = text("""
select id, created_at, enrollment_id, visit, name, state, version_id, step from (
    select s.id, m.created_at, m.enrollment_id, m.visit, p.name, m.state, m.version_id, m.step,
        row_number() over (partition by p.id order by s.id) as place
    from message_settlement s join message m on m.id = s.message_id join provider p on p.id = m.provider_id
    where s.open and p.state <> 'paused'
) as waiting where place <= :limit order by id
""")


async def send_again(
    database: Database, delivery: Delivery, rules_of: RulesOf, heartbeat: Callable[[], None] = lambda: None
) -> int:
    """Hand over the messages that are to be sent again; any number of workers may do so at once.

    Returns:
        How many have their final word now. Those that have to wait, for a limit, an hour or a paused provider, stay
        open.
    """
    async with database.begin() as connection:
        rows = (await connection.execute(_OPEN, {"limit": _AT_ONCE})).all()
    batches: dict[str, dict[_Batch, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.state in {MessageState.QUEUED, MessageState.HANDING}:
            batch = _Batch(row.name, row.created_at, row.version_id, row.step)
            batches[row.name][batch].append(Item(row.enrollment_id, row.visit))
    async with asyncio.TaskGroup() as group:
        for of_one in batches.values():
            group.create_task(_send(of_one, delivery, rules_of, heartbeat))
    return await _close(database, [row.id for row in rows]) if rows else 0


async def _send(
    batches: Mapping[_Batch, list[Item]], delivery: Delivery, rules_of: RulesOf, heartbeat: Callable[[], None]
) -> None:
    """The batches of one provider, one after the other."""
    for batch, items in batches.items():
        try:
            rules = await rules_of(batch.version_id, batch.step)
            await delivery.deliver(DeliverRequest(batch.provider, batch.at, items, False, rules), heartbeat)
        except NotNow as why:
            _log.info("retry_waits", provider=batch.provider, messages=len(items), why=str(why))
        except (Conflict, NotFound, Misconfigured, DatabaseUnavailable) as why:
            # Another worker has them, the operator has to act, or the next turn finds the database again.
            _log.warning("retry_failed", provider=batch.provider, messages=len(items), why=str(why))


_CLOSE = text(
    "update message_settlement s set open = false from message m "
    "where s.id = any(:ids) and m.id = s.message_id and m.state <> all(:under_way)"
)


async def _close(database: Database, settlements: Sequence[int]) -> int:
    """The retry is over once the message has its word; one that was passed on to another provider has not."""
    async with database.begin() as connection:
        under_way = [int(MessageState.QUEUED), int(MessageState.HANDING)]
        done = await connection.execute(_CLOSE, {"ids": list(settlements), "under_way": under_way})
        return int(done.rowcount)
