"""What people do with a message: clicks, opens and unsubscribing, on the ledger and in the event log."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import visits
from channels.tokens import Token
from channels.visits import Earlier, Visit
from contacts import consents, identities
from core import eventlog, links

Name = Literal["message.clicked", "message.opened"]

# One statement: the first time stays on the row, and what the event says comes back; the plan knows the step's name.
_HIT = """
with hit as (
    update message set {column} = case when :counts then coalesce({column}, :at) else {column} end
    where id = :id and created_at = :created_at
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


_BEFORE = text("""
select m.accepted_at, e.occurred_at, e.properties ->> 'url' as url, e.properties ->> 'machine_why' as why
from message m
left join event_name n on n.name = 'message.clicked' and :what = 'clicked'
left join event e on e.contact_id = m.contact_id and e.name_id = n.id and e.occurred_at between :since and :at
    and e.properties ->> 'message' = :message
where m.id = :id and m.created_at = :created_at order by e.occurred_at desc limit 20
""")
_UNCOUNT = text(
    "update message set clicked_at = null where id = :id and created_at = :created_at and clicked_at >= :since"
)


async def hit(
    connection: AsyncConnection, name: Name, token: Token, at: datetime, visit: Visit, **properties: Any
) -> bool:
    """Write a click or an opening down: the first of a person on the row, every one as an event.

    What a machine did is an event with `machine: true` and moves nothing. The last thing of its transaction. Returns
    whether there was something to write: the message is still in the ledger and the contact was not erased.
    """
    await identities.hold_off_erasure(connection)
    why = await _machine(connection, name, token, at, visit)
    row = await _mark(connection, name, token, at, counts=why is None)
    if row is None:
        return False
    told = {"machine": True, "machine_why": why} if why else {}
    await eventlog.record(connection, name, row["contact_id"], at, _properties(token, row) | properties | told)
    return True


async def _mark(connection: AsyncConnection, name: Name, token: Token, at: datetime, *, counts: bool) -> Any:
    values = {"id": token.message_id, "created_at": token.created_at, "at": at, "counts": counts}
    return (await connection.execute(_STATEMENTS[name], values)).mappings().one_or_none()


async def _machine(connection: AsyncConnection, name: Name, token: Token, at: datetime, visit: Visit) -> str | None:
    """Why it was a machine. A scanner's first link looks like a person's: what it did just before is uncounted."""
    what: Literal["opened", "clicked"] = "clicked" if name == "message.clicked" else "opened"
    key = {"id": token.message_id, "created_at": token.created_at}
    values = key | {"what": what, "at": at, "since": at - visits.AFTER_TRAP, "message": str(token.message_id)}
    rows = list(await connection.execute(_BEFORE, values))
    accepted = rows[0].accepted_at if rows else None
    earlier = [
        Earlier(at - row.occurred_at, row.url or "", row.why == "hidden link") for row in rows if row.occurred_at
    ]
    why = visits.machine(what, visit, at - accepted if accepted else None, links.normal(token.payload), earlier)
    if what == "clicked" and why in ("hidden link", "many links"):
        back = visits.AFTER_TRAP if why == "hidden link" else visits.BURST
        await connection.execute(_UNCOUNT, key | {"since": at - back})
    return why


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
