"""Writing down what a hand-over came to, in one transaction: settled, put back, or passed on to another provider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from channels import carriers, failover, health, ledger, reports, spending, undelivered
from channels.claims import Claimed, Claims, Requeued, Seen
from channels.fates import Fates, judged, tally
from channels.ledger import Step
from channels.provider import Outcome, Receipt
from channels.providers import Provider
from contacts import identities
from core.clock import now
from core.database import driver
from core.errors import Conflict
from core.schema.messages import MessageState

Pair = tuple[Claimed, Receipt]


class Superseded(Conflict):
    """Another attempt has taken over rows that this one had: this one is the leftover and stops."""


@dataclass(frozen=True)
class Settled:
    """What was written."""

    fates: Fates
    moved: dict[UUID, str]
    """The rows that another provider has now, and its name."""


async def settle(connection: AsyncConnection, provider: Provider, claims: Claims, pairs: Sequence[Pair]) -> Settled:
    """Write down what the provider said of each message. Other providers get what it will not or cannot carry.

    Args:
        connection: an open transaction.
        provider: who answered.
        claims: those of the attempt that handed over.
        pairs: messages and their receipts.

    Raises:
        Superseded: another attempt has rows of these.
    """
    moment = now()
    if any(receipt.no_such_address for _, receipt in pairs):
        await identities.hold_off_erasure(connection)
    moved = await _pass_on(connection, provider, claims, pairs, moment)
    given_up = await _given_up(connection, provider, claims, pairs, moment)
    fates = judged([pair for pair in pairs if pair[0].id not in moved], moment, claims.repeat, given_up)
    moved |= await _write(connection, provider, claims, fates.steps, fates.back)
    await claims.release(connection, fates.free)
    await health.note(connection, provider.id, tally(receipt for _, receipt in pairs))
    unknown = {row.id: receipt.reason for row, receipt in pairs if receipt.no_such_address and row.id not in moved}
    if unknown:
        await reports.refused_addresses(connection, provider.id, unknown, moment)
    return Settled(fates, moved)


_ASKED_SINCE = """
select message_id from message_settlement where open and message_id = any(%(ids)s) and settled_at > %(since)s
"""


async def _given_up(
    connection: AsyncConnection, provider: Provider, claims: Claims, pairs: Sequence[Pair], moment: datetime
) -> set[UUID]:
    """The messages that are put off and have waited long enough, since they were made or sent again by hand."""
    since = moment - timedelta(hours=provider.options.give_up_hours)
    late = {row.id for row, receipt in pairs if receipt.outcome is Outcome.DEFERRED} if claims.at < since else set()
    if late:
        values = {"ids": list(late), "since": since}
        asked = await (await driver(connection)).execute(_ASKED_SINCE, values)
        late -= {row[0] for row in await asked.fetchall()}
    return late


async def _pass_on(
    connection: AsyncConnection, provider: Provider, claims: Claims, pairs: Sequence[Pair], moment: datetime
) -> dict[UUID, str]:
    """Pass on what the provider refuses for reasons of its own, and what it puts off for too long."""
    if not any(one.elsewhere or (one.outcome is Outcome.DEFERRED and not one.held) for _, one in pairs):
        return {}
    known = await carriers.load(connection, provider.channel)
    ill = any(carrier.id == provider.id and not carrier.healthy for carrier in known)
    age = (moment - claims.at).total_seconds()
    moved: dict[UUID, str] = {}
    for outcome in (Outcome.REJECTED, Outcome.DEFERRED):
        asking = {
            row.id: f"{provider.name}: {one.reason}"
            for row, one in pairs
            if one.outcome is outcome and failover.asks_for_another(provider, one, row.repeated, age, ill)
        }
        # Whoever refused is out; from who only is late, messages go to those that can carry them now.
        among = failover.others(provider, known, at_once=outcome is Outcome.DEFERRED)
        chosen = await failover.pass_on(connection, provider, claims.at, claims.claim, asking, among, moment)
        moved |= {row: choice.name for row, choice in chosen.items()}
    return moved


async def _write(
    connection: AsyncConnection, provider: Provider, claims: Claims, steps: Sequence[Step], back: Sequence[Requeued]
) -> dict[UUID, str]:
    """Move the rows; gives those that turn out to be another provider's already."""
    written = await ledger.advance(connection, claims.at, steps, claims.claim, provider.id)
    written |= await claims.requeue(connection, back)
    accepted = [step for step in steps if step.state == MessageState.ACCEPTED and step.id in written]
    await undelivered.watch(connection, provider, claims.at, accepted)
    dear = {step.id for step in steps if step.state == MessageState.FAILED or (step.parts or 1) > 1}
    await spending.correct(connection, claims.at, sorted(dear & written))
    wanted = {step.id: step.state for step in steps} | {row.id: MessageState.QUEUED for row in back}
    lost = {row: state for row, state in wanted.items() if row not in written}
    if not lost:
        return {}
    # They are there already (the commit was not heard of), or somebody else has them.
    found = await claims.survey(connection, list(lost))
    foreign = {row: seen.provider for row, seen in found.items() if seen.provider_id != provider.id}
    if any(_behind(seen, lost[row]) for row, seen in found.items() if row not in foreign):
        raise Superseded(f"another attempt has taken over messages for {provider.name}")
    return foreign


def _behind(seen: Seen, wanted: MessageState) -> bool:
    """Whether a row that did not move is in other hands. One that is further on was moved by a report of the provider,
    which overtook its own answer."""
    return seen.state == MessageState.HANDING or seen.state < wanted


def by_provider(moved: Mapping[UUID, str], ids: Mapping[UUID, int]) -> dict[str, list[int]]:
    """Rows by the provider that has them now, as enrollments."""
    grouped: dict[str, list[int]] = {}
    for row, name in moved.items():
        grouped.setdefault(name, []).append(ids[row])
    return grouped
