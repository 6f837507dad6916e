"""Which attempt may hand over which rows: claims on the ledger, and what becomes of those whose attempt died.

docs/delivery.md has the reasoning. In short: a row is claimed (HANDING, committed) before its letter leaves; only the
attempt that claimed it hands it over; the claim shows a sign of life every few seconds; without one for LEASE, or once
its attempt has let go of it, the letter is in doubt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncCursor
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.batches import NEW, ROWS, written
from core.database import array_of, driver

LEASE = timedelta(seconds=20)
"""A claim without a sign of life for so long belongs to an attempt that died."""
RENEWAL = timedelta(seconds=5)

_DEAD = "(m.claimed_at is null or m.claimed_at < clock_timestamp() - %(lease)s)"
_SURVEY = f"""
select m.id, m.state, {_DEAD}, m.provider_id, p.name from message m left join provider p on p.id = m.provider_id
where {ROWS}
"""  # noqa: S608  no input in it
_DOUBT = f"""
update message m set state = 30, claim = null, claimed_at = null,
    reason = 'the attempt that handed it over died before the answer'
where {ROWS}
    and m.state = 20 and m.provider_id = %(provider)s and {_DEAD}
returning m.id
"""  # noqa: S608
# Locked in one order, so that two attempts never wait for each other; rows that another one is claiming are left to it.
_CLAIM = f"""
update message m set state = 20, claim = %(claim)s, claimed_at = clock_timestamp(), attempts = m.attempts + 1
from (
    select m.id, m.state from message m where {ROWS}
        and m.provider_id = %(provider)s and (m.state = 10 or (m.state = 20 and %(repeat)s and {_DEAD}))
    order by m.id for update skip locked
) was
where m.id = was.id and m.created_at = %(at)s
returning m.id, was.state, m.enrollment_id, m.contact_id, m.address, m.template_version_id, m.version_id, m.step,
    m.channel, m.purpose, m.attempts
"""  # noqa: S608
_HELD = f"where {ROWS} and m.state = 20 and m.claim = %(claim)s"
_RENEW = f"update message m set claimed_at = clock_timestamp() {_HELD}"  # noqa: S608
_RELEASE = f"update message m set claimed_at = null {_HELD}"  # noqa: S608
_SKIP = f"""
update message m set state = 15, claim = null, claimed_at = null, reason = {NEW} ->> 'reason', attempts = m.attempts - 1
{_HELD}
"""  # noqa: S608
_READDRESS = f"update message m set address = {NEW} ->> 'address' {_HELD}"  # noqa: S608
_REQUEUE = f"""
update message m set state = 10, claim = null, claimed_at = null,
    reason = case when m.address is not null then {NEW} ->> 'reason' else m.reason end,
    attempts = m.attempts - ({NEW} ->> 'untried')::smallint
{_HELD}
returning m.id
"""  # noqa: S608


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A row that this attempt may hand over."""

    id: UUID
    repeated: bool
    """Whether it was in doubt: an earlier attempt may have handed it over."""
    enrollment_id: int
    contact_id: int
    address: str | None
    """None if the contact was erased."""
    template_version_id: int | None
    """None for letters to the staff, which stand in the journey itself."""
    version_id: int
    step: int
    channel: str
    purpose: str
    attempts: int
    """This one included."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How a row stands."""

    state: int
    dead: bool
    """Whether a claim on it is dead."""
    provider_id: int | None
    provider: str


@dataclass(frozen=True)
class Claims:
    """The claims of one attempt on rows of one batch. Every method takes an open transaction."""

    claim: UUID
    at: datetime
    provider_id: int
    """Whose rows they are; those of another provider are left to its attempts."""
    repeat: bool
    """Whether rows in doubt may be claimed again."""

    async def survey(self, connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, "Seen"]:
        """How each row that exists stands."""
        rows = await self._run(connection, _SURVEY, ids, lease=LEASE)
        return {row[0]: Seen(*row[1:]) for row in rows}

    async def hold_in_doubt(self, connection: AsyncConnection, ids: Sequence[UUID]) -> set[UUID]:
        """Give up the rows among these whose attempt died; returns them."""
        rows = await self._run(connection, _DOUBT, ids, lease=LEASE, provider=self.provider_id)
        return {row[0] for row in rows}

    async def take(self, connection: AsyncConnection, ids: Sequence[UUID]) -> list[Claimed]:
        """Claim those of the rows that nobody has. Nothing may leave before this is committed."""
        more: dict[str, Any] = {
            "claim": self.claim,
            "repeat": self.repeat,
            "lease": LEASE,
            "provider": self.provider_id,
        }
        rows = await self._run(connection, _CLAIM, ids, **more)
        return [Claimed(row[0], row[1] == 20, *row[2:]) for row in rows]

    async def renew(self, connection: AsyncConnection, ids: Sequence[UUID]) -> None:
        """Show a sign of life."""
        await self._run(connection, _RENEW, ids, claim=self.claim, fetch=False)

    async def release(self, connection: AsyncConnection, ids: Sequence[UUID]) -> None:
        """Let go of rows that were being handed over when this attempt ended: they are in doubt at once."""
        await self._run(connection, _RELEASE, ids, claim=self.claim, fetch=False)

    async def skip(self, connection: AsyncConnection, reasons: Mapping[UUID, str]) -> None:
        """Skip rows in the transaction that claimed them: seen from outside they went from QUEUED to SKIPPED."""
        if reasons:
            await self._write(connection, _SKIP, {row: {"reason": reason} for row, reason in reasons.items()})

    async def readdress(self, connection: AsyncConnection, addresses: Mapping[UUID, str]) -> None:
        """Write down that the contacts have other addresses than when the rows were made."""
        if addresses:
            await self._write(connection, _READDRESS, {row: {"address": one} for row, one in addresses.items()})

    async def requeue(self, connection: AsyncConnection, rows: Sequence["Requeued"]) -> set[UUID]:
        """Put rows back that surely were not taken: the one step backwards in the ledger."""
        if not rows:
            return set()
        new = {row.id: {"reason": row.reason, "untried": int(row.untried)} for row in rows}
        done = await self._write(connection, _REQUEUE, new)
        return {row[0] for row in await done.fetchall()}

    async def _write(
        self, connection: AsyncConnection, statement: str, new: Mapping[UUID, Mapping[str, Any]]
    ) -> AsyncCursor[tuple[Any, ...]]:
        return await (await driver(connection)).execute(statement, {**written(self.at, new), "claim": self.claim})

    async def _run(
        self, connection: AsyncConnection, statement: str, ids: Sequence[UUID], fetch: bool = True, **more: Any
    ) -> list[tuple[Any, ...]]:
        done = await (await driver(connection)).execute(statement, {"at": self.at, "ids": array_of(ids), **more})
        return await done.fetchall() if fetch else []


class Requeued(msgspec.Struct, frozen=True, gc=False):
    """A row to be put back."""

    id: UUID
    reason: str | None = None
    untried: bool = False
    """Whether it was never handed over, so that the attempt does not count."""
