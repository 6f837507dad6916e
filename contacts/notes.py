"""What contacts said that is no consent, with the proof of it: limits, language, time zone, requests to be asked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


async def note(
    connection: AsyncConnection,
    evidence: Mapping[int, Mapping[str, Any]],
    changes: Mapping[str, Any],
    source: str,
    at: datetime,
) -> None:
    """Write down, with its proof, what contacts said that is no consent.

    Args:
        connection: an open transaction.
        evidence: what proves it, by contact.
        changes: what it is, the same for all of them.
        source: where it was said.
        at: when.
    """
    await connection.execute(
        text(
            "insert into preference_record (contact_id, recorded_at, changes, source, evidence) "
            "select c.id, :at, cast(:changes as jsonb), :source, n.evidence::jsonb from "
            "unnest(cast(:ids as bigint[]), cast(:evidence as text[])) n (id, evidence) join contact c on c.id = n.id"
        ),
        {
            "ids": list(evidence),
            "at": at,
            "changes": msgspec.json.encode(changes).decode(),
            "source": source,
            "evidence": [msgspec.json.encode(one).decode() for one in evidence.values()],
        },
    )


async def history(connection: AsyncConnection, contact_id: int) -> list[dict[str, Any]]:
    """Every change besides consents with its source and evidence, newest first."""
    rows = await connection.execute(
        text(
            "select changes, recorded_at, source, evidence from preference_record "
            "where contact_id = :id order by recorded_at desc, id desc"
        ),
        {"id": contact_id},
    )
    return [dict(row) for row in rows.mappings()]
