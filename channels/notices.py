"""Letters to the staff: rows of the ledger like any other, but to an address that stands in the journey.

No consent is asked for and no unsubscribing offered; their purpose is `staff`, and whatever counts messages to contacts
leaves them out. The text stands in the plan of the journey's version, so there is no template.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from channels import carriers
from channels.carriers import Wanted
from channels.policy import Reason
from channels.requests import Item, Verdict
from contacts import identities
from core.clock import now
from core.database import driver
from core.ids import message_id
from core.schema.messages import MessageState

STAFF = "staff"
"""The purpose of such letters."""

_INSERT = """
insert into message (id, created_at, contact_id, enrollment_id, version_id, visit, step, provider_id, state, channel,
    purpose, address, reason)
select n.id, %(at)s, e.contact_id, e.id, %(version_id)s, n.visit, %(step)s, n.provider_id, %(state)s,
    %(channel)s, 'staff', %(address)s, %(reason)s
from unnest(%(ids)s::uuid[], %(enrollments)s::bigint[], %(visits)s::int[], %(providers)s::smallint[])
    as n (id, enrollment_id, visit, provider_id)
join enrollment e on e.id = n.enrollment_id join contact c on c.id = e.contact_id
on conflict do nothing
"""
_PRESENT = """
select m.enrollment_id, p.name, m.reason from message m left join provider p on p.id = m.provider_id
where m.created_at = %(at)s and m.id = any(%(ids)s)
"""


@dataclass(frozen=True)
class NoticeRequest:
    """A batch of tokens that stand on the same step that notifies."""

    version_id: int
    step: int
    channel: str
    address: str
    at: datetime
    """When the batch was made; the same on every retry."""
    items: list[Item]


async def prepare_notices(connection: AsyncConnection, request: NoticeRequest) -> list[Verdict]:
    """Write the ledger rows, as one part of the caller's transaction; a repeat changes nothing.

    Returns:
        Who carries each; nothing for contacts who were erased. Where nobody carries the channel any more, each is
        skipped with that reason.
    """
    await identities.hold_off_erasure(connection)
    ids = [message_id(item.enrollment_id, item.visit) for item in request.items]
    known = await carriers.load(connection, request.channel)
    first = known[0].id if known else None
    wanted = [Wanted(one, request.address, STAFF) for one in ids]
    chosen = await carriers.choose(connection, known, wanted, now())
    raw = await driver(connection)
    await raw.execute(
        _INSERT,
        {
            "at": request.at,
            "version_id": request.version_id,
            "step": request.step,
            # What no route takes still goes to the first: somebody waits for it, and has no ledger to look into.
            "providers": [chosen[one].provider_id if one in chosen else first for one in ids],
            "state": int(MessageState.SKIPPED if first is None else MessageState.QUEUED),
            "reason": str(Reason.NO_ROUTE) if first is None else None,
            "channel": request.channel,
            "address": request.address,
            "ids": ids,
            "enrollments": [item.enrollment_id for item in request.items],
            "visits": [item.visit for item in request.items],
        },
    )
    rows = await (await raw.execute(_PRESENT, {"at": request.at, "ids": ids})).fetchall()
    return [
        Verdict(enrollment, "skip", reason=reason)
        if provider is None
        else Verdict(enrollment, "deliver", provider=provider)
        for enrollment, provider, reason in rows
    ]
