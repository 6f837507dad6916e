"""Asking the policy about rows that are about to leave."""

from collections.abc import Sequence

from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.batches import Batch
from channels.claims import Claimed, Claims
from channels.facts import gather
from channels.letters import WEBHOOK, Workshop
from channels.notices import STAFF
from channels.policy import Decision, DelayUntil, Reason, Rules, Skip, decide_all
from core.clock import now

Asked = tuple[Claimed, Skip | DelayUntil | None]
"""A row, and why it must not leave now; None if it may."""


async def asked(
    connection: AsyncConnection, workshop: Workshop, claims: Claims, rows: Sequence[Claimed], rules: Rules
) -> list[Asked]:
    """What the policy says of each row now, in whatever order. Rows of contacts who have another address by now get
    it.

    Args:
        connection: the transaction that claimed the rows.
        workshop: knows the senders of templates.
        claims: those of the attempt.
        rows: of one `at`.
        rules: the journey's.
    """
    decided: list[Asked] = []
    batches: dict[Batch, list[Claimed]] = {}
    for row in rows:
        batches.setdefault(await _batch(connection, workshop, claims, row), []).append(row)
    for batch, members in batches.items():
        if batch.purpose == STAFF:  # nobody's consent, hours or caps are asked
            decided += [(row, None if row.address else Skip(Reason.CONTACT_GONE)) for row in members]
        else:
            decided += await _batch_asked(connection, batch, members, rules)
    before = {row.id: row.address for row in rows}
    changed = {row.id: row.address for row, why in decided if not why and row.address and row.address != before[row.id]}
    await claims.readdress(connection, changed)
    return decided


async def _batch(connection: AsyncConnection, workshop: Workshop, claims: Claims, row: Claimed) -> Batch:
    address = row.address if row.channel == WEBHOOK else None
    sender = await workshop.sender(connection, row)
    return Batch(row.channel, row.purpose, row.version_id, row.step, claims.at, address, sender)


async def _batch_asked(connection: AsyncConnection, batch: Batch, rows: Sequence[Claimed], rules: Rules) -> list[Asked]:
    moment = now()
    known = await gather(connection, batch, {row.enrollment_id: row.id for row in rows}, rules, moment)
    there = [row for row in rows if row.enrollment_id in known]
    facts = [(known[row.enrollment_id].contact_id, known[row.enrollment_id].facts) for row in there]
    decided: list[Asked] = [(row, Skip(Reason.CONTACT_GONE)) for row in rows if row.enrollment_id not in known]
    for row, (_, fact), decision in zip(there, facts, decide_all(facts, moment, rules), strict=True):
        decided.append((structs.replace(row, address=fact.address or row.address), _objection(decision)))
    return decided


def _objection(decision: Decision) -> Skip | DelayUntil | None:
    return decision if isinstance(decision, Skip | DelayUntil) else None
