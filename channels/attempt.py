"""One attempt to deliver a batch: claim, ask the policy again, render, hand over, record; until nothing is left.

The order of things is what keeps a message from being sent twice; docs/delivery.md says why it is this one.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import carriers, failover, ledger, pacing, spending
from channels.asking import asked
from channels.claims import LEASE, RENEWAL, Claimed, Claims, Requeued
from channels.ledger import Step
from channels.letters import Sendable, Workshop
from channels.metrics import MESSAGES
from channels.policy import DelayUntil, Skip
from channels.provider import AnyProvider, NotNow, Outcome, Receipt
from channels.providers import Provider
from channels.requests import Delivered, DeliverRequest
from channels.settling import Pair, by_provider, settle
from contacts import identities
from core.clock import now
from core.database import Database
from core.errors import DatabaseUnavailable
from core.ids import message_id
from core.schema.messages import MessageState

PAUSED_WAIT = timedelta(seconds=30)
PATIENCE = timedelta(seconds=10)
"""How long a call waits inside for what cannot leave yet, before it hands its turn back."""
LONGEST = timedelta(minutes=2)
"""After so long a call hands its turn back, also if messages still leave: slowly, because of a limit."""
_WORDS = {
    MessageState.SKIPPED: "skipped",
    MessageState.IN_DOUBT: "in_doubt",
    MessageState.FAILED: "failed",
    MessageState.ACCEPTED: "accepted",
    MessageState.DELIVERED: "accepted",
    MessageState.BOUNCED: "accepted",
}
_log = structlog.get_logger()
_T = TypeVar("_T")


@dataclass
class Attempt:
    """One call of `Delivery.deliver`."""

    database: Database
    workshop: Workshop
    provider: Provider
    carrier: AnyProvider
    request: DeliverRequest
    heartbeat: Callable[[], None]
    claims: Claims = field(init=False)
    final: dict[UUID, str] = field(init=False, default_factory=dict)
    """The rows that are settled, with their word."""
    later: dict[UUID, datetime] = field(init=False, default_factory=dict)
    """The rows that cannot leave before a time."""
    moved: dict[UUID, str] = field(init=False, default_factory=dict)
    """The rows that another provider has now, and its name."""

    def __post_init__(self) -> None:
        self.ids = {message_id(item.enrollment_id, item.visit): item.enrollment_id for item in self.request.items}
        repeat = self.request.repeat_in_doubt or self.provider.scheme.idempotent
        self.claims = Claims(uuid4(), self.request.at, self.provider.id, repeat)
        self.turn_ends = time.monotonic() + LONGEST.total_seconds()

    async def run(self) -> Delivered:
        """Bring every item to its final word, or to another provider.

        Raises:
            NotNow: what is left cannot leave for longer than PATIENCE, or the provider is paused.
            Superseded: a later attempt has taken over.
            DatabaseUnavailable: PostgreSQL went away; what was being handed over is in doubt.
        """
        patience_ends = time.monotonic() + PATIENCE.total_seconds()
        while True:
            able = await self._open_rows()
            active = self.provider.state == "active"
            if active:
                await self._pass(able)
            left = self._left()
            if not left:
                return Delivered({self.ids[row]: word for row, word in self.final.items()}, self._moved())
            wait = self._wait() if active else PAUSED_WAIT
            if not active or time.monotonic() + wait.total_seconds() > patience_ends:
                words = f"{len(left)} messages wait for {self.provider.name}, which is {self.provider.state}"
                raise NotNow(words, wait, frozenset(self.ids[row] for row in self.final), self._moved())
            await self._rest(wait)

    def _left(self) -> list[UUID]:
        return [row for row in self.ids if row not in self.final and row not in self.moved]

    def _moved(self) -> dict[str, list[int]]:
        return by_provider(self.moved, self.ids)

    async def _rest(self, wait: timedelta) -> None:
        """Wait, with a heartbeat now and then."""
        ends = time.monotonic() + wait.total_seconds()
        while (left := ends - time.monotonic()) > 0:
            self.heartbeat()
            await asyncio.sleep(min(left, RENEWAL.total_seconds()))

    def _wait(self) -> timedelta:
        times = [self.later[row] for row in self._left() if row in self.later]
        return max(min(times, default=now()) - now(), timedelta(milliseconds=10))

    async def _open_rows(self) -> list[UUID]:
        """The rows that this attempt may try now; settles in memory what is settled in the ledger."""
        left = self._left()
        async with self.database.begin() as connection:
            found = await self.claims.survey(connection, left)
            dead = [
                row
                for row, seen in found.items()
                if seen.state == MessageState.HANDING and seen.dead and seen.provider_id == self.provider.id
            ]
            if dead and not self.claims.repeat:
                gone = await self.claims.hold_in_doubt(connection, dead)
                self.final |= dict.fromkeys(gone, "in_doubt")
                MESSAGES.labels(self.provider.channel, "in_doubt").inc(len(gone))
                _log.warning("messages_in_doubt", provider=self.provider.name, messages=len(gone))
        moment, able = now(), []
        for row in self._left():
            seen = found.get(row)
            if seen is None:
                self.final[row] = "skipped"
            elif seen.state in _WORDS:
                self.final[row] = _WORDS[MessageState(seen.state)]
            elif seen.provider_id != self.provider.id:
                self.moved[row] = seen.provider
            elif seen.state == MessageState.HANDING and not seen.dead:
                self.later[row] = moment + LEASE / 4
            elif self.later.get(row, moment) <= moment:
                able.append(row)
        return able

    async def _pass(self, rows: Sequence[UUID]) -> None:
        """Try each of the rows once; stop early when a provider takes nothing at all, or has had enough for today."""
        for row in rows:
            self.later.pop(row, None)
        for chunk in _chunks(rows, pacing.chunk_of(self.provider)):
            self.heartbeat()
            if time.monotonic() > self.turn_ends:
                self._put_off(rows, now())
                return
            granted = await self._within_quota(chunk)
            letters = await self._claim(granted) if granted else []
            receipts = await self._hand_over(letters) if letters else []
            await self._record([(row, receipt) for (row, _), receipt in zip(letters, receipts, strict=True)])
            await self._unused(len(granted) - sum(one.outcome is not Outcome.DEFERRED for one in receipts))
            if len(granted) < len(chunk):
                await self._over_quota(rows)
                return
            if letters and all(receipt.outcome is Outcome.DEFERRED for receipt in receipts):
                await self._takes_nothing(rows, any(row.id in self.moved for row, _ in letters))
                return

    async def _takes_nothing(self, rows: Sequence[UUID], move: bool) -> None:
        """What was not tried because the provider takes nothing goes where the others went, or waits as long."""
        if move:
            await self._pass_on(rows)
        self._put_off(rows, min(self.later.values(), default=now()))

    def _is_untried(self, row: UUID) -> bool:
        return row not in self.final and row not in self.moved and row not in self.later

    def _put_off(self, rows: Sequence[UUID], until: datetime) -> None:
        self.later |= {row: until for row in rows if self._is_untried(row)}

    # The day's quota of a warm-up

    async def _within_quota(self, rows: Sequence[UUID]) -> Sequence[UUID]:
        if self.provider.options.warm_up is None:
            return rows
        async with self.database.begin() as connection:
            return rows[: await pacing.take_today(connection, self.provider, len(rows), now())]

    async def _unused(self, n: int) -> None:
        if self.provider.options.warm_up is not None and n:
            async with self.database.begin() as connection:
                await pacing.give_back(connection, self.provider, n, now())

    async def _over_quota(self, rows: Sequence[UUID]) -> None:
        """Another provider may have what is too much for today; the rest waits for tomorrow."""
        await self._pass_on(rows)
        self._put_off(rows, pacing.tomorrow(now()))

    async def _pass_on(self, rows: Sequence[UUID]) -> None:
        """Give what was not tried to other providers that can carry it now."""
        untried = {row: None for row in rows if self._is_untried(row)}
        async with self.database.begin() as connection:
            known = await carriers.load(connection, self.provider.channel)
            among = failover.others(self.provider, known, at_once=True)
            moved = await failover.pass_on(
                connection, self.provider, self.request.at, self.claims.claim, untried, among, now()
            )
        self.moved |= {row: choice.name for row, choice in moved.items()}

    # Before anything leaves

    async def _claim(self, ids: Sequence[UUID]) -> list[tuple[Claimed, Sendable]]:
        """Claim rows, ask the policy, render; commit. Only what is returned may leave."""
        try:
            return await self._claim_once(ids)
        except DatabaseUnavailable:
            # The commit may have been lost or only its answer. Nothing has left, and this attempt alone knows that.
            await self._patiently(lambda connection: self._take_back(connection, ids))
            raise

    async def _take_back(self, connection: AsyncConnection, ids: Sequence[UUID]) -> None:
        await self.claims.requeue(connection, [Requeued(row, untried=True) for row in ids])

    async def _claim_once(self, ids: Sequence[UUID]) -> list[tuple[Claimed, Sendable]]:
        async with self.database.begin() as connection:
            if await self._is_held(connection):
                self.later |= dict.fromkeys(ids, now() + PATIENCE)
                return []
            await identities.hold_off_erasure(connection)
            rows = await self.claims.take(connection, ids)
            decided = await asked(connection, self.workshop, self.claims, rows, self.request.rules)
            if self.provider.scheme.needs_content:
                written = await self.workshop.write(
                    connection, [row for row, why in decided if not why], self.request.at
                )
            else:
                written = {row.id: self.workshop.blank(row) for row, why in decided if not why}
            outcomes = [(row, why or written[row.id]) for row, why in decided]
            await self._drop(connection, outcomes)
        return [(row, letter) for row, letter in outcomes if not isinstance(letter, Skip | DelayUntil)]

    async def _is_held(self, connection: AsyncConnection) -> bool:
        """Whether the journey was paused or stopped meanwhile."""
        held = text("select 1 from journey where id = :id and state in ('paused', 'stopped')")
        return (await connection.execute(held, {"id": self.request.journey_id})).first() is not None

    async def _drop(
        self, connection: AsyncConnection, outcomes: Sequence[tuple[Claimed, Sendable | Skip | DelayUntil]]
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
        await spending.correct(connection, self.request.at, sorted(skips))
        await self.claims.requeue(connection, delayed)
        await self.claims.release(connection, held)
        await ledger.advance(connection, self.request.at, doubts, self.claims.claim)
        channel = self.provider.channel
        MESSAGES.labels(channel, "skipped").inc(len(skips))
        self.final |= dict.fromkeys(skips, "skipped") | {step.id: "in_doubt" for step in doubts}

    # On the wire

    async def _hand_over(self, letters: Sequence[tuple[Claimed, Sendable]]) -> list[Receipt]:
        """Hand over and keep the claim alive meanwhile. Whatever ends it early leaves the letters in doubt."""
        ids = [row.id for row, _ in letters]
        work = pacing.hand_over(self.database, self.provider, self.carrier, [letter for _, letter in letters])
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

    async def _record(self, pairs: Sequence[Pair]) -> None:
        if not pairs:
            return
        settled = await self._patiently(lambda connection: settle(connection, self.provider, self.claims, pairs))
        self.moved |= settled.moved
        self.later |= settled.fates.later
        steps = [step for step in settled.fates.steps if step.id not in settled.moved]
        self.final |= {step.id: _WORDS[step.state] for step in steps}
        for state, count in Counter(step.state for step in steps).items():
            MESSAGES.labels(self.provider.channel, state.name.lower()).inc(count)

    async def _patiently(self, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        """Do `work` in a transaction, again while the database restarts: what is not written down is in doubt."""
        ends = time.monotonic() + LEASE.total_seconds() / 2
        while True:
            try:
                async with self.database.begin() as connection:
                    return await work(connection)
            except DatabaseUnavailable:
                if time.monotonic() > ends:
                    raise
                self.heartbeat()
                await asyncio.sleep(0.25)


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
