"""Erasure: after it no table holds anything that says who the contact was.

What happened stays as numbers (an event of this name, a message in this state), so reports do not change. A suppressed
address stays suppressed by its digest, and nothing comes in any more under the contact's anonymous ids, which lie in
browsers we cannot reach. All of it holds for the contacts that were merged into it, too.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identities, suppressions
from core.errors import NotFound

# A reason that is not one of our words may quote the address ("550 no such user anna@example.com").
_SCRUB = (
    "update event set properties = null where contact_id = any(:ids) and properties is not null",
    "delete from message_content k using message m "
    "where m.contact_id = any(:ids) and k.created_at = m.created_at and k.message_id = m.id",
    "delete from message_settlement where contact_id = any(:ids)",
    "update message set address = null, provider_message_id = null, "
    "state = case state when 10 then 15 else state end, "
    "reason = case when state = 10 then 'erased' when reason ~ '^[a-z_]+$' then reason "
    "when reason is not null then 'erased' end where contact_id = any(:ids)",
    "update enrollment set key = 'erased-' || id, correlation = null where contact_id = any(:ids)",
    "update call_attempt set error = null "
    "where enrollment_id in (select id from enrollment where contact_id = any(:ids))",
    "delete from delivery_report where contact_id = any(:ids)",
    "delete from segment_member where contact_id = any(:ids)",
    "update session set entry_url = null, exit_url = null, referrer = null, term = null, content = null, "
    "region = null, city = null where contact_id = any(:ids)",
    "update contact_merge set before = null, settled_at = coalesce(settled_at, now()) "
    "where loser_id = any(:ids) or winner_id = any(:ids)",
    "insert into erased_identity (digest) select unnest(cast(:digests as bytea[])) on conflict do nothing",
    "delete from import_reject where exists (select from unnest(cells) cell "
    "where btrim(cell) = any(:addresses) or lower(btrim(cell)) = any(:addresses))",
    "delete from caught_letter where recipient = any(:addresses)",
    "delete from contact where id = any(:ids)",
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
    merged = await connection.execute(
        text("select loser_id from contact_merge where now_id = :id and undone_at is null"), {"id": contact_id}
    )
    ids = [contact_id, *merged.scalars()]
    known_by = [(one["kind"], one["value"]) for number in ids for one in await identities.of(connection, number)]
    addresses = [value for _, value in known_by]
    used = await connection.execute(
        text("select distinct address from message where contact_id = any(:ids) and address is not null"), {"ids": ids}
    )
    addresses += used.scalars()
    # Neighbours share the mark of a visitor who agreed to no storage, and it means nobody any more tomorrow.
    marks = [pair for pair in known_by if pair[0] == "anonymous_id" and not pair[1].startswith(identities.DAILY_MARK)]
    digests = [identities.digest(pair) for pair in marks]
    await suppressions.forget(connection, addresses)
    for statement in _SCRUB:
        values = {"ids": ids, "addresses": addresses, "digests": digests}
        await connection.execute(text(statement), {k: v for k, v in values.items() if f":{k}" in statement})
