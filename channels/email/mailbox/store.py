"""The letters that the built-in mailbox caught: a bounded table."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.email.inbound import letters
from channels.email.inbound.letters import storable
from channels.email.mailbox.receiver import Received
from core.database import Database, driver
from core.errors import NotFound

KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Caught:
    """A letter in the mailbox, as the list shows it."""

    id: int
    received_at: datetime
    sender: str
    recipient: str
    subject: str


@dataclass(frozen=True)
class Opened:
    """A letter with everything in it."""

    caught: Caught
    source: bytes
    headers: list[tuple[str, str]]
    text: str
    html: str


async def keep(connection: AsyncConnection, received: Sequence[Received]) -> list[int]:
    """Store letters, one row per recipient, and forget the oldest over KEPT. Gives the first row's id of each."""
    raw = await driver(connection)
    cursor = await raw.execute(
        "insert into caught_letter (sender, recipient, subject, source) "
        "select * from unnest(%s::text[], %s::text[], %s::text[], %s::bytea[]) returning id",
        _columns(received),
    )
    ids = [row[0] for row in await cursor.fetchall()]
    await raw.execute("delete from caught_letter where id <= %s", (ids[-1] - KEPT,))
    starts, position = [], 0
    for letter in received:
        starts.append(ids[position])
        position += len(letter.recipients)
    return starts


def _columns(received: Sequence[Received]) -> tuple[list[str], list[str], list[str], list[bytes]]:
    rows = [
        (storable(letter.sender), storable(recipient), subject_of(letter.source), letter.source)
        for letter in received
        for recipient in letter.recipients
    ]
    senders, recipients, subjects, sources = zip(*rows, strict=True)
    return list(senders), list(recipients), list(subjects), list(sources)


def subject_of(source: bytes) -> str:
    """The Subject header, decoded; what other software sends may be broken, and is shown as well as can be."""
    head = letters.parse(source.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    return letters.header(head, "Subject")[:998] if head is not None else ""


async def listing(connection: AsyncConnection, to: str | None, before: int | None, limit: int) -> list[Caught]:
    """The newest letters first; those to one address if `to`, older than letter `before` if given."""
    rows = await connection.execute(
        text(
            "select id, received_at, sender, recipient, subject from caught_letter "
            "where (cast(:to as text) is null or lower(recipient) = lower(:to)) "
            "and (cast(:before as bigint) is null or id < :before) order by id desc limit :limit"
        ),
        {"to": to, "before": before, "limit": limit},
    )
    return [_caught(row) for row in rows.mappings()]


def _caught(row: RowMapping | dict[str, Any]) -> Caught:
    return Caught(row["id"], row["received_at"], row["sender"], row["recipient"], row["subject"])


async def count(connection: AsyncConnection) -> int:
    """How many letters there are."""
    return int((await connection.execute(text("select count(*) from caught_letter"))).scalar_one())


async def find(connection: AsyncConnection, number: int) -> Opened:
    """One letter.

    Raises:
        NotFound: it is not there, or no longer.
    """
    rows = await connection.execute(
        text("select id, received_at, sender, recipient, subject, source from caught_letter where id = :id"),
        {"id": number},
    )
    row = rows.mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no letter {number} in the mailbox")
    return opened(_caught(row), row["source"])


def opened(caught: Caught, source: bytes) -> Opened:
    """Read a letter's bytes, whatever they are."""
    message = letters.parse(source)
    if message is None:
        return Opened(caught, source, [], "", "")
    headers = letters.headers(message)
    return Opened(caught, source, headers, letters.content(message, "plain"), letters.content(message, "html"))


async def clear(connection: AsyncConnection) -> int:
    """Throw all letters away; gives how many there were."""
    return (await connection.execute(text("delete from caught_letter"))).rowcount


class Store:
    """Keeps letters in batches: those that come while one transaction is under way share the next."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[Received, asyncio.Future[str]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def keep(self, letter: Received) -> str:
        """Store a letter; returns its id once that is committed."""
        kept: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((letter, kept))
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())
        return await kept

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:200], self._waiting[200:]
                await self._write_batch(batch)
        finally:
            self._writer = None

    async def _write_batch(self, batch: list[tuple[Received, asyncio.Future[str]]]) -> None:
        try:
            async with self._database.begin() as connection:
                ids = await keep(connection, [letter for letter, _ in batch])
        except Exception as error:  # noqa: BLE001 - each waiting conversation gets it, none is swallowed
            for _, kept in batch:
                if not kept.done():
                    kept.set_exception(error)
            return
        for (_, kept), number in zip(batch, ids, strict=True):
            if not kept.done():
                kept.set_result(str(number))
