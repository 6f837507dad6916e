"""The ledger: one row for each message, written before anything leaves, its state only moving forward."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any
from uuid import UUID

import msgspec
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import carriers, spending, templates
from channels.batches import NEW, ROWS, Batch, written
from channels.carriers import Wanted
from channels.facts import Known, gather
from channels.metrics import MESSAGES
from channels.policy import Decision, DelayUntil, Reason, Skip, decide_all
from channels.requests import Item, PrepareRequest, Verdict
from channels.routing import Carrier, Choice
from channels.webhook import call as webhook
from contacts import identities
from core.clock import now
from core.database import array, array_of, driver
from core.errors import Conflict
from core.ids import message_id
from core.schema.messages import MessageState
from core.settings import Settings

# One statement for the batch. A row that is there stays as it is: the activity was repeated.
_INSERT = """
insert into message (id, created_at, contact_id, enrollment_id, version_id, template_version_id, visit, step,
    provider_id, state, channel, purpose, address, reason, cost)
select n.id, %(at)s, n.contact_id, n.enrollment_id, %(version_id)s, %(template_version_id)s, n.visit, %(step)s,
    n.provider_id, n.state, %(channel)s, %(purpose)s,
    n.address, n.reason, n.cost
from unnest(%(ids)s::uuid[], %(contacts)s::bigint[], %(enrollments)s::bigint[], %(visits)s::int[],
    %(states)s::smallint[], %(addresses)s::text[], %(reasons)s::text[], %(providers)s::smallint[],
    %(costs)s::numeric[])
    as n (id, contact_id, enrollment_id, visit, state, address, reason, provider_id, cost)
on conflict do nothing
returning id
"""
_PRESENT = f"""
select m.id, m.state, m.reason, p.name from message m left join provider p on p.id = m.provider_id
where {ROWS}
"""  # noqa: S608  no input in it


async def prepare(connection: AsyncConnection, settings: Settings, request: PrepareRequest) -> list[Verdict]:
    """Ask the policy about each item and write the ledger rows, as one part of the caller's transaction.

    A repeat gives the verdicts of the rows that are there, whatever the policy would say now. An item that is to be
    delayed gets no row; it is asked about again when its time has come.

    Args:
        connection: an open transaction.
        settings: of the installation.
        request: the batch. A thousand items take about 50 ms, PostgreSQL included.

    Returns:
        One verdict for each item, in the same order.

    Raises:
        NotFound: the template was never published.
        Conflict: the template is for another channel.
    """
    if not request.items:
        return []
    await identities.hold_off_erasure(connection)
    template = await templates.find(connection, request.template)
    if template.channel != request.channel:
        raise Conflict(f"the template {request.template!r} is for {template.channel}, not for {request.channel}")
    known_carriers = await carriers.load(connection, request.channel)
    call = template.compiled.get("call")
    address = webhook.host(call) if call else None
    batch = Batch(
        request.channel,
        request.purpose,
        request.version_id,
        request.step,
        request.at,
        address,
        template.compiled.get("sender"),
    )
    ids = {item.enrollment_id: message_id(item.enrollment_id, item.visit) for item in request.items}
    moment = max(now(), request.at)
    known = await gather(connection, batch, ids, request.rules, moment, reserve=True)
    drafts = _drafts(request, ids, known, moment)
    drafts = await _routed(connection, request, drafts, known, known_carriers, moment)
    drafts = await _within_budget(connection, request, drafts)
    written = await _insert(connection, request, template.id, drafts)
    present = await _present(connection, request.at, [draft.id for draft in drafts if draft.id not in written])
    _count(request.channel, drafts, written)
    return [_verdict(draft, present.get(draft.id)) for draft in drafts]


class _Draft(msgspec.Struct, frozen=True, gc=False):
    """A row to be, or the decision that there is none."""

    id: UUID
    enrollment_id: int
    visit: int
    contact_id: int | None
    address: str | None
    skip: str | None
    until: datetime | None
    choice: Choice | None = None
    """The provider, of a message that is to be sent."""


async def _routed(
    connection: AsyncConnection,
    request: PrepareRequest,
    drafts: Sequence[_Draft],
    known: Mapping[int, Known],
    among: Sequence[Carrier],
    at: datetime,
) -> list[_Draft]:
    """The drafts with the provider of each that is to be sent; what nobody carries is skipped."""
    wanted = [
        Wanted(draft.id, draft.address, request.purpose, known[draft.enrollment_id].facts.time_zone)
        for draft in drafts
        if draft.skip is None and draft.until is None and draft.address is not None
    ]
    chosen = await carriers.choose(connection, among, wanted, at)

    def routed(draft: _Draft) -> _Draft:
        if draft.skip is not None or draft.until is not None:
            return draft
        choice = chosen.get(draft.id)
        return structs.replace(draft, choice=choice) if choice else structs.replace(draft, skip=str(Reason.NO_ROUTE))

    return [routed(draft) for draft in drafts]


async def _within_budget(
    connection: AsyncConnection, request: PrepareRequest, drafts: Sequence[_Draft]
) -> list[_Draft]:
    """The drafts, those skipped that the journey cannot pay for any more."""
    costs = {draft.id: draft.choice.price or Decimal() for draft in drafts if draft.choice is not None}
    if request.budget is None or not costs:
        return list(drafts)
    refused = await spending.charge(connection, request.budget, request.at, costs)
    over = str(Reason.OVER_BUDGET)
    return [structs.replace(draft, skip=over, choice=None) if draft.id in refused else draft for draft in drafts]


def _drafts(request: PrepareRequest, ids: Mapping[int, UUID], known: Mapping[int, Known], at: datetime) -> list[_Draft]:
    """The policy's word on each item. Of one contact's messages those with the lower ids come first, in whatever order
    the batch has them."""
    members = sorted(((ids[number], found) for number, found in known.items()), key=itemgetter(0))
    facts = ((found.contact_id, found.facts) for _, found in members)
    decided = dict(zip((number for number, _ in members), decide_all(facts, at, request.rules), strict=True))
    return [_draft(item, ids, known.get(item.enrollment_id), decided) for item in request.items]


def _draft(item: Item, ids: Mapping[int, UUID], found: Known | None, decided: Mapping[UUID, Decision]) -> _Draft:
    number = ids[item.enrollment_id]
    if found is None:
        return _Draft(number, item.enrollment_id, item.visit, None, None, str(Reason.CONTACT_GONE), None)
    decision = decided[number]
    skip = str(decision) if isinstance(decision, Skip) else None
    until = decision.at if isinstance(decision, DelayUntil) else None
    address = found.facts.address
    return _Draft(number, item.enrollment_id, item.visit, found.contact_id, address, skip, until)


async def _insert(
    connection: AsyncConnection,
    request: PrepareRequest,
    template_version_id: int,
    drafts: list[_Draft],
) -> set[UUID]:
    rows = [draft for draft in drafts if draft.contact_id is not None and draft.until is None]
    if not rows:
        return set()
    values = {
        "at": request.at,
        "version_id": request.version_id,
        "template_version_id": template_version_id,
        "step": request.step,
        "channel": request.channel,
        "purpose": request.purpose,
        "ids": array_of([row.id for row in rows]),
        "contacts": array_of([row.contact_id for row in rows]),
        "enrollments": array_of([row.enrollment_id for row in rows]),
        "visits": array_of([row.visit for row in rows]),
        "states": array_of([int(MessageState.QUEUED if row.skip is None else MessageState.SKIPPED) for row in rows]),
        "addresses": array(row.address for row in rows),
        "reasons": array(row.skip for row in rows),
        "providers": array_of([row.choice.provider_id if row.choice else None for row in rows]),
        "costs": array_of([row.choice.price if row.choice else None for row in rows]),
    }
    done = await (await driver(connection)).execute(_INSERT, values)
    return {row[0] for row in await done.fetchall()}


async def _present(
    connection: AsyncConnection, at: datetime, ids: Sequence[UUID]
) -> dict[UUID, tuple[int, str | None, str | None]]:
    if not ids:
        return {}
    rows = await (await driver(connection)).execute(_PRESENT, {"at": at, "ids": array_of(ids)})
    return {row[0]: (row[1], row[2], row[3]) for row in await rows.fetchall()}


def _verdict(draft: _Draft, present: tuple[int, str | None, str | None] | None) -> Verdict:
    if present is not None:
        state, reason, name = present
        if state == MessageState.SKIPPED:
            return Verdict(draft.enrollment_id, "skip", reason=reason)
        return Verdict(draft.enrollment_id, "deliver", provider=name)
    if draft.skip is not None:
        return Verdict(draft.enrollment_id, "skip", reason=draft.skip)
    if draft.until is not None:
        return Verdict(draft.enrollment_id, "delay", until=draft.until)
    return Verdict(draft.enrollment_id, "deliver", provider=draft.choice.name if draft.choice else None)


def _count(channel: str, drafts: Iterable[_Draft], written: set[UUID]) -> None:
    skipped = sum(draft.skip is not None and draft.id in written for draft in drafts)
    MESSAGES.labels(channel, "skipped").inc(skipped)
    MESSAGES.labels(channel, "queued").inc(len(written) - skipped)


class Step(msgspec.Struct, frozen=True, gc=False):
    """Where one row is to move, and what is to be written with it."""

    id: UUID
    state: MessageState
    reason: str | None = None
    provider_message_id: str | None = None
    parts: int | None = None
    cost: Decimal | None = None
    """Of all parts, where the provider named it; otherwise what was expected of one part, times the parts."""


_REASON_LIMIT = 500
# Only forward, and only if nobody else has taken the row over: a row in HANDING belongs to the attempt whose claim is
# on it. One that a successor held to be in doubt may still be settled by the attempt that knows. A row without address
# was erased meanwhile: the provider's words, which may quote the address, stay out of it.
_ADVANCE = f"""
update message m set state = ({NEW} ->> 'state')::smallint, claim = null, claimed_at = null,
    reason = case when m.address is null then coalesce(m.reason, 'erased')
        else coalesce({NEW} ->> 'reason', case when ({NEW} ->> 'state')::smallint < 50 then m.reason end) end,
    provider_message_id = case when m.address is not null
        then coalesce({NEW} ->> 'provider_message_id', m.provider_message_id) end,
    accepted_at = case when ({NEW} ->> 'state')::smallint = 50 then clock_timestamp() else m.accepted_at end,
    parts = coalesce(({NEW} ->> 'parts')::smallint, m.parts),
    cost = coalesce(({NEW} ->> 'cost')::numeric, m.cost * ({NEW} ->> 'parts')::smallint, m.cost)
where {ROWS} and m.state < ({NEW} ->> 'state')::smallint
    and (m.state <> 20 or m.claim = %(claim)s) and (%(provider)s::smallint is null or m.provider_id = %(provider)s)
returning m.id
"""  # noqa: S608  no input in it


async def advance(
    connection: AsyncConnection,
    at: datetime,
    steps: Sequence[Step],
    claim: UUID | None = None,
    provider_id: int | None = None,
) -> set[UUID]:
    """Move rows forward; returns the ids of those that moved.

    A row that is as far already, or that another attempt has claimed, stays as it is.

    Args:
        connection: an open transaction.
        at: message.created_at of the rows.
        steps: where each is to move.
        claim: the attempt that asks; rows being handed over move only for the attempt that has them.
        provider_id: rows that another provider has by now stay as they are.
    """
    if not steps:
        return set()
    new = {step.id: _new(step) for step in steps}
    values = {**written(at, new), "claim": claim, "provider": provider_id}
    done = await (await driver(connection)).execute(_ADVANCE, values)
    return {row[0] for row in await done.fetchall()}


def _new(step: Step) -> dict[str, Any]:
    return {
        "state": int(step.state),
        "reason": step.reason[:_REASON_LIMIT] if step.reason else None,
        "provider_message_id": step.provider_message_id,
        "parts": step.parts if step.parts != 1 else None,
        "cost": step.cost,
    }
