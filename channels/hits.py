"""What people do with a message: clicks, opens and unsubscribing, on the ledger and in the event log."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.tokens import Token
from contacts import consents, identities
from core import eventlog

# One statement: the first time stays on the row, and what the event says comes back; the plan knows the step's name.
_HIT = """
with hit as (
    update message set {column} = coalesce({column}, :at) where id = :id and created_at = :created_at
    returning contact_id, version_id, template_version_id, step
)
select hit.contact_id, j.name as journey, t.name as template, v.plan #>> array['steps', hit.step::text, 'id'] as step
from hit
join contact c on c.id = hit.contact_id
left join journey_version v on v.id = hit.version_id
left join journey j on j.id = v.journey_id
left join template_version tv on tv.id = hit.template_version_id
left join template t on t.id = tv.template_id
"""
_STATEMENTS = {
    "message.clicked": text(_HIT.format(column="clicked_at")),
    "message.opened": text(_HIT.format(column="opened_at")),
}


async def hit(
    connection: AsyncConnection,
    name: Literal["message.clicked", "message.opened"],
    token: Token,
    at: datetime,
    **properties: Any,
) -> bool:
    """Write a click or an opening down: the first time on the row, every one as an event.

    The last thing of its transaction. Returns whether there was something to write: the message is still in the
    ledger and the contact was not erased.
    """
    await identities.hold_off_erasure(connection)
    rows = await connection.execute(
        _STATEMENTS[name], {"id": token.message_id, "created_at": token.created_at, "at": at}
    )
    row = rows.mappings().one_or_none()
    if row is None:
        return False
    await eventlog.record(connection, name, row["contact_id"], at, _properties(token, row) | properties)
    return True


def _properties(token: Token, row: Any) -> dict[str, Any]:
    known = {name: row[name] for name in ("journey", "step", "template") if row[name] is not None}
    return {"message": str(token.message_id), **known}


@dataclass(frozen=True)
class Subscription:
    """What a letter's unsubscribe link is about."""

    contact_id: int
    channel: str
    purpose: str
    address: str | None
    language: str | None
    granted: bool
    """Whether the contact still gets such messages."""


async def subscription(connection: AsyncConnection, token: Token) -> Subscription | None:
    """What the link of a message is about; None if the message or the contact is gone."""
    rows = await connection.execute(
        text(
            "select m.contact_id, m.channel, m.purpose, m.address, c.language, "
            "coalesce(k.granted, m.purpose = :transactional) as granted "
            "from message m join contact c on c.id = m.contact_id left join consent k "
            "on k.contact_id = m.contact_id and k.channel = m.channel and k.purpose = m.purpose "
            "where m.id = :id and m.created_at = :created_at"
        ),
        {
            "id": token.message_id,
            "created_at": token.created_at,
            "transactional": consents.TRANSACTIONAL,
        },
    )
    row = rows.mappings().one_or_none()
    return Subscription(**row) if row else None


async def unsubscribe(
    connection: AsyncConnection, token: Token, source: str, evidence: dict[str, Any], at: datetime
) -> Subscription | None:
    """Withdraw the consent that the message was sent under, and say so in the log. Doing it twice is doing it once.

    Args:
        connection: an open transaction; this is the last thing in it.
        token: of the unsubscribe link.
        source: `unsubscribe page` or `one-click`.
        evidence: what proves it.
        at: when.

    Returns:
        What was unsubscribed from; None if the message or the contact is gone.
    """
    found = await subscription(connection, token)
    if found is None:
        return None
    known = {"message": str(token.message_id)}
    await consents.record(
        connection, [found.contact_id], found.channel, found.purpose, False, source, known | evidence, at
    )
    if found.granted:
        properties = {**known, "channel": found.channel, "purpose": found.purpose}
        await eventlog.record(connection, "message.unsubscribed", found.contact_id, at, properties)
    return found
