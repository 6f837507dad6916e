"""What messages said: kept as the values they were rendered from, and rendered again when somebody looks.

A version of a template never changes and rendering depends on nothing else, so the values give the very content. They
take a fiftieth of its bytes and, in the transaction that claims the rows anyway, hardly any time; docs/delivery.md has
the measurement. Links come out the same, too: they are signed for the message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.files import invitation
from channels.policy import Skip
from channels.provider import Attachment
from channels.rendering import Links, Rendered, TemplateCache, render, scopes
from core.database import array, array_of, driver
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class Kept:
    """What one message was written from."""

    message_id: UUID
    sender: str | None
    known: Mapping[str, Any]
    """`contact`, `event` and `journey`, as far as the template uses them."""


_KEEP = """
insert into message_content (created_at, message_id, sender, known)
select %(at)s, n.id, n.sender, n.known::jsonb
from unnest(%(ids)s::uuid[], %(senders)s::text[], %(known)s::text[]) as n (id, sender, known)
"""


async def keep(connection: AsyncConnection, at: datetime, kept: Sequence[Kept]) -> None:
    """Write down what messages were written from, in the transaction that claims them.

    Args:
        connection: an open transaction.
        at: message.created_at of all of them.
        kept: the messages. Each attempt writes again; the last one counts.
    """
    if not kept:
        return
    values = {
        "at": at,
        "ids": array_of([one.message_id for one in kept]),
        "senders": array(one.sender for one in kept),
        "known": array(msgspec.json.encode(one.known).decode() for one in kept),
    }
    await (await driver(connection)).execute(_KEEP, values)


@dataclass(frozen=True, slots=True)
class Enclosed:
    """A file that went with a message."""

    name: str
    content_type: str
    bytes: int
    picture: bool
    """Whether the HTML shows it; otherwise it is there to be opened."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a message said."""

    sender: str | None
    rendered: Rendered
    attachments: tuple[Enclosed, ...] = ()


_FIND = text(
    """
    select k.sender, k.known, m.address, m.template_version_id, m.version_id, m.step
    from message m join message_content k on k.created_at = m.created_at and k.message_id = m.id
    where m.id = :id and m.created_at = :at and m.address is not null
    order by k.kept_at desc limit 1
    """
)


async def again(
    connection: AsyncConnection, settings: Settings, templates: TemplateCache, message_id: UUID, created_at: datetime
) -> Content | None:
    """What a message said, or None if that is not kept: too long ago, never rendered, or its contact was erased.

    Args:
        connection: an open transaction.
        settings: for its links.
        templates: versions that were used lately.
        message_id: which.
        created_at: when its row was made.
    """
    rows = await connection.execute(_FIND, {"id": message_id, "at": created_at})
    row = rows.one_or_none()
    if row is None:
        return None
    if row.template_version_id is None:
        template = await templates.notice(connection, row.version_id, row.step)
    else:
        template = await templates.get(connection, row.template_version_id)
    links = Links(settings).context(message_id, created_at)
    known = [row.known.get(root, {}) for root in ("contact", "event", "journey")]
    content = render(template, scopes(*known) | links)
    if isinstance(content, Skip):
        return None
    enclosed = template.attachments
    if content.invite:
        sender = row.sender or settings.email_from
        enclosed += (invitation(message_id, content.invite, sender, row.address, created_at),)
    return Content(row.sender, content, tuple(map(_enclosed, enclosed)))


def _enclosed(one: Attachment) -> Enclosed:
    return Enclosed(one.name, one.content_type, len(one.content), one.content_id is not None)
