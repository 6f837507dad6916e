"""What happened to one contact: events and messages on one line, and its runs through journeys."""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import InvalidInput, Problem
from core.schema.messages import MessageState

_ENROLLMENTS = 100

_MOMENTS = text(
    """
    (select e.occurred_at as at, 'event' as type, e.id::text as id, n.name as name,
        jsonb_build_object('properties', e.properties) as details
     from event e join event_name n on n.id = e.name_id
     where e.contact_id = :contact and (e.occurred_at, e.id::text) < (:at, :id)
     order by e.occurred_at desc, e.id::text desc limit :limit)
    union all
    (select m.created_at, 'message', m.id::text, coalesce(t.name, ''),
        jsonb_build_object('channel', m.channel, 'purpose', m.purpose, 'state', m.state, 'reason', m.reason,
            'journey', j.name, 'address', m.address, 'accepted_at', m.accepted_at, 'delivered_at', m.delivered_at,
            'opened_at', m.opened_at, 'clicked_at', m.clicked_at)
     from message m
     left join template_version tv on tv.id = m.template_version_id left join template t on t.id = tv.template_id
     left join journey_version v on v.id = m.version_id left join journey j on j.id = v.journey_id
     where m.contact_id = :contact and (m.created_at, m.id::text) < (:at, :id)
     order by m.created_at desc, m.id::text desc limit :limit)
    order by at desc, id desc limit :limit
    """
)


@dataclass(frozen=True)
class Page:
    """Some moments, newest first, and what to ask for to see older ones (None at the end)."""

    moments: list[dict[str, Any]]
    older: str | None


async def read(connection: AsyncConnection, contact_id: int, before: str | None = None, limit: int = 50) -> Page:
    """A page of a contact's events and messages, newest first.

    Args:
        before: `Page.older` of the page before; from now on backwards if None.
        limit: moments on the page.

    Raises:
        InvalidInput: `before` is not from a page.
    """
    at, moment_id = _decoded(before) if before else ("infinity", "")
    rows = await connection.execute(_MOMENTS, {"contact": contact_id, "at": at, "id": moment_id, "limit": limit + 1})
    moments = [dict(row) for row in rows.mappings()]
    for moment in moments:
        if moment["type"] == "message":
            moment["details"]["state"] = MessageState(moment["details"]["state"]).name.lower()
    last = moments[limit - 1] if len(moments) > limit else None
    return Page(moments[:limit], _encoded(last["at"], last["id"]) if last else None)


def _encoded(at: datetime, moment_id: str) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {moment_id}".encode()).decode()


def _decoded(cursor: str) -> tuple[str, str]:
    try:
        at, _, moment_id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().partition(" ")
        return datetime.fromisoformat(at).isoformat(), moment_id[:40].replace("\0", "")
    except (binascii.Error, ValueError):
        mend = "take `older` of the page before"
        raise InvalidInput(Problem("this is no place in a timeline", mend, path="before")) from None


async def enrollments(connection: AsyncConnection, contact_id: int) -> list[dict[str, Any]]:
    """The latest runs of a contact through journeys, newest first, a hundred at most."""
    rows = await connection.execute(
        text(
            "select e.id, j.name as journey, v.number as version, e.key, e.state, e.step, e.entered_at, e.due_at, "
            "e.finished_at, e.outcome from enrollment e join journey j on j.id = e.journey_id "
            "join journey_version v on v.id = e.version_id where e.contact_id = :id order by e.id desc limit :limit"
        ),
        {"id": contact_id, "limit": _ENROLLMENTS},
    )
    return [dict(row) for row in rows.mappings()]
