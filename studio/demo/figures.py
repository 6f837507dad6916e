"""What happened, read where it is kept: the event log, enrollments, the ledger, and the mailbox."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.schema.messages import MessageState
from journeys.plan import Plan
from studio.demo.client import Client

_MESSAGE_ID = re.compile(r"<([0-9a-f-]{36})@[^>]*>")
_PAGE = 500


@dataclass(frozen=True)
class Run:
    """One enrollment."""

    contact: str
    """The contact's external id."""
    key: str
    state: str
    outcome: str | None


@dataclass(frozen=True)
class Message:
    """One row of the ledger."""

    id: UUID
    contact: str
    step: str
    """The id of the step that sent it."""
    state: MessageState
    reason: str | None
    address: str | None
    created_at: datetime


@dataclass(frozen=True)
class CaughtLetter:
    """A letter in the mailbox."""

    message_id: UUID | None
    recipient: str


@dataclass(frozen=True)
class Facts:
    """Everything that the verdict compares with the story."""

    runs: Sequence[Run]
    messages: Sequence[Message]
    letters: Sequence[CaughtLetter]
    events: Mapping[str, int]
    """How many of each name are in the log."""


async def gather(connection: AsyncConnection, site: Client, journey: str) -> Facts:
    """Read all of it."""
    return Facts(
        runs=await _runs(connection, journey),
        messages=await _messages(connection, journey),
        letters=await _letters(site),
        events=await events(connection),
    )


async def events(connection: AsyncConnection) -> dict[str, int]:
    """How many events of each name are in the log, by name."""
    rows = await connection.execute(
        text("select n.name, count(*) from event e join event_name n on n.id = e.name_id group by 1 order by 1")
    )
    return {row[0]: row[1] for row in rows}


async def under_way(connection: AsyncConnection) -> int:
    """How many messages are still to be handed over, or are being handed over."""
    states = [int(MessageState.QUEUED), int(MessageState.HANDING)]
    found = await connection.scalar(text("select count(*) from message where state = any(:states)"), {"states": states})
    return int(found or 0)


async def _runs(connection: AsyncConnection, journey: str) -> list[Run]:
    rows = await connection.execute(
        text(
            "select i.value, e.key, e.state, e.outcome from enrollment e join journey j on j.id = e.journey_id "
            "join identity i on i.contact_id = e.contact_id and i.kind = 'external_id' where j.name = :journey"
        ),
        {"journey": journey},
    )
    return [Run(*row) for row in rows]


async def _messages(connection: AsyncConnection, journey: str) -> list[Message]:
    rows = await connection.execute(
        text(
            "select m.id, i.value as contact, m.version_id, m.step, m.state, m.reason, m.address, "
            "m.created_at from message m "
            "join journey_version v on v.id = m.version_id join journey j on j.id = v.journey_id "
            "join identity i on i.contact_id = m.contact_id and i.kind = 'external_id' where j.name = :journey"
        ),
        {"journey": journey},
    )
    plans = await _plans(connection)
    return [
        Message(
            row.id,
            row.contact,
            plans[row.version_id].steps[row.step].id,
            MessageState(row.state),
            row.reason,
            row.address,
            row.created_at,
        )
        for row in rows
    ]


async def _plans(connection: AsyncConnection) -> dict[int, Plan]:
    rows = await connection.execute(text("select id, plan from journey_version"))
    return {number: Plan.model_validate(plan) for number, plan in rows}


async def _letters(site: Client) -> list[CaughtLetter]:
    """Every letter in the mailbox, as its own API gives it."""
    numbers: list[int] = []
    before = ""
    while True:
        page = (await site.get(f"/mailbox/api/letters?limit={_PAGE}{before}")).json()["letters"]
        numbers += [letter["id"] for letter in page]
        if len(page) < _PAGE:
            break
        before = f"&before={numbers[-1]}"
    answers = await asyncio.gather(*(site.get(f"/mailbox/api/letters/{number}") for number in numbers))
    return [_caught(answer.json()) for answer in answers]


def _caught(letter: Mapping[str, Any]) -> CaughtLetter:
    headers = {name.lower(): value for name, value in letter["headers"]}
    found = _MESSAGE_ID.fullmatch(headers.get("message-id", "").strip())
    return CaughtLetter(UUID(found[1]) if found else None, letter["recipient"])
