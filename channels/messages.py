"""Reading the ledger, for people."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import InvalidInput, NotFound, Problem
from core.schema.messages import MessageState

_COLUMNS = """
select m.id, m.created_at, m.contact_id, m.channel, m.purpose, m.state, j.name as journey, t.name as template,
    p.name as provider, m.address, m.attempts, m.accepted_at, m.delivered_at, m.opened_at, m.clicked_at, m.reason,
    m.provider_message_id, m.enrollment_id, m.visit
from message m
left join journey_version v on v.id = m.version_id left join journey j on j.id = v.journey_id
left join template_version tv on tv.id = m.template_version_id left join template t on t.id = tv.template_id
left join provider p on p.id = m.provider_id
"""
_SHORT = ("id", "created_at", "contact_id", "channel", "state", "journey", "template", "provider", "reason")


async def listing(
    connection: AsyncConnection,
    state: str | None = None,
    contact_id: int | None = None,
    journey: str | None = None,
    before: datetime | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Messages, newest first.

    Raises:
        InvalidInput: there is no such state.
    """
    names = {name.name.lower(): int(name) for name in MessageState}
    if state is not None and state not in names:
        raise InvalidInput(Problem(f"there is no state {state!r}", f"there are {', '.join(names)}"))
    given = {"state": names.get(state or ""), "contact": contact_id, "journey": journey, "before": before}
    tests = {
        "state": "m.state = :state",
        "contact": "m.contact_id = :contact",
        "journey": "j.name = :journey",
        "before": "m.created_at < :before",
    }
    wanted = [test for name, test in tests.items() if given[name] is not None]
    where = f"where {' and '.join(wanted)}" if wanted else ""
    rows = await connection.execute(
        text(f"{_COLUMNS} {where} order by m.created_at desc, m.id limit :limit"), given | {"limit": limit}
    )
    return [{name: worded[name] for name in _SHORT} for worded in map(_worded, rows.mappings())]


async def show(connection: AsyncConnection, message_id: UUID) -> dict[str, Any]:
    """All that the ledger knows of one message.

    Raises:
        NotFound: there is no such message, or it is past retention.
    """
    rows = await connection.execute(text(f"{_COLUMNS} where m.id = :id"), {"id": message_id})
    row = rows.mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no message {message_id}")
    return _worded(row)


def _worded(row: Any) -> dict[str, Any]:
    return dict(row) | {"state": MessageState(row["state"]).name.lower()}
