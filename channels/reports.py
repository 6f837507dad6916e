"""What becomes of messages after their provider took them: every report is written down here, once, whoever brings it.

Webhooks, bounces that came by mail, receipts of an SMSC and replies all pass through `take`. A report may come twice,
late, or before its predecessor: a key that was seen changes nothing, and states only move forward.
"""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import health, matching, sparing, telling, undelivered
from channels.health import Tally
from channels.matching import Found, Known
from channels.provider import Report, ReportKind
from channels.sparing import USUAL, SoftLimit
from contacts import identities
from core.database import driver
from core.schema.messages import MessageState

__all__ = ["SoftLimit", "Taken", "refused_addresses", "take"]

STATES = {
    ReportKind.DELIVERED: MessageState.DELIVERED,
    ReportKind.SOFT_BOUNCED: MessageState.BOUNCED,
    ReportKind.BOUNCED: MessageState.BOUNCED,
}
_CAME_BACK = frozenset({ReportKind.SOFT_BOUNCED, ReportKind.BOUNCED})
_REASON_LIMIT = 500
_DETAILS_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the reports of one hook."""

    new: int
    """Written down now; the others had come before."""
    unmatched: int
    """New ones that belong to no message in the ledger."""


async def take(
    connection: AsyncConnection,
    provider_id: int,
    reports: Sequence[Report],
    raw: bytes | None = None,
    limit: SoftLimit = USUAL,
) -> Taken:
    """Write reports down: in the history of their message, on its row, in suppressions and consents, in the event log.

    The last thing of its transaction, as it writes to the log.

    Args:
        connection: an open transaction.
        provider_id: who reports; keys are its own, and it speaks of its own messages only.
        reports: what it says, in the order it says it.
        raw: as it came, kept for a while for people to read.
        limit: how many soft bounces an address may have.
    """
    await identities.hold_off_erasure(connection)
    fresh = await matching.unseen(connection, provider_id, reports)
    if not fresh:
        return Taken(0, 0)
    known = await matching.messages(connection, provider_id, fresh)
    pairs = [(report, known.get(report.message_id or report.provider_message_id)) for report in fresh]
    await _keep(connection, provider_id, pairs, raw)
    found = [(report, message) for report, message in pairs if message is not None]
    # What came back to an earlier provider is on its way by another one.
    told = [(report, message) for report, message in found if not (message.earlier and report.kind in _CAME_BACK)]
    await _advance(connection, told)
    await _count(connection, provider_id, found)
    await sparing.spare_addresses(connection, found)
    await sparing.spare_the_often_full(connection, found, limit)
    softly = [message.id for report, message in told if report.kind is ReportKind.SOFT_BOUNCED]
    await undelivered.came_back(connection, provider_id, softly)
    await sparing.withdraw(connection, found)
    await telling.tell(connection, told)
    return Taken(len(fresh), len(fresh) - len(found))


async def refused_addresses(
    connection: AsyncConnection, provider_id: int, refusals: Mapping[UUID, str], at: datetime
) -> None:
    """Write down that a provider knows no such recipients: a bounce for good that came with the refusal itself.

    History, suppression and event are those of a bounce that is reported later. The row is not touched, since the
    provider never accepted the message, and neither is the provider's health: the addresses are to blame. Doing it
    twice is doing it once. Whoever calls it holds off erasure before locking rows; it writes to the log, so it comes
    last.

    Args:
        connection: an open transaction.
        provider_id: who refused; only messages that it has are looked at.
        refusals: the provider's words by message.
        at: now.
    """
    reports = [
        Report(ReportKind.BOUNCED, f"refused:{number}", at, number, reason=why) for number, why in refusals.items()
    ]
    fresh = await matching.unseen(connection, provider_id, reports)
    if not fresh:
        return
    known = await matching.messages(connection, provider_id, fresh)
    found = [(report, known[report.message_id]) for report in fresh if report.message_id in known]
    await _keep(connection, provider_id, found, None)
    await sparing.spare_addresses(connection, found)
    await telling.tell(connection, found)


_KEEP = """
insert into delivery_report (reported_at, message_id, contact_id, provider_id, kind, reason, details, raw)
select n.at, n.message_id, n.contact_id, %(provider)s, n.kind, n.reason, n.details::jsonb,
    case when n.number = 1 then %(raw)s::bytea end
from unnest(%(ats)s::timestamptz[], %(messages)s::uuid[], %(contacts)s::bigint[], %(kinds)s::text[],
    %(reasons)s::text[], %(details)s::text[]) with ordinality
    as n (at, message_id, contact_id, kind, reason, details, number)
"""


async def _keep(
    connection: AsyncConnection, provider_id: int, pairs: Sequence[tuple[Report, Known | None]], raw: bytes | None
) -> None:
    """Into the history. Of an erased contact nothing personal is kept: neither words nor the raw hook."""
    quiet = [message is not None and not message.present for _, message in pairs]
    values = {
        "provider": provider_id,
        "raw": zlib.compress(raw) if raw is not None and not any(quiet) else None,
        "ats": [report.at for report, _ in pairs],
        "messages": [message.id if message else None for _, message in pairs],
        "contacts": [message.contact_id if message else None for _, message in pairs],
        "kinds": [str(report.kind) for report, _ in pairs],
        "reasons": [
            None if hush else report.reason[:_REASON_LIMIT] or None
            for (report, _), hush in zip(pairs, quiet, strict=True)
        ],
        "details": [None if hush else _details(report) for (report, _), hush in zip(pairs, quiet, strict=True)],
    }
    await (await driver(connection)).execute(_KEEP, values)


def _details(report: Report) -> str | None:
    if not report.details:
        return None
    written = msgspec.json.encode(dict(report.details)).decode()
    return written if len(written) <= _DETAILS_LIMIT else msgspec.json.encode({"too_long": len(written)}).decode()


# A report may overtake the answer to the hand-over itself: whoever claimed the row finds it further on and leaves it.
_ADVANCE = """
update message m set
    state = greatest(m.state, n.state),
    claim = case when n.state > m.state then null else m.claim end,
    claimed_at = case when n.state > m.state then null else m.claimed_at end,
    accepted_at = coalesce(m.accepted_at, case when n.state is not null then n.at end),
    delivered_at = coalesce(m.delivered_at, n.delivered_at),
    opened_at = coalesce(m.opened_at, n.opened_at),
    clicked_at = coalesce(m.clicked_at, n.clicked_at),
    reason = case when m.address is not null and n.state > m.state then n.reason else m.reason end
from (
    select id, created_at, max(state) as state, min(at) as at,
        min(at) filter (where kind = 'delivered') as delivered_at,
        min(at) filter (where kind = 'opened') as opened_at, min(at) filter (where kind = 'clicked') as clicked_at,
        (array_agg(reason order by state desc nulls last))[1] as reason
    from unnest(%(ids)s::uuid[], %(created)s::timestamptz[], %(states)s::smallint[], %(kinds)s::text[],
        %(ats)s::timestamptz[], %(reasons)s::text[]) as r (id, created_at, state, kind, at, reason)
    group by id, created_at order by id
) n
where m.id = n.id and m.created_at = n.created_at
"""


async def _count(connection: AsyncConnection, provider_id: int, found: Sequence[Found]) -> None:
    """What the provider's health is judged by."""
    kinds = Counter(report.kind for report, _ in found)
    undelivered = kinds[ReportKind.BOUNCED] + kinds[ReportKind.SOFT_BOUNCED]
    await health.note(connection, provider_id, Tally(delivered=kinds[ReportKind.DELIVERED], undelivered=undelivered))


_ON_THE_ROW = frozenset({*STATES, ReportKind.OPENED, ReportKind.CLICKED})


async def _advance(connection: AsyncConnection, found: Sequence[Found]) -> None:
    rows = [
        (report, message)
        for report, message in found
        if report.kind in _ON_THE_ROW and not (report.kind not in STATES and report.details.get("machine"))
    ]
    if not rows:
        return
    values = {
        "ids": [message.id for _, message in rows],
        "created": [message.created_at for _, message in rows],
        "states": [int(STATES[report.kind]) if report.kind in STATES else None for report, _ in rows],
        "kinds": [str(report.kind) for report, _ in rows],
        "ats": [report.at for report, _ in rows],
        "reasons": [_reason(report) for report, _ in rows],
    }
    await (await driver(connection)).execute(_ADVANCE, values)


def _reason(report: Report) -> str | None:
    return report.reason[:_REASON_LIMIT] or None
