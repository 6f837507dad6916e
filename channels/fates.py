"""What a receipt makes of its message: settled, tried again later, or in doubt. Pure."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from channels.claims import Claimed, Requeued
from channels.health import Tally
from channels.ledger import Step
from channels.provider import Outcome, Receipt
from core.schema.messages import MessageState

REPEATS = 5
"""How often a letter in doubt is handed over, where it is repeated at all."""
_LONGEST_WAIT = timedelta(minutes=15)
_NO_ROW = UUID(int=0)


@dataclass
class Fates:
    """What is to be written about messages that were handed over."""

    steps: list[Step] = field(default_factory=list)
    """Settled."""
    back: list[Requeued] = field(default_factory=list)
    """Surely not taken; they wait."""
    free: list[UUID] = field(default_factory=list)
    """In doubt, and to be tried again."""
    later: dict[UUID, datetime] = field(default_factory=dict)
    """When those that wait may be tried again."""


def judged(pairs: Iterable[tuple[Claimed, Receipt]], at: datetime, repeat: bool, given_up: Container[UUID]) -> Fates:
    """The fate of each message.

    Args:
        pairs: messages and their receipts.
        at: now.
        repeat: whether messages in doubt are handed over again.
        given_up: those that have waited long enough if they are put off again.
    """
    fates = Fates()
    for row, receipt in pairs:
        if receipt.outcome is Outcome.DEFERRED and row.id not in given_up:
            fates.later[row.id] = at + pause(row.attempts, receipt, row.id)
            if row.repeated:
                fates.free.append(row.id)
            else:
                fates.back.append(Requeued(row.id, receipt.reason[:500], untried=receipt.held))
        elif receipt.outcome is Outcome.UNKNOWN and repeat and row.attempts < REPEATS:
            fates.later[row.id] = at + pause(row.attempts, receipt, row.id)
            fates.free.append(row.id)
        else:
            fates.steps.append(_step(row, receipt))
    return fates


def _step(row: Claimed, receipt: Receipt) -> Step:
    if receipt.outcome is Outcome.ACCEPTED:
        accepted = MessageState.ACCEPTED
        return Step(row.id, accepted, None, receipt.provider_message_id, receipt.parts, receipt.cost)
    if receipt.outcome is Outcome.UNKNOWN or row.repeated:
        # A repeated letter that is refused now may have been taken the first time.
        return Step(row.id, MessageState.IN_DOUBT, receipt.reason or "no answer")
    words = receipt.reason or "refused without a reason"
    if receipt.outcome is Outcome.DEFERRED:
        words = f"given up after {row.attempts} attempts: {words}"
    return Step(row.id, MessageState.FAILED, words)


def pause(attempts: int, receipt: Receipt, row: UUID = _NO_ROW) -> timedelta:
    """How long a message waits for its next attempt: as the provider says, or about 1, 2, 4 … seconds.

    About: half as long to half as long again, by the row's id, so that what failed together comes back apart.
    """
    if receipt.retry_after:
        return receipt.retry_after
    uneven = 0.5 + (row.int + attempts * 7919) % 1000 / 1000 if row.int else 1.0
    return uneven * min(timedelta(seconds=2 ** min(max(attempts - 1, 0), 20)), _LONGEST_WAIT)


def tally(receipts: Iterable[Receipt]) -> Tally:
    """What receipts say of the provider's health. A refusal because of the address or the content says nothing, and
    neither does what our own limits kept here."""
    accepted = failed = 0
    for receipt in receipts:
        accepted += receipt.outcome is Outcome.ACCEPTED
        failed += (
            receipt.outcome is Outcome.UNKNOWN
            or (receipt.outcome is Outcome.DEFERRED and not receipt.held)
            or (receipt.outcome is Outcome.REJECTED and receipt.elsewhere)
        )
    return Tally(accepted, failed)
