"""A small installation for tests of steps: contacts in a journey as published, and the activities that serve it."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text

from core.clock import now
from core.database import Database
from core.settings import Settings
from engine.acting import Acting
from engine.versions import Version, Versions
from engine.wire import Acted, StepRequest
from journeys import store


@dataclass
class World:
    """What a test plays with."""

    database: Database
    settings: Settings
    acting: Acting
    versions: Versions = field(default_factory=Versions)
    beats: int = 0

    async def run(self, statement: str, **values: Any) -> list[Any]:
        """One statement in its own transaction."""
        async with self.database.begin() as connection:
            done = await connection.execute(text(statement), values)
            return list(done) if done.returns_rows else []

    async def attribute(self, name: str, kind: str) -> None:
        """Make an attribute."""
        await self.run("insert into attribute (name, type) values (:name, :type)", name=name, type=kind)

    async def publish(self, source: str) -> Version:
        """Publish a journey."""
        async with self.database.begin() as connection:
            published = await store.publish(connection, source)
            return await self.versions.get(connection, published.version_id)

    async def contact(self, **attributes: Any) -> int:
        """A contact with an address, who lives in Moscow."""
        rows = await self.run(
            "with c as (insert into contact (attributes, time_zone) values (cast(:attributes as jsonb), "
            "'Europe/Moscow') returning id), i as (insert into identity (kind, value, contact_id) select 'email', "
            "'c' || id || '@example.com', id from c), k as (insert into consent (contact_id, channel, purpose, granted)"
            " "
            "select id, 'email', 'marketing', true from c) select id from c",
            attributes=json.dumps(attributes),
        )
        return int(rows[0].id)

    async def enroll(self, version: Version, *contacts: int) -> list[int]:
        """Enrollments of contacts, in order."""
        rows = await self.run(
            "insert into enrollment (contact_id, cohort_id, journey_id, version_id, exclusive, key) "
            "select c, 1, :journey, :version, false, '' from unnest(cast(:contacts as bigint[])) with ordinality "
            "as u(c, n) order by n returning id",
            journey=version.journey_id, version=version.id, contacts=list(contacts),
        )  # fmt: skip
        return [row.id for row in rows]

    async def act(
        self, version: Version, step: str, members: list[tuple[int, int]], at: datetime | None = None
    ) -> Acted:
        """Let a batch do the step of this id."""
        number = next(n for n, one in enumerate(version.plan.steps) if one.id == step)
        request = StepRequest(version.id, number, (at or now()).timestamp(), [list(member) for member in members])
        return await self.acting.act(version, request, self._beat)

    def _beat(self) -> None:
        self.beats += 1

    async def attributes_of(self, contact: int) -> dict[str, Any]:
        """What the contact carries."""
        rows = await self.run("select attributes from contact where id = :id", id=contact)
        return dict(rows[0].attributes)

    async def events(self, name: str) -> list[Any]:
        """Events of a name, in the order of the log."""
        return await self.run(
            "select e.contact_id, e.properties from event e join event_name n on n.id = e.name_id "
            "where n.name = :name order by e.id",
            name=name,
        )
