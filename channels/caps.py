"""How much contacts got lately, counted so that a limit holds however many count at the same time.

Whoever makes rows for messages under a limit takes the locks of their contacts, counts, and lets go with the end of its
transaction: the next one sees the rows. What is counted are the rows of others, whenever they were made; a message that
was skipped or refused does not count. When a row is claimed, its place was counted by all who came after it, so only
what does not fit any more is counted again under the lock: then one of two gives way, not both.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from channels.batches import Batch, Member
from channels.policy import Rules
from contacts import consents
from core.database import driver

WEEK = timedelta(days=7)
HELD = timedelta(days=14)
"""How long before its sending a message may have been made, at most; as long as a provider's give_up_hours can be."""
_LOCKS = 64
"""Of a channel. A batch of hundreds takes all of them: transactions with caps follow each other, and 64 locks for each
are few enough for PostgreSQL's table of locks, where one for each contact would not be."""
_SPACE = 0x6B617363  # "kasc"


@dataclass(frozen=True, slots=True)
class Count:
    """What the contact of a message got from others."""

    sent: int = 0
    """In the cap's period."""
    this_week: int = 0
    repeated: bool = False
    """Whether the same step's message went to the same address."""


NOTHING = Count()


async def hold(connection: AsyncConnection, channel: str, contacts: Iterable[int]) -> None:
    """Nobody else counts for these contacts until the transaction ends. Taken in one order by all."""
    names = {contact % _LOCKS for contact in contacts}
    keys = sorted(zlib.crc32(f"{channel}:{name}".encode()) - 2**31 for name in names)
    raw = await driver(connection)
    await raw.execute(
        "select pg_advisory_xact_lock(%s::int, key) from unnest(%s::int[]) as given (key)", (_SPACE, keys)
    )


async def counted(
    connection: AsyncConnection, batch: Batch, members: Sequence[Member], rules: Rules, at: datetime, reserve: bool
) -> dict[int, Count]:
    """What each message's contact got, by enrollment; nothing for those without a limit. The members themselves do not
    count: `policy.decide_all` sees to that.

    Args:
        connection: an open transaction.
        batch: what the messages have in common.
        members: the messages.
        rules: the journey's caps.
        at: now.
        reserve: whether rows are made for what may be sent: until the transaction ends nobody else counts for these
            contacts.
    """
    among = [one for one in members if _limited(one, batch.purpose, rules)]
    if not among:
        return {}
    if reserve or batch.at <= at - _shortest(batch.purpose, among, rules):  # those who came since did not count it
        await hold(connection, batch.channel, (one.contact_id for one in among))
        return await _count(connection, batch, among, among, rules, at)
    found = await _count(connection, batch, among, among, rules, at)
    tight = [one for one in among if _is_over(one, found.get(one.enrollment_id, NOTHING), rules)]
    if tight:
        await hold(connection, batch.channel, (one.contact_id for one in tight))
        found |= await _count(connection, batch, tight, among, rules, at)
    return found


async def seen(
    connection: AsyncConnection, batch: Batch, members: Sequence[Member], rules: Rules, at: datetime
) -> dict[int, Count]:
    """What is counted now, by enrollment, without a lock: for who only wants to know."""
    among = [one for one in members if _limited(one, batch.purpose, rules)]
    return await _count(connection, batch, among, among, rules, at) if among else {}


def _limited(member: Member, purpose: str, rules: Rules) -> bool:
    if rules.duplicate_seconds:
        return True
    return consents.needed(purpose) and (rules.cap is not None or member.per_week is not None)


def _shortest(purpose: str, among: Sequence[Member], rules: Rules) -> timedelta:
    """The shortest period that anything is counted in."""
    periods = [timedelta(seconds=rules.duplicate_seconds)] if rules.duplicate_seconds else []
    if consents.needed(purpose):
        periods += [timedelta(seconds=rules.cap_seconds)] if rules.cap is not None else []
        periods += [WEEK] if any(one.per_week is not None for one in among) else []
    return min(periods)


def _is_over(member: Member, count: Count, rules: Rules) -> bool:
    over_cap = rules.cap is not None and count.sent >= rules.cap
    over_week = member.per_week is not None and count.this_week >= member.per_week
    return over_cap or over_week or count.repeated


# A message counts from when it was sent; until then from when it was made, and now if it is being sent. Rows of the
# batch itself are there if it is claimed, or prepared again. By the contact's index; 5 to 10 ms for a thousand.
_SENT = """
select w.id, count(*) filter (where s.at > %(since)s), count(*) filter (where s.at > %(week)s
    and m.purpose <> 'transactional')
from unnest(%(contacts)s::bigint[], %(ids)s::bigint[]) as w (contact_id, id)
join message m on m.contact_id = w.contact_id and m.channel = %(channel)s
    and m.created_at > least(%(since)s, %(week)s) - %(held)s and m.state <> all('{15,40}') and m.purpose <> 'staff'
    and not (m.created_at = %(at)s and m.id = any(%(together)s))
cross join lateral (
    select case when m.state = 20 then %(now)s else coalesce(m.accepted_at, m.created_at) end
) as s (at)
group by w.id
"""
# Of two runs with the same key in one batch the first by id is meant.
_REPEATED = """
with w as materialized (
    select given.*, own.key, row_number() over (partition by given.contact_id, own.key order by given.message_id) as n
    from unnest(%(messages)s::uuid[], %(contacts)s::bigint[], %(addresses)s::text[], %(ids)s::bigint[])
        as given (message_id, contact_id, address, id)
    join enrollment own on own.id = given.id
)
select w.id from w where w.n > 1 or exists (
    select from message m left join enrollment e on e.id = m.enrollment_id
    where m.contact_id = w.contact_id and m.created_at > %(repeated_since)s - %(held)s and m.state <> all('{15,40}')
        and (m.state = 20 or coalesce(m.accepted_at, m.created_at) > %(repeated_since)s) and m.purpose <> 'staff'
        and m.version_id = %(version_id)s and m.step = %(step)s and m.address = w.address
        and e.key is not distinct from w.key
        and not (m.created_at = %(at)s and m.id = any(%(together)s))
)
"""


async def _count(
    connection: AsyncConnection,
    batch: Batch,
    members: Sequence[Member],
    among: Sequence[Member],
    rules: Rules,
    at: datetime,
) -> dict[int, Count]:
    """What each of the members has, all that are counted together aside."""
    raw = await driver(connection)
    weekly = any(one.per_week is not None for one in members)
    values: dict[str, Any] = {
        "messages": [one.message_id for one in members],
        "together": [one.message_id for one in among],
        "contacts": [one.contact_id for one in members],
        "addresses": [one.address for one in members],
        "ids": [one.enrollment_id for one in members],
        "since": at - timedelta(seconds=rules.cap_seconds if rules.cap is not None else 0),
        "week": at - (WEEK if weekly else timedelta()),
        "repeated_since": at - timedelta(seconds=rules.duplicate_seconds),
        "held": HELD,
        "now": at,
        "channel": batch.channel,
        "version_id": batch.version_id,
        "step": batch.step,
        "at": batch.at,
    }
    sent: dict[int, tuple[int, int]] = {}
    if weekly or rules.cap is not None:
        sent = {row[0]: (row[1], row[2]) for row in await (await raw.execute(_SENT, values)).fetchall()}
    repeated: set[int] = set()
    if rules.duplicate_seconds:
        repeated = {row[0] for row in await (await raw.execute(_REPEATED, values)).fetchall()}
    numbers = [one.enrollment_id for one in members]
    return {number: Count(*sent.get(number, (0, 0)), number in repeated) for number in numbers}
