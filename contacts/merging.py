"""Merging contacts that turn out to be one person, and undoing that. docs/identity.md says the rules in words.

A merge is one transaction: everything of the loser becomes the winner's, and each row remembers whose it was
(`merged_from`). Nobody who writes about contacts has to know of merges: the loser's row stays for a moment, blank, and
what transactions that were under way still wrote about it is carried over by `settle`, until none of them is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import agreements, carrying, identities
from contacts.combining import Agreement, Facts, Stated, agree, combine, disagree, lay_over, separate
from contacts.profiles import Limits
from core.errors import Conflict, InvalidInput, NotFound

_SETTLERS = 0x6B61736D  # "kasm": one at a time
_SETTLED_AT_ONCE = 200


class Before(msgspec.Struct):
    """What two contacts were before a merge, and what they became: all that undoing needs."""

    winner: Facts
    loser: Facts
    merged: Facts
    adding: list[str]
    identities: list[tuple[str, str]]
    consents: list[list[tuple[str, str, bool, datetime]]]
    """Of the winner, of the loser, of both."""
    winner_rows: dict[str, list[dict[str, Any]]]
    loser_rows: dict[str, list[dict[str, Any]]]
    ended: list[int] = []
    """Enrollments of the loser that had to end, because the winner was in the same journey."""


@dataclass(frozen=True)
class Undone:
    """What became of undoing a merge."""

    contact_id: int
    """The contact that is there again."""
    winner_id: int
    ended: list[int]
    """Enrollments that the merge ended and that stay ended."""


async def current(connection: AsyncConnection, contact_ids: Sequence[int]) -> dict[int, int]:
    """Who those of the contacts are by now that were merged into others."""
    rows = await connection.execute(
        text("select loser_id, now_id from contact_merge where loser_id = any(:ids) and undone_at is null"),
        {"ids": list(contact_ids)},
    )
    return {row.loser_id: row.now_id for row in rows}


async def merge(
    connection: AsyncConnection,
    loser_id: int,
    winner_id: int,
    *,
    source: str,
    by: str | None = None,
    limits: Limits | None = None,
) -> int:
    """Make two contacts one: all that the loser is known by, did and got becomes the winner's.

    The caller has decided that they are one person; `contacts.identify` does so by rules.

    Args:
        connection: an open transaction. Merging several in one can deadlock with others, which PostgreSQL ends with an
            error (SQLSTATE 40P01); do it again then.
        loser_id: who will be no more.
        winner_id: whose attributes, language, time zone and company count where both have them.
        source: what brought it about: identify, command, api …
        by: the user, if it was one.
        limits: how much the winner may carry; what exceeds them stays in the record of the merge.

    Returns:
        The number of the merge, by which it can be undone.

    Raises:
        NotFound: one of them does not exist, or was merged already.
        InvalidInput: both are the same contact.
    """
    if loser_id == winner_id:
        raise InvalidInput("a contact cannot be merged into itself")
    await identities.hold_off_erasure(connection)
    facts = await _lock(connection, [loser_id, winner_id])
    gone = await current(connection, [loser_id, winner_id])
    for one in (loser_id, winner_id):
        if one in gone:
            raise NotFound(f"the contact {one} was merged into {gone[one]}")
        if one not in facts:
            raise NotFound(f"there is no contact {one}")
    winner, loser = facts[winner_id], facts[loser_id]
    adding = await _adding(connection)
    merged = combine(winner, loser, adding, limits or Limits())
    mine, other = await agreements.of(connection, winner_id), await agreements.of(connection, loser_id)
    both = agree(mine, other)
    before = Before(
        winner,
        loser,
        merged,
        adding,
        await _identities(connection, loser_id),
        [_rows(mine), _rows(other), _rows(both)],
        await carrying.side_rows(connection, winner_id),
        await carrying.side_rows(connection, loser_id),
    )
    before.ended = await carrying.carry(connection, loser_id, winner_id)
    if merged != winner:
        await _write(connection, winner_id, merged)
    if loser != Facts(loser.created_at):
        await _write(connection, loser_id, Facts(loser.created_at))
    number = await _record(connection, loser_id, winner_id, before, source, by)
    if other:
        await agreements.clear(connection, loser_id)
        await agreements.put(connection, winner_id, both)
    await agreements.prove(connection, winner_id, mine, both, {"merge": number, "contact": loser_id})
    return number


async def _lock(connection: AsyncConnection, contact_ids: Sequence[int]) -> dict[int, Facts]:
    """Lock contacts in the order of their ids, against other merges and whoever writes on their rows; read them."""
    rows = await connection.execute(
        text(
            "select id, created_at, attributes, tags, language, time_zone, company_id from contact "
            "where id = any(:ids) order by id for no key update"
        ),
        {"ids": list(contact_ids)},
    )
    return {
        row.id: Facts(row.created_at, row.attributes, tuple(row.tags), row.language, row.time_zone, row.company_id)
        for row in rows
    }


async def _adding(connection: AsyncConnection) -> list[str]:
    rows = await connection.execute(text("select name from attribute where merging = 'add'"))
    return sorted(rows.scalars())


async def _identities(connection: AsyncConnection, contact_id: int) -> list[tuple[str, str]]:
    return [(one["kind"], one["value"]) for one in await identities.of(connection, contact_id)]


def _rows(stated: Mapping[Agreement, Stated]) -> list[tuple[str, str, bool, datetime]]:
    return [(*key, *value) for key, value in stated.items()]


def _stated(rows: Sequence[tuple[str, str, bool, datetime]]) -> dict[Agreement, Stated]:
    return {(channel, purpose): (granted, at) for channel, purpose, granted, at in rows}


async def _write(connection: AsyncConnection, contact_id: int, facts: Facts) -> None:
    await connection.execute(
        text(
            "update contact set created_at = :created, attributes = cast(:attributes as jsonb), tags = :tags, "
            "language = :language, time_zone = :zone, company_id = :company, updated_at = now() where id = :id"
        ),
        {
            "id": contact_id,
            "created": facts.created_at,
            "attributes": msgspec.json.encode(facts.attributes).decode(),
            "tags": list(facts.tags),
            "language": facts.language,
            "zone": facts.time_zone,
            "company": facts.company_id,
        },
    )


async def _record(
    connection: AsyncConnection, loser_id: int, winner_id: int, before: Before, source: str, by: str | None
) -> int:
    await connection.execute(
        text("update contact_merge set now_id = :winner where now_id = :loser and undone_at is null"),
        {"loser": loser_id, "winner": winner_id},
    )
    made = await connection.execute(
        text(
            "insert into contact_merge (loser_id, winner_id, now_id, source, merged_by, before) "
            "values (:loser, :winner, :winner, :source, :by, cast(:before as jsonb)) returning id"
        ),
        {
            "loser": loser_id,
            "winner": winner_id,
            "source": source,
            "by": by,
            "before": msgspec.json.encode(before).decode(),
        },
    )
    return int(made.scalar_one())


# --- what was written meanwhile


async def settle(connection: AsyncConnection) -> int:
    """Carry over what was still written about losers of late merges; remove those of whom nobody can write any more.

    A transaction that read the loser's number before the merge may write it after. So this is done again and again,
    until every transaction that was running when the merge was first seen here has ended.

    Returns:
        How many merges are not settled yet.
    """
    await identities.hold_off_erasure(connection)  # nor is a merge undone meanwhile
    got = await connection.execute(text("select pg_try_advisory_xact_lock(:lock)"), {"lock": _SETTLERS})
    if not got.scalar():
        return 0
    # The oldest transaction is asked for before anything is carried: what has ended by then is visible afterwards.
    # Those that can be done with come first. The others have each their chance, however long somebody's transaction
    # stays open.
    rows = await connection.execute(
        text(
            "select m.id, m.loser_id, m.now_id, m.seen_at is not null and not exists ("
            "select from pg_stat_activity a where a.datname = current_database() and a.pid <> pg_backend_pid() "
            "and a.backend_type = 'client backend' and a.xact_start <= m.seen_at) as calm "
            "from contact_merge m where m.settled_at is null "
            "order by calm desc, m.seen_at is not null, random() limit :limit"
        ),
        {"limit": _SETTLED_AT_ONCE},
    )
    merges = rows.all()
    if not merges:
        return 0
    # Whoever attaches something to a loser by a foreign key waits from here on, or is seen.
    calm_losers = [row.loser_id for row in merges if row.calm]
    await connection.execute(
        text("select from contact where id = any(:ids) order by id for update"), {"ids": calm_losers}
    )
    strays = await carrying.strays(connection, [row.loser_id for row in merges])
    for row in merges:
        if row.loser_id in strays:
            await _sweep(connection, row.id)
    calm = [row.id for row in merges if row.calm]
    await connection.execute(
        text("update contact_merge set seen_at = clock_timestamp() where id = any(:ids) and seen_at is null"),
        {"ids": [row.id for row in merges]},
    )
    await connection.execute(
        text(
            "with over as (update contact_merge set settled_at = now() "
            "where id = any(:ids) and undone_at is null and settled_at is null returning loser_id) "
            "delete from contact where id in (select loser_id from over)"
        ),
        {"ids": calm},
    )
    return len(merges) - len(calm)


async def _sweep(connection: AsyncConnection, number: int) -> bool:
    """Carry over what the loser of a merge has got since; whether the merge still stands."""
    row = (
        await connection.execute(
            text("select loser_id, now_id from contact_merge where id = :id and settled_at is null"), {"id": number}
        )
    ).first()
    if row is None:
        return False
    facts = await _lock(connection, [row.loser_id, row.now_id])
    await carrying.carry(connection, row.loser_id, row.now_id)
    if row.loser_id not in facts or row.now_id not in facts:
        return True
    late = await agreements.of(connection, row.loser_id)
    if late:
        await agreements.clear(connection, row.loser_id)
        held = await agreements.of(connection, row.now_id)
        await agreements.put(connection, row.now_id, held | agreements.later(held, late))
    blank = Facts(facts[row.loser_id].created_at)
    if facts[row.loser_id] != blank:
        adding = await _adding(connection)
        await _write(connection, row.now_id, lay_over(facts[row.now_id], facts[row.loser_id], adding, Limits()))
        await _write(connection, row.loser_id, blank)
    return True


# --- undoing


async def unmerge(connection: AsyncConnection, number: int, *, by: str | None = None) -> Undone:
    """Make two contacts again of what a merge made one.

    The loser gets back what it was known by, its events, messages, enrollments, consents and memberships; the winner
    keeps what was written since. What cannot be undone: messages that were sent, enrollments that the merge ended, and
    events that have come since under the loser's identities: they stay with the winner.

    Raises:
        NotFound: there is no such merge.
        Conflict: it was undone before, its contacts were erased, or the winner itself was merged since.
    """
    await identities.await_writers(connection)
    row = await _standing(connection, number)
    await _sweep(connection, number)
    before = msgspec.convert(row.before, Before)
    await _bring_back(connection, row.loser_id, before.loser)
    family = await _family(connection, row.loser_id)
    await carrying.give_back(connection, row.winner_id, row.loser_id, family, before.identities)
    await carrying.split_side_rows(connection, row.winner_id, row.loser_id, (before.winner_rows, before.loser_rows))
    now = (await _lock(connection, [row.winner_id]))[row.winner_id]
    await _write(connection, row.winner_id, separate(now, before.merged, before.winner, before.loser, before.adding))
    winner, loser, both = (_stated(rows) for rows in before.consents)
    present = await agreements.of(connection, row.winner_id)
    mine, other = disagree(present, both, winner, loser)
    for contact_id, stated in ((row.winner_id, mine), (row.loser_id, other)):
        await agreements.clear(connection, contact_id)
        await agreements.put(connection, contact_id, stated)
    await agreements.prove(connection, row.winner_id, present, mine, {"merge": number, "undone": True})
    await connection.execute(
        text(
            "update contact_merge set undone_at = now(), undone_by = :by, before = null, "
            "settled_at = coalesce(settled_at, now()) where id = :id"
        ),
        {"id": number, "by": by},
    )
    await connection.execute(
        text("update contact_merge set now_id = :loser where loser_id = any(:family) and undone_at is null"),
        {"loser": row.loser_id, "family": [one for one in family if one != row.loser_id]},
    )
    return Undone(row.loser_id, row.winner_id, before.ended)


async def _standing(connection: AsyncConnection, number: int) -> Any:
    """The row of a merge that can be undone, locked."""
    rows = await connection.execute(text("select * from contact_merge where id = :id for update"), {"id": number})
    row = rows.first()
    if row is None:
        raise NotFound(f"there is no merge {number}")
    if row.undone_at is not None:
        raise Conflict(f"the merge {number} was undone at {row.undone_at:%Y-%m-%d %H:%M}")
    if row.before is None:
        raise Conflict(f"the contact of merge {number} was erased")
    if row.now_id != row.winner_id:
        later = await connection.execute(
            text("select id from contact_merge where loser_id = :id and undone_at is null"), {"id": row.winner_id}
        )
        raise Conflict(f"contact {row.winner_id} was merged since: undo merge {later.scalar()} first")
    return row


async def _bring_back(connection: AsyncConnection, contact_id: int, facts: Facts) -> None:
    await connection.execute(
        text("insert into contact (id) overriding system value values (:id) on conflict do nothing"),
        {"id": contact_id},
    )
    await _write(connection, contact_id, facts)


async def _family(connection: AsyncConnection, contact_id: int) -> list[int]:
    """A contact and all who were merged into it."""
    rows = await connection.execute(
        text(
            "with recursive family (id) as (select cast(:id as bigint) union "
            "select m.loser_id from contact_merge m join family on m.winner_id = family.id where m.undone_at is null) "
            "select id from family"
        ),
        {"id": contact_id},
    )
    return list(rows.scalars())


# --- looking


async def listing(
    connection: AsyncConnection, contact_id: int | None = None, before: int | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Merges, newest first, of all contacts or of one, as loser or winner."""
    rows = await connection.execute(
        text(
            "select id, loser_id, winner_id, now_id, merged_at, source, merged_by, undone_at, undone_by, "
            "before is not null as can_be_undone from contact_merge "
            "where (cast(:before as bigint) is null or id < :before) and (cast(:contact as bigint) is null "
            "or loser_id = :contact or winner_id = :contact or now_id = :contact) order by id desc limit :limit"
        ),
        {"contact": contact_id, "before": before, "limit": limit},
    )
    return [dict(row) for row in rows.mappings()]
