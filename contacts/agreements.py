"""What holds between a contact and us as a whole: how merging contacts and undoing that reads and writes consents.

`contacts/combining.py` decides what holds for two who become one, `contacts/consents.py` is for everybody else.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts.combining import Agreement, Stated


async def of(connection: AsyncConnection, contact_id: int) -> dict[Agreement, Stated]:
    """What holds for a contact."""
    rows = await connection.execute(
        text("select channel, purpose, granted, changed_at from consent where contact_id = :id order by 1, 2"),
        {"id": contact_id},
    )
    return {(row.channel, row.purpose): (row.granted, row.changed_at) for row in rows}


def later(held: Mapping[Agreement, Stated], late: Mapping[Agreement, Stated]) -> dict[Agreement, Stated]:
    """Those statements that hold over the ones there are: what was said last, and of two at once the refusal."""

    def rank(stated: Stated) -> tuple[datetime, bool]:
        return stated[1], not stated[0]

    return {key: stated for key, stated in late.items() if key not in held or rank(stated) > rank(held[key])}


async def clear(connection: AsyncConnection, contact_id: int) -> None:
    """Let nothing hold for a contact; its history stays."""
    await connection.execute(text("delete from consent where contact_id = :id"), {"id": contact_id})


async def put(connection: AsyncConnection, contact_id: int, stated: Mapping[Agreement, Stated]) -> None:
    """Let this hold for a contact."""
    await connection.execute(
        text(
            "insert into consent (contact_id, channel, purpose, granted, changed_at) "
            "select :id, * from unnest(cast(:channels as text[]), cast(:purposes as text[]), "
            "cast(:granted as boolean[]), cast(:ats as timestamptz[])) "
            "on conflict (contact_id, channel, purpose) do update "
            "set granted = excluded.granted, changed_at = excluded.changed_at"
        ),
        {
            "id": contact_id,
            "channels": [channel for channel, _ in stated],
            "purposes": [purpose for _, purpose in stated],
            "granted": [granted for granted, _ in stated.values()],
            "ats": [at for _, at in stated.values()],
        },
    )


async def prove(
    connection: AsyncConnection,
    contact_id: int,
    before: Mapping[Agreement, Stated],
    after: Mapping[Agreement, Stated],
    evidence: Mapping[str, Any],
) -> None:
    """Write into the history of a contact that a merge changed what holds for it."""
    changed = {key: stated for key, stated in after.items() if before.get(key, (None,))[0] != stated[0]}
    if changed:
        await connection.execute(
            text(
                "insert into consent_record (contact_id, channel, purpose, granted, recorded_at, source, evidence) "
                "select :id, channel, purpose, granted, clock_timestamp(), 'merge', cast(:evidence as jsonb) from "
                "unnest(cast(:channels as text[]), cast(:purposes as text[]), cast(:granted as boolean[])) "
                "as n (channel, purpose, granted)"
            ),
            {
                "id": contact_id,
                "evidence": msgspec.json.encode(evidence).decode(),
                "channels": [channel for channel, _ in changed],
                "purposes": [purpose for _, purpose in changed],
                "granted": [stated[0] for stated in changed.values()],
            },
        )
