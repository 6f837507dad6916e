"""Erasure: after it no table holds anything that says who the contact was.

What happened stays as numbers (an event of this name, a message in this state), so reports do not change. A suppressed
address stays suppressed by its digest.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identities, suppressions
from core.errors import NotFound

# A reason that is not one of our words may quote the address ("550 no such user anna@example.com").
_SCRUB = (
    "update event set properties = null where contact_id = :id and properties is not null",
    "update message set address = null, provider_message_id = null, "
    "state = case state when 10 then 15 else state end, "
    "reason = case when state = 10 then 'erased' when reason ~ '^[a-z_]+$' then reason "
    "when reason is not null then 'erased' end where contact_id = :id",
    "update enrollment set key = 'erased-' || id, correlation = null where contact_id = :id",
    "update call_attempt set error = null where enrollment_id in (select id from enrollment where contact_id = :id)",
    "delete from segment_member where contact_id = :id",
    "delete from caught_letter where recipient = any(:addresses)",
    "delete from contact where id = :id",
)


async def erase(connection: AsyncConnection, contact_id: int) -> None:
    """Remove a contact with its identities, consents and history, and blank what other tables know of it.

    Everyone who is writing about contacts finishes first and nobody begins until the transaction ends, so nothing
    about this one is written afterwards. Messages that were queued will not be sent.

    Raises:
        NotFound: there is no such contact.
    """
    await identities.await_writers(connection)
    found = await connection.execute(text("select 1 from contact where id = :id for update"), {"id": contact_id})
    if found.first() is None:
        raise NotFound(f"there is no contact {contact_id}")
    addresses = [identity["value"] for identity in await identities.of(connection, contact_id)]
    used = await connection.execute(
        text("select distinct address from message where contact_id = :id and address is not null"), {"id": contact_id}
    )
    addresses += used.scalars()
    await suppressions.forget(connection, addresses)
    for statement in _SCRUB:
        values = {"id": contact_id, "addresses": addresses}
        await connection.execute(text(statement), {k: v for k, v in values.items() if f":{k}" in statement})
