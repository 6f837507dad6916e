"""One attempt to deliver a batch: claim, ask the policy again, render, hand over, record; until nothing is left.

The order of things is what keeps a message from being sent twice; docs/delivery.md says why it is this one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID, uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import ledger
from channels.claims import LEASE, RENEWAL, Claimed, Claims, Requeued
from channels.facts import Batch, gather
from channels.ledger import Step
from channels.letters import Workshop
from channels.metrics import MESSAGES
from channels.notices import STAFF
from channels.policy import NO_RULES, DelayUntil, Reason, Skip, decide
from channels.provider import EmailProvider, Letter, NotNow, Outcome, Receipt
from channels.providers import Provider
from channels.requests import Delivered, DeliverRequest
from contacts import identities
from core.clock import now
from core.database import Database
from core.errors import Conflict, DatabaseUnavailable
from core.ids import message_id
from core.schema.messages import MessageState

FRESH = timedelta(minutes=1)
"""A row younger than this was decided upon just now; the policy is not asked again, unless there are caps."""
PATIENCE = timedelta(seconds=10)
"""How long a call waits inside for what cannot leave yet, before it hands its turn back."""
GIVE_UP_HOURS = 24.0
REPEATS = 5
"""How often a letter in doubt is handed over, where it is repeated at all."""
_LONGEST_WAIT = timedelta(minutes=15)
_WORDS = {
    MessageState.SKIPPED: "skipped",
    MessageState.IN_DOUBT: "in_doubt",
    MessageState.FAILED: "failed",
    MessageState.ACCEPTED: "accepted",
    MessageState.DELIVERED: "accepted",
    MessageState.BOUNCED: "accepted",
}
_log = structlog.get_logger()


class Superseded(Conflict):
    """Another attempt has taken over rows that this one had: this one is the leftover and stops."""


@dataclass
class Attempt:
    """One call of `Delivery.deliver`."""

    database: Database
    workshop: Workshop
    provider: Provider
    carrier: EmailProvider
    request: DeliverRequest
    heartbeat: Callable[[], None]
    claims: Claims = field(init=False)
    final: dict[UUID, str] = field(init=False, default_factory=dict)
    """The rows that are settled, with their word."""
    later: dict[UUID, datetime] = field(init=False, default_factory=dict)
    """The rows that cannot leave before a time."""

    def __post_init__(self) -> None:
        self.ids = {message_id(item.enrollment_id, item.visit): item.enrollment_id for item in self.request.items}
        repeat = self.request.repeat_in_doubt or self.provider.scheme.idempotent
        self.claims = Claims(uuid4(), self.request.at, repeat)

    async def run(self) -> Delivered:
        """Bring every item to its final word.

        Raises:
            NotNow: what is left cannot leave for longer than PATIENCE.
            Superseded: a later attempt has taken over.
            DatabaseUnavailable: PostgreSQL went away; what was being handed over is in doubt.
        """
        patience_ends = time.monotonic() + PATIENCE.total_seconds()
        while True:
            await self._pass(await self._open_rows())
            if len(self.final) == len(self.ids):
                return Delivered({self.ids[row]: word for row, word in self.final.items()})
            wait = self._wait()
            if time.monotonic() + wait.total_seconds() > patience_ends:
                words = f"{len(self.ids) - len(self.final)} messages wait for {self.provider.name}"
                raise NotNow(words, wait, frozenset(self.ids[row] for row in self.final))
            await self._rest(wait)

    async def _rest(self, wait: timedelta) -> None:
        """Wait, with a heartbeat now and then."""
        ends = time.monotonic() + wait.total_seconds()
        while (left := ends - time.monotonic()) > 0:
            self.heartbeat()
            await asyncio.sleep(min(left, RENEWAL.total_seconds()))

    def _wait(self) -> timedelta:
        times = [at for row, at in self.later.items() if row not in self.final]
        return max(min(times, default=now()) - now(), timedelta(milliseconds=10))

    async def _open_rows(self) -> list[UUID]:
        """The rows that this attempt may try now; settles in memory what is settled in the ledger."""
        left = [row for row in self.ids if row not in self.final]
        async with self.database.begin() as connection:
            found = await self.claims.survey(connection, left)
            dead = [row for row, (state, is_dead) in found.items() if state == MessageState.HANDING and is_dead]
            if dead and not self.claims.repeat:
                gone = await self.claims.hold_in_doubt(connection, dead)
                found |= dict.fromkeys(gone, (MessageState.IN_DOUBT, False))
                MESSAGES.labels(self.provider.channel, "in_doubt").inc(len(gone))
                _log.warning("messages_in_doubt", provider=self.provider.name, messages=len(gone))
        moment, able = now(), []
        for row in left:
            state, is_dead = found.get(row, (MessageState.SKIPPED, False))
            if state in _WORDS:
                self.final[row] = _WORDS[MessageState(state)]
            elif state == MessageState.HANDING and not is_dead:
                self.later[row] = moment + LEASE / 4
            elif self.later.get(row, moment) <= moment:
                able.append(row)
        return able

    async def _pass(self, rows: Sequence[UUID]) -> None:
        """Try each of the rows once; stop early when a provider takes nothing at all."""
        for chunk in _chunks(rows, self.provider.scheme.batch):
            self.heartbeat()
            letters = await self._claim(chunk)
            if not letters:
                continue
            receipts = await self._hand_over(letters)
            await self._record(letters, receipts)
            if all(receipt.outcome is Outcome.DEFERRED for receipt in receipts):
                self._put_off([row for row in rows if row not in self.final and row not in self.later])
                return

    def _put_off(self, rows: Sequence[UUID]) -> None:
        """What was not tried because the provider takes nothing waits as long as what was."""
        until = min(self.later.values(), default=now())
        self.later |= dict.fromkeys(rows, until)

    # Before anything leaves

    async def _claim(self, ids: Sequence[UUID]) -> list[tuple[Claimed, Letter]]:
        """Claim rows, ask the policy, render; commit. Only what is returned may leave."""
        try:
            return await self._claim_once(ids)
        except DatabaseUnavailable:
            # The commit may have been lost or only its answer. Nothing has left, and this attempt alone knows that.
            await self._patiently(lambda connection: self._take_back(connection, ids))
            raise

    async def _take_back(self, connection: AsyncConnection, ids: Sequence[UUID]) -> None:
        await self.claims.requeue(connection, [Requeued(row, untried=True) for row in ids])

    async def _claim_once(self, ids: Sequence[UUID]) -> list[tuple[Claimed, Letter]]:
        async with self.database.begin() as connection:
            await identities.hold_off_erasure(connection)
            rows = await self.claims.take(connection, ids)
            decided = await self._decide(connection, rows)
            if self.provider.scheme.needs_content:
                written = await self.workshop.write(
                    connection, [row for row, why in decided if not why], self.request.at
                )
            else:
                written = {row.id: self.workshop.blank(row) for row, why in decided if not why}
            outcomes = [(row, why or written[row.id]) for row, why in decided]
            await self._drop(connection, outcomes)
        return [(row, letter) for row, letter in outcomes if isinstance(letter, Letter)]

    async def _decide(
        self, connection: AsyncConnection, rows: Sequence[Claimed]
    ) -> list[tuple[Claimed, Skip | DelayUntil | None]]:
        """What the policy says of each row now; None is "send"."""
        moment = now()
        if moment - self.request.at < FRESH and self.request.rules == NO_RULES:
            return [(row, None if row.address else Skip(Reason.CONTACT_GONE)) for row in rows]
        decided: list[tuple[Claimed, Skip | DelayUntil | None]] = []
        batches: dict[Batch, list[Claimed]] = {}
        for row in rows:
            batch = Batch(row.channel, row.purpose, row.version_id, row.step, self.request.at)
            batches.setdefault(batch, []).append(row)
        for batch, members in batches.items():
            if batch.purpose == STAFF:  # nobody's consent, hours or caps are asked
                decided += [(row, None if row.address else Skip(Reason.CONTACT_GONE)) for row in members]
                continue
            ids = {row.enrollment_id: row.id for row in members}
            known = await gather(connection, batch, ids, self.request.rules)
            for row in members:
                found = known.get(row.enrollment_id)
                if found is None:
                    decided.append((row, Skip(Reason.CONTACT_GONE)))
                    continue
                decision = decide(found.facts, moment, self.request.rules)
                why = decision if isinstance(decision, Skip | DelayUntil) else None
                decided.append((replace(row, address=found.facts.address or row.address), why))
        before = {row.id: row.address for row in rows}
        changed = {
            row.id: row.address for row, why in decided if not why and row.address and row.address != before[row.id]
        }
        await self.claims.readdress(connection, changed)
        return decided

    async def _drop(
        self, connection: AsyncConnection, outcomes: Sequence[tuple[Claimed, Letter | Skip | DelayUntil]]
    ) -> None:
        """Settle or put back what must not leave now. A letter in doubt that is not repeated stays in doubt."""
        skips: dict[UUID, str] = {}
        doubts: list[Step] = []
        delayed: list[Requeued] = []
        held: list[UUID] = []
        for row, outcome in outcomes:
            if isinstance(outcome, Skip):
                if row.repeated:
                    doubts.append(Step(row.id, MessageState.IN_DOUBT, f"not repeated: {outcome}"))
                else:
                    skips[row.id] = str(outcome)
            elif isinstance(outcome, DelayUntil):
                self.later[row.id] = outcome.at
                if row.repeated:
                    held.append(row.id)
                else:
                    delayed.append(Requeued(row.id, untried=True))
        await self.claims.skip(connection, skips)
        await self.claims.requeue(connection, delayed)
        await self.claims.release(connection, held)
        await ledger.advance(connection, self.request.at, doubts, self.claims.claim)
        channel = self.provider.channel
        MESSAGES.labels(channel, "skipped").inc(len(skips))
        self.final |= dict.fromkeys(skips, "skipped") | {step.id: "in_doubt" for step in doubts}

    # On the wire

    async def _hand_over(self, letters: Sequence[tuple[Claimed, Letter]]) -> list[Receipt]:
        """Hand over and keep the claim alive meanwhile. Whatever ends it early leaves the letters in doubt."""
        ids = [row.id for row, _ in letters]
        work = self.carrier.hand_over([letter for _, letter in letters])
        task: asyncio.Task[list[Receipt]] = asyncio.create_task(work)
        try:
            receipts = await self._watch(task, ids)
            if len(receipts) != len(ids):
                raise RuntimeError(f"{self.provider.name} gave {len(receipts)} receipts for {len(ids)} letters")
        except BaseException:
            await _stop(task)
            # Nothing leaves any more: the next attempt need not wait for the lease. If this fails, too, it waits.
            with suppress(DatabaseUnavailable):
                async with self.database.begin() as connection:
                    await self.claims.release(connection, ids)
            raise
        return receipts

    async def _watch(self, task: asyncio.Task[list[Receipt]], ids: Sequence[UUID]) -> list[Receipt]:
        alive_until = time.monotonic() + LEASE.total_seconds()
        while True:
            done, _ = await asyncio.wait([task], timeout=RENEWAL.total_seconds())
            if done:
                return task.result()
            self.heartbeat()
            begun = time.monotonic()
            try:
                async with self.database.begin() as connection:
                    await self.claims.renew(connection, ids)
                alive_until = begun + LEASE.total_seconds()
            except DatabaseUnavailable:
                # Others will soon hold this attempt for dead; it must not go on handing over then.
                if time.monotonic() + 2 * RENEWAL.total_seconds() > alive_until:
                    raise

    # What became of it

    async def _record(self, letters: Sequence[tuple[Claimed, Letter]], receipts: Sequence[Receipt]) -> None:
        steps: list[Step] = []
        back: list[Requeued] = []
        moment = now()
        free: list[UUID] = []
        for (row, _), receipt in zip(letters, receipts, strict=True):
            if receipt.outcome is Outcome.DEFERRED and not self._given_up(moment):
                self.later[row.id] = moment + _pause(row.attempts, receipt)
                if row.repeated:
                    free.append(row.id)
                else:
                    back.append(Requeued(row.id, receipt.reason[:500]))
            elif receipt.outcome is Outcome.UNKNOWN and self.claims.repeat and row.attempts < REPEATS:
                self.later[row.id] = moment + _pause(row.attempts, receipt)
                free.append(row.id)
            else:
                steps.append(_step(row, receipt))
        await self._write(steps, back, free)
        for step in steps:
            self.final[step.id] = _WORDS[step.state]
        for state in {step.state for step in steps}:
            counted = sum(step.state is state for step in steps)
            MESSAGES.labels(self.provider.channel, state.name.lower()).inc(counted)

    def _given_up(self, moment: datetime) -> bool:
        hours = self.provider.options.get("give_up_hours", GIVE_UP_HOURS)
        return moment - self.request.at > timedelta(hours=hours)

    async def _write(self, steps: Sequence[Step], back: Sequence[Requeued], free: Sequence[UUID]) -> None:
        async def write(connection: AsyncConnection) -> None:
            moved = await ledger.advance(connection, self.request.at, steps, self.claims.claim)
            moved |= await self.claims.requeue(connection, back)
            await self.claims.release(connection, free)
            wanted = {step.id: step.state for step in steps} | {row.id: MessageState.QUEUED for row in back}
            await self._check_lost(connection, {row: state for row, state in wanted.items() if row not in moved})

        await self._patiently(write)

    async def _patiently(self, work: Callable[[AsyncConnection], Awaitable[None]]) -> None:
        """Do `work` in a transaction, again while the database restarts: what is not written down is in doubt."""
        ends = time.monotonic() + LEASE.total_seconds() / 2
        while True:
            try:
                async with self.database.begin() as connection:
                    await work(connection)
                return
            except DatabaseUnavailable:
                if time.monotonic() > ends:
                    raise
                self.heartbeat()
                await asyncio.sleep(0.25)

    async def _check_lost(self, connection: AsyncConnection, lost: dict[UUID, MessageState]) -> None:
        """Rows that did not move are there already (the commit was not heard of), or somebody else has them."""
        if not lost:
            return
        found = await self.claims.survey(connection, list(lost))
        if any(found.get(row, (state, False))[0] != state for row, state in lost.items()):
            raise Superseded(f"another attempt has taken over messages for {self.provider.name}")


def _step(row: Claimed, receipt: Receipt) -> Step:
    if receipt.outcome is Outcome.ACCEPTED:
        return Step(row.id, MessageState.ACCEPTED, None, receipt.provider_message_id)
    if receipt.outcome is Outcome.UNKNOWN or row.repeated:
        # A repeated letter that is refused now may have been taken the first time.
        return Step(row.id, MessageState.IN_DOUBT, receipt.reason or "no answer")
    words = receipt.reason or "refused without a reason"
    if receipt.outcome is Outcome.DEFERRED:
        words = f"given up after {row.attempts} attempts: {words}"
    return Step(row.id, MessageState.FAILED, words)


def _pause(attempts: int, receipt: Receipt) -> timedelta:
    """How long a letter waits for its next attempt: as the provider says, or 1, 2, 4 … seconds."""
    return receipt.retry_after or min(timedelta(seconds=2 ** min(attempts - 1, 20)), _LONGEST_WAIT)


def _chunks(rows: Sequence[UUID], size: int) -> Iterator[list[UUID]]:
    left = iter(rows)
    while chunk := list(islice(left, size)):
        yield chunk


async def _stop(task: asyncio.Task[list[Receipt]]) -> None:
    """Cancel a hand-over and wait until it has stopped; what it raises is known to the caller already."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
