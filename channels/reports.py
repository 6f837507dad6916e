"""What becomes of messages after their provider took them: every report is written down here, once, whoever brings it.

Webhooks, bounces that came by mail, receipts of an SMSC and replies all pass through `take`. A report may come twice,
late, or before its predecessor: a key that was seen changes nothing, and states only move forward.
"""

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import health, undelivered
from channels.health import Tally
from channels.provider import Report, ReportKind
from contacts import consents, identities, suppressions
from core import answers, eventlog, links
from core.clock import now
from core.database import driver
from core.schema.messages import MessageState
from core.settings import Settings

EVENTS = {
    ReportKind.DELIVERED: "message.delivered",
    ReportKind.SOFT_BOUNCED: "message.bounced",
    ReportKind.BOUNCED: "message.bounced",
    ReportKind.COMPLAINED: "message.complained",
    ReportKind.UNSUBSCRIBED: "message.unsubscribed",
    ReportKind.OPENED: "message.opened",
    ReportKind.CLICKED: "message.clicked",
    ReportKind.ANSWERED: "message.replied",
    ReportKind.PRESSED: "voice.pressed",
}
"""The event of the log that tells journeys and segments of a report; DEFERRED and UNKNOWN are only kept."""
STATES = {
    ReportKind.DELIVERED: MessageState.DELIVERED,
    ReportKind.SOFT_BOUNCED: MessageState.BOUNCED,
    ReportKind.BOUNCED: MessageState.BOUNCED,
}
SUPPRESSED = {ReportKind.BOUNCED: "bounced", ReportKind.COMPLAINED: "complained"}
"""Reports after which the address must not be used again, and the reason."""
_CAME_BACK = frozenset({ReportKind.SOFT_BOUNCED, ReportKind.BOUNCED})
_REASON_LIMIT = 500
_DETAILS_LIMIT = 10_000
_LOOK_BACK = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the reports of one hook."""

    new: int
    """Written down now; the others had come before."""
    unmatched: int
    """New ones that belong to no message in the ledger."""


@dataclass(frozen=True, slots=True)
class SoftLimit:
    """How many messages may come back softly before their address is suppressed."""

    bounces: int = 5
    within: timedelta = timedelta(days=30)

    @classmethod
    def of(cls, settings: Settings) -> "SoftLimit":
        """As this installation has it."""
        return cls(settings.soft_bounces, timedelta(days=settings.soft_bounce_days))


@dataclass(frozen=True, slots=True)
class _Known:
    """A message that a report is about."""

    id: UUID
    created_at: datetime
    contact_id: int
    channel: str
    purpose: str
    address: str | None
    present: bool
    """Whether the contact still exists."""
    earlier: bool
    """Whether another provider has it by now."""
    about: dict[str, str]
    """Journey, step and template, by name, where there are any."""


async def take(
    connection: AsyncConnection,
    provider_id: int,
    reports: Sequence[Report],
    raw: bytes | None = None,
    limit: SoftLimit = SoftLimit(),
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
    fresh = await _unseen(connection, provider_id, reports)
    if not fresh:
        return Taken(0, 0)
    known = await _messages(connection, provider_id, fresh)
    pairs = [(report, known.get(report.message_id or report.provider_message_id)) for report in fresh]
    await _keep(connection, provider_id, pairs, raw)
    found = [(report, message) for report, message in pairs if message is not None]
    # What came back to an earlier provider is on its way by another one.
    told = [(report, message) for report, message in found if not (message.earlier and report.kind in _CAME_BACK)]
    await _advance(connection, told)
    await _count(connection, provider_id, found)
    await _spare_addresses(connection, found)
    await _spare_the_often_full(connection, found, limit)
    softly = [message.id for report, message in told if report.kind is ReportKind.SOFT_BOUNCED]
    await undelivered.came_back(connection, provider_id, softly)
    await _withdraw(connection, found)
    await _tell(connection, told)
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
    fresh = await _unseen(connection, provider_id, reports)
    if not fresh:
        return
    known = await _messages(connection, provider_id, fresh)
    found = [(report, known[report.message_id]) for report in fresh if report.message_id in known]
    await _keep(connection, provider_id, found, None)
    await _spare_addresses(connection, found)
    await _tell(connection, found)


_SEE = """
insert into delivery_report_key (provider_id, key) select %(provider)s, unnest(%(keys)s::bytea[])
on conflict do nothing returning key
"""


async def _unseen(connection: AsyncConnection, provider_id: int, reports: Sequence[Report]) -> list[Report]:
    """Those that did not come before, each once. Locked in one order, so that two hooks never wait for each other."""
    by_key = {_digest(report): report for report in reversed(reports)}
    values = {"provider": provider_id, "keys": sorted(by_key)}
    rows = await (await driver(connection)).execute(_SEE, values)
    unseen = {bytes(row[0]) for row in await rows.fetchall()}
    return [report for key, report in reversed(by_key.items()) if key in unseen]


def _digest(report: Report) -> bytes:
    return hashlib.sha256(f"{report.kind}\0{report.key}".encode()).digest()[:16]


_ABOUT = """
select m.id, {own}.provider_message_id, m.created_at, m.contact_id, m.channel, m.purpose, m.address, c.id is not null,
    m.provider_id <> %(provider)s, j.name, v.plan #>> array['steps', m.step::text, 'id'], t.name
from {rows}
left join contact c on c.id = m.contact_id
left join journey_version v on v.id = m.version_id left join journey j on j.id = v.journey_id
left join template_version tv on tv.id = m.template_version_id left join template t on t.id = tv.template_id
where {own}.provider_id = %(provider)s and (m.id = any(%(ids)s) or {own}.provider_message_id = any(%(theirs)s))
"""
_MESSAGES = _ABOUT.format(own="m", rows="message m")
_HAD = _ABOUT.format(
    own="w", rows="message_watch w join message m on m.id = w.message_id and m.created_at = w.created_at"
)
"""Messages that the provider has had, as long as that is known."""


async def _messages(
    connection: AsyncConnection, provider_id: int, reports: Sequence[Report]
) -> dict[UUID | str | None, _Known]:
    """The messages that reports are about, by our id and by the provider's."""
    found = await _asked(connection, _MESSAGES, provider_id, reports)
    unknown = [one for one in reports if (one.message_id or one.provider_message_id) not in found]
    return await _asked(connection, _HAD, provider_id, unknown) | found if unknown else found


async def _asked(
    connection: AsyncConnection, statement: str, provider_id: int, reports: Iterable[Report]
) -> dict[UUID | str | None, _Known]:
    values = {
        "provider": provider_id,
        "ids": list({report.message_id for report in reports if report.message_id}),
        "theirs": list({r.provider_message_id for r in reports if r.provider_message_id and not r.message_id}),
    }
    rows = await (await driver(connection)).execute(statement, values)
    found: dict[UUID | str | None, _Known] = {}
    for (
        number,
        theirs,
        created_at,
        contact,
        channel,
        purpose,
        address,
        present,
        earlier,
        *names,
    ) in await rows.fetchall():
        about = {key: name for key, name in zip(("journey", "step", "template"), names, strict=True) if name}
        known = _Known(number, created_at, contact, channel, purpose, address, present, earlier, about)
        found[number] = known
        if theirs is not None:
            found[theirs] = known
    return found


_KEEP = """
insert into delivery_report (reported_at, message_id, contact_id, provider_id, kind, reason, details, raw)
select n.at, n.message_id, n.contact_id, %(provider)s, n.kind, n.reason, n.details::jsonb,
    case when n.number = 1 then %(raw)s::bytea end
from unnest(%(ats)s::timestamptz[], %(messages)s::uuid[], %(contacts)s::bigint[], %(kinds)s::text[],
    %(reasons)s::text[], %(details)s::text[]) with ordinality
    as n (at, message_id, contact_id, kind, reason, details, number)
"""


async def _keep(
    connection: AsyncConnection, provider_id: int, pairs: Sequence[tuple[Report, _Known | None]], raw: bytes | None
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


async def _count(connection: AsyncConnection, provider_id: int, found: Sequence[tuple[Report, _Known]]) -> None:
    """What the provider's health is judged by."""
    kinds = Counter(report.kind for report, _ in found)
    undelivered = kinds[ReportKind.BOUNCED] + kinds[ReportKind.SOFT_BOUNCED]
    await health.note(connection, provider_id, Tally(delivered=kinds[ReportKind.DELIVERED], undelivered=undelivered))


_ON_THE_ROW = frozenset({*STATES, ReportKind.OPENED, ReportKind.CLICKED})


async def _advance(connection: AsyncConnection, found: Sequence[tuple[Report, _Known]]) -> None:
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


async def _spare_addresses(connection: AsyncConnection, found: Sequence[tuple[Report, _Known]]) -> None:
    """Suppress the addresses that came back for good, and those of people who complained."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for report, message in found:
        if report.kind in SUPPRESSED and message.address:
            wanted.setdefault((message.channel, SUPPRESSED[report.kind]), set()).add(message.address)
    for (channel, reason), addresses in sorted(wanted.items()):
        await suppressions.suppress(connection, channel, sorted(addresses), reason)


_OFTEN = """
select m.channel, m.address, count(distinct m.id)
from delivery_report r join message m on m.id = r.message_id
where r.contact_id = any(%(contacts)s) and r.kind = 'soft_bounced' and r.received_at > now() - %(within)s
    and m.address = any(%(addresses)s)
group by m.channel, m.address having count(distinct m.id) >= %(bounces)s order by 1, 2
"""


async def _spare_the_often_full(
    connection: AsyncConnection, found: Sequence[tuple[Report, _Known]], limit: SoftLimit
) -> None:
    """Suppress addresses whose messages keep coming back softly: several messages, not several reports of one."""
    soft = [message for report, message in found if report.kind is ReportKind.SOFT_BOUNCED and message.address]
    if not soft:
        return
    values = {
        "contacts": list({message.contact_id for message in soft}),
        "addresses": list({message.address for message in soft}),
        "within": limit.within,
        "bounces": limit.bounces,
    }
    rows = await (await driver(connection)).execute(_OFTEN, values)
    for channel, address, count in await rows.fetchall():
        note = f"{count} soft bounces within {limit.within.days} days"
        await suppressions.suppress(connection, channel, [address], "bounced", note)


async def _withdraw(connection: AsyncConnection, found: Sequence[tuple[Report, _Known]]) -> None:
    """Who unsubscribed by the provider's own link, or complained, has withdrawn the consent of that message."""
    for report, message in found:
        if report.kind in {ReportKind.UNSUBSCRIBED, ReportKind.COMPLAINED} and message.present:
            evidence = {"message": str(message.id), "report": report.key[:200]}
            await consents.record(
                connection,
                [message.contact_id],
                message.channel,
                message.purpose,
                False,
                "provider",
                evidence,
                report.at,
            )


async def _tell(connection: AsyncConnection, found: Sequence[tuple[Report, _Known]]) -> None:
    told = [(report, message) for report, message in found if message.present and report.kind in EVENTS]
    if not told:
        return
    moment = now()
    numbers = await eventlog.name_ids(connection, [EVENTS[report.kind] for report, _ in told])
    await eventlog.append(
        connection,
        [
            eventlog.NewEvent(
                message.contact_id,
                numbers[EVENTS[report.kind]],
                _in_the_log(report.at, moment),
                msgspec.json.encode(_properties(report, message)),
            )
            for report, message in told
        ],
    )


def _in_the_log(at: datetime, moment: datetime) -> datetime:
    """When the log says it happened: a provider's clock may be wrong by years, and the log has no place for that."""
    return max(min(at, moment), moment - _LOOK_BACK)


def _properties(report: Report, message: _Known) -> dict[str, Any]:
    own: dict[str, Any] = {"message": str(message.id), "channel": message.channel, **message.about}
    if EVENTS[report.kind] == "message.bounced":
        own["permanent"] = report.kind is ReportKind.BOUNCED
    if report.kind is ReportKind.ANSWERED:
        own["answer"] = answers.plain(str(report.details.get("text", "")))
    if report.kind is ReportKind.CLICKED and "url" in report.details:
        own["url"] = links.normal(str(report.details["url"]))
    if report.kind is ReportKind.UNSUBSCRIBED:
        own["purpose"] = message.purpose
    return {**report.details, **own}
