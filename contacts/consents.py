"""What contacts agreed to, per channel and purpose, with the evidence and the whole history.

The words of the default policy, which the ledger asks at the moment of sending:

- `marketing`, and any other purpose of one's own, needs a consent that was granted for that channel and purpose.
- `transactional` needs none; a contact who explicitly refused it is left alone all the same.
- A suppressed address gets nothing, whatever was agreed (`suppressions.blocks` knows the one exception).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import attributes, identities
from core.errors import InvalidInput, Problem

CHANNELS = ("email", "sms", "voice", "webpush", "site", "webhook")
MARKETING = "marketing"
TRANSACTIONAL = "transactional"
_PURPOSE = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def check_words(channel: str, purpose: str) -> None:
    """Refuse a channel that does not exist and a purpose that cannot be a word.

    Raises:
        InvalidInput: either is wrong.
    """
    if channel not in CHANNELS:
        raise InvalidInput(Problem(f"there is no channel {channel!r}", "one of " + ", ".join(CHANNELS), path="channel"))
    if not _PURPOSE.fullmatch(purpose):
        mend = f"like {MARKETING}: lower-case letters, digits, - and _"
        raise InvalidInput(Problem(f"{purpose[:80]!r} cannot be a purpose", mend, path="purpose"))


def check_evidence(evidence: Mapping[str, Any]) -> None:
    """Refuse evidence that PostgreSQL cannot keep.

    Raises:
        InvalidInput: a text in it holds NUL or half of a surrogate pair.
    """
    if not all(map(attributes.storable, _texts(evidence))):
        mend = "take the character out"
        raise InvalidInput(Problem(r"the evidence holds \u0000 or half of a character", mend, path="consents.evidence"))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield str(name)
            yield from _texts(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts(one)


def needed(purpose: str) -> bool:
    """Whether messages of this purpose need a consent."""
    return purpose != TRANSACTIONAL


# The same statement twice (a repeated activity, a repeated request) is one record. Of two statements the later in
# time holds, whichever arrives first; of two at the same moment the refusal.
_RECORD = text(
    """
    with person as (
        select id from contact where id = any(:ids)
    ), history as (
        insert into consent_record (contact_id, channel, purpose, granted, recorded_at, source, evidence)
        select id, :channel, :purpose, :granted, :at, :source, cast(:evidence as jsonb) from person
        where not exists (
            select from consent_record r where r.contact_id = person.id and r.channel = :channel
            and r.purpose = :purpose and r.granted = :granted and r.recorded_at = :at and r.source = :source
        )
    )
    insert into consent as held (contact_id, channel, purpose, granted, changed_at)
    select id, :channel, :purpose, :granted, :at from person order by id
    on conflict (contact_id, channel, purpose) do update
    set granted = excluded.granted, changed_at = excluded.changed_at
    where excluded.changed_at > held.changed_at
       or (excluded.changed_at = held.changed_at and held.granted and not excluded.granted)
    """
)


async def record(
    connection: AsyncConnection,
    contact_ids: Sequence[int],
    channel: str,
    purpose: str,
    granted: bool,
    source: str,
    evidence: Mapping[str, Any],
    at: datetime,
) -> None:
    """Write down that contacts agreed, or refused, at a time: into their history, and into what holds now.

    A confirmation of what holds already goes into the history; the very same statement again changes nothing.
    Contacts that do not exist are passed over.

    Args:
        source: where it was said: import, api, unsubscribe page, one-click, journey, command …
        evidence: what proves it, such as the form's address, the text shown, the IP address; JSON.
        at: when it was said; what holds is what was said last.
    """
    check_words(channel, purpose)
    await identities.hold_off_erasure(connection)
    await connection.execute(
        _RECORD,
        {
            "ids": sorted(set(contact_ids)),
            "channel": channel,
            "purpose": purpose,
            "granted": granted,
            "source": source,
            "evidence": msgspec.json.encode(evidence).decode(),
            "at": at,
        },
    )


async def holds(connection: AsyncConnection, contact_ids: Sequence[int], channel: str, purpose: str) -> set[int]:
    """Those of the contacts who have agreed to this purpose on this channel, and not taken it back."""
    return await _stated(connection, contact_ids, channel, purpose, granted=True)


async def permits(connection: AsyncConnection, contact_ids: Sequence[int], channel: str, purpose: str) -> set[int]:
    """Those of the contacts whom the consent policy lets us write to (see the words at the top of this module)."""
    if needed(purpose):
        return await holds(connection, contact_ids, channel, purpose)
    return set(contact_ids) - await _stated(connection, contact_ids, channel, purpose, granted=False)


async def _stated(
    connection: AsyncConnection, contact_ids: Sequence[int], channel: str, purpose: str, *, granted: bool
) -> set[int]:
    rows = await connection.execute(
        text(
            "select contact_id from consent where contact_id = any(:ids) and channel = :channel "
            "and purpose = :purpose and granted = :granted"
        ),
        {"ids": list(contact_ids), "channel": channel, "purpose": purpose, "granted": granted},
    )
    return set(rows.scalars())


async def of(connection: AsyncConnection, contact_id: int) -> list[dict[str, Any]]:
    """What holds for a contact: channel, purpose, granted, changed_at."""
    rows = await connection.execute(
        text("select channel, purpose, granted, changed_at from consent where contact_id = :id order by 1, 2"),
        {"id": contact_id},
    )
    return [dict(row) for row in rows.mappings()]


async def history(connection: AsyncConnection, contact_id: int) -> list[dict[str, Any]]:
    """Every statement of a contact with its source and evidence, newest first."""
    rows = await connection.execute(
        text(
            "select channel, purpose, granted, recorded_at, source, evidence from consent_record "
            "where contact_id = :id order by recorded_at desc, id desc"
        ),
        {"id": contact_id},
    )
    return [dict(row) for row in rows.mappings()]
