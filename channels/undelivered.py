"""Messages that a provider took and has not delivered by its deadline, the option `undelivered_after`: another one gets
them.

The deadline is for messages that are wanted soon or not at all. The first provider may still deliver after it, so who
sets it accepts that a message arrives twice. Each provider gets a message once; a late word of an earlier one counts.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import carriers, failover, health, providers
from channels.health import Tally
from channels.ledger import Step
from channels.providers import Provider
from core.clock import now
from core.database import driver
from core.schema.messages import MessageState
from core.settings import Settings

PASSED_ON = "passed on"
"""The word of such a settlement."""
_AT_ONCE = 500
_WATCH = """
insert into message_watch (message_id, provider_id, created_at, accepted_at, due_at, provider_message_id)
select id, %(provider)s, %(at)s, now(), now() + %(after)s, theirs
from unnest(%(ids)s::uuid[], %(theirs)s::text[]) as n (id, theirs) on conflict do nothing
"""


async def watch(connection: AsyncConnection, provider: Provider, at: datetime, accepted: Sequence[Step]) -> None:
    """Note messages that a provider has taken, if it has a deadline."""
    if provider.options.undelivered_after is None or not accepted:
        return
    values = {
        "provider": provider.id,
        "at": at,
        "after": timedelta(seconds=provider.options.undelivered_after),
        "ids": [step.id for step in accepted],
        "theirs": [step.provider_message_id for step in accepted],
    }
    await (await driver(connection)).execute(_WATCH, values)


async def came_back(connection: AsyncConnection, provider_id: int, softly: Sequence[UUID]) -> None:
    """Messages came back softly: there is nothing to wait for any more."""
    if softly:
        await connection.execute(
            text(
                "update message_watch set due_at = now() "
                "where provider_id = :provider and message_id = any(:ids) and due_at > now()"
            ),
            {"provider": provider_id, "ids": list(softly)},
        )


_DUE = text("""
select w.message_id, w.created_at, w.provider_id, p.name as provider, m.contact_id, m.state,
    m.provider_id = w.provider_id and m.address is not null and m.enrollment_id is not null
        and (m.state = :accepted or (m.state = :bounced and not exists (
            select from suppression s where s.channel = m.channel and s.address = m.address))) as open
from message_watch w join provider p on p.id = w.provider_id
left join message m on m.id = w.message_id and m.created_at = w.created_at
where w.due_at <= now() order by w.due_at, w.message_id limit :limit for update of w skip locked
""")
_SETTLE = text("""
with n as (
    select * from unnest(cast(:ids as uuid[]), cast(:providers as smallint[])) as n (id, provider)
), gone as (
    update message_watch w set due_at = null from n
    where w.message_id = n.id and w.provider_id = n.provider and n.id = any(:moved)
)
delete from message_watch w using n where w.message_id = n.id and w.provider_id = n.provider and n.id <> all(:moved)
""")
_NOTE = text("""
insert into message_settlement (message_id, contact_id, word, was, by, why, open)
select n.id, n.contact, :word, n.was, n.by, 'not delivered in time', true
from unnest(cast(:ids as uuid[]), cast(:contacts as bigint[]), cast(:states as smallint[]), cast(:by as text[]))
    as n (id, contact, was, by)
""")


async def pass_on(connection: AsyncConnection, settings: Settings) -> int:
    """Give messages whose deadline has passed to other providers; workers hand them over (`byhand.send_again`).

    Returns:
        How many deadlines were looked at; any number of workers may do so at once.
    """
    values = {"accepted": int(MessageState.ACCEPTED), "bounced": int(MessageState.BOUNCED), "limit": _AT_ONCE}
    due = (await connection.execute(_DUE, values)).all()
    if not due:
        return 0
    batches: dict[tuple[str, datetime], list[Row[Any]]] = defaultdict(list)
    for row in due:
        if row.open:
            batches[row.provider, row.created_at].append(row)
    moved: list[Row[Any]] = []
    for (name, at), rows in sorted(batches.items()):
        provider = await providers.anyone(connection, settings, name)
        among = failover.others(provider, await carriers.load(connection, provider.channel), at_once=True)
        why = {row.message_id: f"{name}: not delivered in time" for row in rows}
        chosen = await failover.pass_on(connection, provider, at, None, why, among, now())
        moved += [row for row in rows if row.message_id in chosen]
    await _write(connection, due, moved)
    await _count(connection, [row for row in due if row.open])
    return len(due)


async def _write(connection: AsyncConnection, due: Sequence[Row[Any]], moved: Sequence[Row[Any]]) -> None:
    ids = [row.message_id for row in moved]
    values = {"ids": [row.message_id for row in due], "providers": [row.provider_id for row in due], "moved": ids}
    await connection.execute(_SETTLE, values)
    note = {
        "word": PASSED_ON,
        "ids": ids,
        "contacts": [row.contact_id for row in moved],
        "states": [row.state for row in moved],
        "by": [row.provider for row in moved],
    }
    await connection.execute(_NOTE, note)


async def _count(connection: AsyncConnection, late: Sequence[Row[Any]]) -> None:
    """What the providers' health is judged by; what came back was counted when it did."""
    silent = Counter(row.provider_id for row in late if row.state == MessageState.ACCEPTED)
    for number, count in sorted(silent.items()):
        await health.note(connection, number, Tally(undelivered=count))
