"""An installation for the engine's tests: real PostgreSQL, Temporal and SMTP servers, real worker and router."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from itertools import count
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import SecretStr
from sqlalchemy import text
from temporalio.client import Client

from channels import providers, templates
from core import eventlog
from core.clock import now
from core.database import Database
from core.settings import Settings
from engine import roles
from journeys import store
from studio.stack.process import free_port

Role = Callable[[Settings, Database, Client, asyncio.Event], Awaitable[None]]
DEADLINE_SECONDS = 60.0
_numbers = count(1)

LETTER = """---
template: {name}
channel: email
subject: "{name} for {{{{ contact.first_name }}}}"
---
<mjml><mj-body><mj-section><mj-column>
<mj-text>Hello {{{{ contact.first_name }}}} <a href="{{{{ unsubscribe_url }}}}">no more</a></mj-text>
</mj-column></mj-section></mj-body></mjml>
"""


class Letterbox:
    """A real SMTP server that keeps subjects by recipient."""

    def __init__(self) -> None:
        self.subjects: dict[str, list[str]] = {}

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Take a letter."""
        content = envelope.content
        assert isinstance(content, bytes)
        subject = str(message_from_bytes(content)["Subject"])
        for address in envelope.rcpt_tos:
            self.subjects.setdefault(address, []).append(subject.partition(" ")[0])
        return "250 taken"


@asynccontextmanager
async def letterbox() -> AsyncIterator[tuple[Letterbox, SecretStr]]:
    """The server and its URL."""
    box = Letterbox()
    port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield box, SecretStr(f"smtp://127.0.0.1:{port}")
    finally:
        controller.stop()


@dataclass
class World:
    """One installation, and what tests do with it."""

    database: Database
    settings: Settings
    client: Client
    box: Letterbox
    _running: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = field(default_factory=dict)

    # its roles

    def start(self, name: str) -> None:
        """Start the worker or the router in this process, over a database pool of its own."""
        role: Role = roles.run_worker if name == "worker" else roles.run_router
        stop = asyncio.Event()

        async def work() -> None:
            database = Database(self.database.url, pool=self.settings.database_pool)
            try:
                await role(self.settings, database, self.client, stop)
            finally:
                await database.close()

        self._running[name] = asyncio.create_task(work(), name=name), stop

    async def stop(self, name: str) -> None:
        """Stop a role as SIGTERM does, and raise what it died of."""
        task, stop = self._running.pop(name)
        stop.set()
        await task

    async def break_off(self, name: str) -> None:
        """Stop a role in the middle of what it does."""
        task, _ = self._running.pop(name)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def close(self) -> None:
        """Stop the roles that run."""
        for name in list(self._running):
            await self.stop(name)

    # its content

    async def run(self, statement: str, **values: Any) -> list[Any]:
        """One statement in its own transaction."""
        async with self.database.begin() as connection:
            done = await connection.execute(text(statement), values)
            return list(done) if done.returns_rows else []

    async def contacts(
        self, number: int, consent: bool = True, zone: str | None = None, **attributes: Any
    ) -> list[int]:
        """New contacts with an address; `tag` among the attributes becomes a tag."""
        tags = [attributes.pop("tag")] if "tag" in attributes else []
        rows = await self.run(
            "with c as (insert into contact (attributes, tags, time_zone) select cast(:attributes as jsonb), "
            "cast(:tags as text[]), :zone from generate_series(1, :n) returning id), "
            "i as (insert into identity (kind, value, contact_id) "
            "select 'email', 'c' || id || '@example.com', id from c), "
            "k as (insert into consent (contact_id, channel, purpose, granted) "
            "select id, 'email', 'marketing', :consent from c) select id from c",
            n=number, consent=consent, zone=zone, tags=tags, attributes=json.dumps({"first_name": "Ann"} | attributes),
        )  # fmt: skip
        return [row.id for row in rows]

    async def publish(self, journey: str, hasten: float = 1.0) -> int:
        """Publish a journey; gives the version's number."""
        async with self.database.begin() as connection:
            await providers.ensure_default(connection, self.settings)
            return (await store.publish(connection, journey, "journey.yaml", "test", hasten)).version_id

    async def happen(self, event: str, contact: int, **properties: Any) -> None:
        """An event, committed."""
        async with self.database.begin() as connection:
            await eventlog.record(connection, event, contact, now(), properties)

    async def set_state(self, journey: str, state: str) -> None:
        """Pause, resume or stop a journey."""
        async with self.database.begin() as connection:
            await store.set_state(connection, journey, state)

    # what came of it

    async def outcomes(self, journey: str) -> dict[int, list[str | None]]:
        """Contact to the outcomes of its enrollments, in their order; None for those that run."""
        rows = await self.run(
            "select e.contact_id, e.outcome from enrollment e join journey j on j.id = e.journey_id "
            "where j.name = :journey order by e.id",
            journey=journey,
        )
        found: dict[int, list[str | None]] = {}
        for contact, outcome in rows:
            found.setdefault(contact, []).append(outcome)
        return found

    async def until_outcomes(self, journey: str, wanted: dict[int, list[str]]) -> None:
        """Wait until the journey has exactly these outcomes."""

        async def reached() -> bool:
            return await self.outcomes(journey) == wanted

        await self.until(reached, lambda: self.outcomes(journey))

    async def until_at(self, journey: str, step: str, number: int) -> None:
        """Wait until so many enrollments stand at a step."""

        async def standing() -> int:
            rows = await self.run(
                "select count(*) from enrollment e join journey j on j.id = e.journey_id "
                "join journey_version v on v.id = e.version_id where j.name = :journey and e.finished_at is null "
                "and v.plan -> 'steps' -> cast(e.step as int) ->> 'id' = :step",
                journey=journey, step=step,
            )  # fmt: skip
            return int(rows[0][0])

        async def reached() -> bool:
            return await standing() == number

        await self.until(reached, standing)

    async def until(
        self, condition: Callable[[], Awaitable[bool]], state: Callable[[], Awaitable[Any]] | None = None
    ) -> None:
        """Ask again and again until a condition holds; where it never does, say what the state is."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + DEADLINE_SECONDS
        while not await condition():
            for task, _ in self._running.values():
                if task.done():
                    task.result()
            if loop.time() > ends:
                raise AssertionError(f"it never came to that; it is {await state() if state else 'so'}")
            await asyncio.sleep(0.05)

    def letters(self, contact: int) -> list[str]:
        """The templates of the letters that a contact got."""
        return self.box.subjects.get(f"c{contact}@example.com", [])

    def all_letters(self, contacts: list[int]) -> Counter[str]:
        """The templates of the letters that contacts got."""
        return Counter(letter for contact in contacts for letter in self.letters(contact))


async def publish_letters(database: Database) -> None:
    """The attributes and templates that the journeys of the tests name."""
    async with database.begin() as connection:
        await connection.execute(
            text("insert into attribute (name, type) select unnest(array['first_name', 'city', 'level']), 'text'")
        )
        for name in ("first", "second"):
            await templates.publish(connection, LETTER.format(name=name), f"{name}.mjml")


def unique(name: str) -> str:
    """A name that no other test uses."""
    return f"{name}-{next(_numbers)}"
