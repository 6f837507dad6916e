"""A small world for the tests of the ledger: contacts in a journey, a template, and a provider that records."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text

from channels import (
    Delivered,
    DeliverRequest,
    Delivery,
    Item,
    PrepareRequest,
    Rules,
    Verdict,
    prepare,
)
from channels.provider import Letter, Outcome, Receipt
from core.database import Database
from core.settings import Settings

LETTER = """---
template: letter
subject: "Hi {{ contact.first_name | default('you') }}"
---
<p>{{ event.application_id | default('-') }} <a href="https://A.example/x?y=1&amp;z=2">go</a>
<a href="{{ unsubscribe_url }}">stop</a></p>
"""
Behaviour = Callable[[Sequence[Letter]], Awaitable[list[Receipt]]]


async def accept(letters: Sequence[Letter]) -> list[Receipt]:
    """A provider's behaviour: take all."""
    return [Receipt(Outcome.ACCEPTED, f"id-{letter.message_id}") for letter in letters]


@dataclass
class Recorder:
    """A provider that keeps what it was given and behaves as the test says."""

    behaviour: Behaviour = accept
    letters: list[Letter] = field(default_factory=list)
    closed: bool = False

    async def hand_over(self, letters: Sequence[Letter]) -> list[Receipt]:
        self.letters += letters
        return await self.behaviour(letters)

    async def check(self) -> None:
        """Always fine."""

    async def close(self) -> None:
        self.closed = True


@dataclass
class World:
    """The installation that a test plays with."""

    database: Database
    settings: Settings
    recorder: Recorder
    delivery: Delivery
    version_id: int = 0
    beats: int = 0

    async def run(self, statement: str, **values: Any) -> list[Any]:
        """One statement in its own transaction."""
        async with self.database.begin() as connection:
            done = await connection.execute(text(statement), values)
            return list(done) if done.returns_rows else []

    async def enroll(self, count: int, consent: bool | None = True, **attributes: Any) -> list[Item]:
        """Contacts with addresses, in the journey."""
        rows = await self.run(
            "with c as (insert into contact (attributes) select cast(:attributes as jsonb) from generate_series(1, :n) "
            "returning id), i as (insert into identity (kind, value, contact_id) "
            "select 'email', 'c' || id || '@example.com', id from c), k as (insert into consent "
            "(contact_id, channel, purpose, granted) select id, 'email', 'marketing', :consent from c "
            "where cast(:consent as boolean) is not null) insert into enrollment (contact_id, cohort_id, journey_id, "
            "version_id, exclusive) select id, 1, (select journey_id from journey_version where id = :version), "
            ":version, false from c returning id",
            n=count, consent=consent, version=self.version_id, attributes=json.dumps(attributes),
        )  # fmt: skip
        return [Item(row[0], 1) for row in rows]

    async def prepare(self, items: list[Item], at: datetime, rules: Rules | None = None, **other: Any) -> list[Verdict]:
        """Prepare in a transaction of its own."""
        values: dict[str, Any] = {"purpose": "marketing", "template": "letter", "step": 0} | other
        request = PrepareRequest(
            version_id=self.version_id, channel="email", priority="triggered", at=at, items=items,
            rules=rules or Rules(), **values,
        )  # fmt: skip
        async with self.database.begin() as connection:
            return await prepare(connection, self.settings, request)

    async def deliver(
        self,
        items: list[Item],
        at: datetime,
        repeat: bool = False,
        rules: Rules | None = None,
        provider: str = "main",
    ) -> Delivered:
        """Deliver by the recorder."""
        return await self.delivery.deliver(DeliverRequest(provider, at, items, repeat, rules or Rules()), self._beat)

    def _beat(self) -> None:
        self.beats += 1

    async def rows(self) -> list[Any]:
        """The ledger: state, reason, attempts, address, claim, provider's id; by enrollment."""
        return await self.run(
            "select state, reason, attempts, address, claim, provider_message_id from message order by enrollment_id"
        )

    async def states(self) -> list[int]:
        """The ledger's states by enrollment."""
        return [row.state for row in await self.rows()]


async def no_rules(_version_id: int, _step: int) -> Rules:
    """A journey that asks nothing of its messages."""
    return Rules()
