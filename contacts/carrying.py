"""Carrying the rows of one contact over to another, and back. Each row remembers whose it was.

To let another table follow its contacts, add it to `_FOLLOWING` (with a column `merged_from`), or to `_SIDE` or
`_CHOSEN` if it holds one row for a contact and something else.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts.combining import Agreement, Stated

_FOLLOWING = (
    "event",
    "message",
    "message_settlement",
    "delivery_report",
    "enrollment",
    "conversion",
    "consent_record",
    "preference_record",
    "session",
)
"""Tables whose rows belong to a contact and to nothing that two contacts could share."""

_SIDE = {
    "segment_member": ("segment_id", "since = least(held.since, excluded.since)"),
    "segment_presence": ("segment_id", "since = least(held.since, excluded.since)"),
}
"""Tables with one row for a contact and something else: that column, and what two rows of it become."""

_CHOSEN = {
    "contact_touch": (("which",), "at", "case w.which when 0 then l.at < w.at else l.at > w.at end"),
    "consent_request": (("channel", "purpose"), "asked_at", "l.asked_at > w.asked_at"),
    "frequency": (("channel",), "changed_at", "l.changed_at > w.changed_at"),
}
"""Tables where of two rows one stays as it is: what else is in the key, the row's moment, and when the loser's row is
the one. A first touch is the earlier one; what else is chosen is what was said last."""

# Two open runs of one contact in one journey, where only one may be: the winner's goes on. From here on the loser's
# hears no events, and its cohort is told to let it end.
_END = """
with twice as (
    select l.id, l.cohort_id from enrollment l
    where l.contact_id = :loser and l.exclusive and l.closed_by is null and l.finished_at is null
      and exists (select from enrollment w where w.contact_id = :winner and w.journey_id = l.journey_id
                  and w.key = l.key and w.exclusive and w.closed_by is null and w.finished_at is null)
), closed as (
    update enrollment e set closed_by = (select coalesce(max(id), 0) from event)
    from twice where e.id = twice.id returning e.id, e.cohort_id
)
insert into enrollment_order (enrollment_id, cohort_id, outcome, ordered_by)
select id, cohort_id, 'merged', 'merge' from closed returning enrollment_id
"""

_CONFLICTS = (
    "delete from identity_conflict where (contact_id, owner_id) in ((:loser, :winner), (:winner, :loser))",
    "insert into identity_conflict (contact_id, owner_id, kind, value, noted_at, source) "
    "select case contact_id when :loser then :winner else contact_id end, "
    "case owner_id when :loser then :winner else owner_id end, kind, value, noted_at, source "
    "from identity_conflict where contact_id = :loser or owner_id = :loser on conflict do nothing",
    "delete from identity_conflict where contact_id = :loser or owner_id = :loser",
)


async def carry(connection: AsyncConnection, loser: int, winner: int) -> list[int]:
    """Make all rows of the loser the winner's, but for what stands on the contact's own row and its consents.

    Only tables that have something of the loser are touched: a visitor is in few. What comes into another one just now
    is written by a transaction that is under way, and is carried over when the merge is settled.

    Returns:
        Enrollments of the loser that have to end.
    """
    pair = {"loser": loser, "winner": winner}
    there = await _tables(connection, loser)
    if "identity" in there:
        await connection.execute(text("update identity set contact_id = :winner where contact_id = :loser"), pair)
    ended: list[int] = []
    if "enrollment" in there:
        ended = sorted((await connection.execute(text(_END), pair)).scalars())
    for table in sorted(there.intersection(_FOLLOWING)):
        await connection.execute(
            text(
                f"update {table} set contact_id = :winner, merged_from = coalesce(merged_from, :loser) "  # noqa: S608
                "where contact_id = :loser"
            ),
            pair,
        )
    for table in sorted(there.intersection(_SIDE)):
        other, merged = _SIDE[table]
        await connection.execute(
            text(
                f"with gone as (delete from {table} where contact_id = :loser returning {other}, since) "  # noqa: S608
                f"insert into {table} as held ({other}, contact_id, since) select {other}, :winner, since from gone "
                f"order by 1 on conflict ({other}, contact_id) do update set {merged}"
            ),
            pair,
        )
    chosen = [statement for table in sorted(there.intersection(_CHOSEN)) for statement in _choice(table)]
    for statement in (*chosen, *(_CONFLICTS if "identity_conflict" in there else ())):
        await connection.execute(text(statement), pair)
    if there:
        await _look_again(connection, [winner])
    return ended


async def _look_again(connection: AsyncConnection, contact_ids: Sequence[int]) -> None:
    """Let tracked segments look at contacts who got or gave rows: those of events tell no segment by themselves. They
    are looked at as somebody new is, which all segments heed."""
    await connection.execute(
        text(
            "insert into segment_look (contact_id, cause) select unnest(cast(:ids as bigint[])), 'birth' "
            "where exists (select from segment where tracking is not null)"
        ),
        {"ids": list(contact_ids)},
    )


def _choice(table: str) -> tuple[str, ...]:
    """The statements that leave the winner one row of two."""
    keys, _, the_losers = _CHOSEN[table]
    same = " and ".join(f"w.{key} = l.{key}" for key in keys)
    return (
        f"delete from {table} w using {table} l where w.contact_id = :winner and l.contact_id = :loser "  # noqa: S608
        f"and {same} and {the_losers}",
        f"update {table} l set contact_id = :winner where contact_id = :loser and not exists ("  # noqa: S608 -- ours
        f"select from {table} w where w.contact_id = :winner and {same})",
        f"delete from {table} where contact_id = :loser",  # noqa: S608 -- ours
    )


async def _tables(connection: AsyncConnection, contact_id: int) -> set[str]:
    """The tables that hold something about a contact."""
    rows = await connection.execute(
        text(
            " union all ".join(
                f"select '{table}' where exists (select from {table} where {condition})"  # noqa: S608 -- ours
                for table, condition in [
                    *((table, "contact_id = :id") for table in ("identity", *_FOLLOWING, *_SIDE, *_CHOSEN)),
                    ("identity_conflict", "contact_id = :id or owner_id = :id"),
                ]
            )
        ),
        {"id": contact_id},
    )
    return set(rows.scalars())


async def strays(connection: AsyncConnection, losers: Sequence[int]) -> set[int]:
    """Those of the contacts about whom there is anything at all."""
    tables = ("identity", "consent", "identity_conflict", *_FOLLOWING, *_SIDE, *_CHOSEN)
    parts = [f"select contact_id from {table} where contact_id = any(:ids)" for table in tables]  # noqa: S608 -- ours
    parts += [
        "select owner_id from identity_conflict where owner_id = any(:ids)",
        "select id from contact where id = any(:ids) and (attributes <> '{}' or tags <> '{}' "
        "or language is not null or time_zone is not null or company_id is not null)",
    ]
    rows = await connection.execute(text(" union ".join(parts)), {"ids": list(losers)})
    return set(rows.scalars())


async def give_back(
    connection: AsyncConnection,
    winner: int,
    loser: int,
    family: Sequence[int],
    identities: Sequence[tuple[str, str]],
) -> None:
    """Give the loser of a merge its rows again.

    Args:
        winner: who has them.
        loser: whose they were.
        family: the loser and those who had been merged into it.
        identities: kind and value of what it was known by.
    """
    await connection.execute(
        text(
            "update identity i set contact_id = :loser from unnest(cast(:kinds as text[]), cast(:values as text[])) "
            "as n (kind, value) where i.kind = n.kind and i.value = n.value and i.contact_id = :winner"
        ),
        {
            "loser": loser,
            "winner": winner,
            "kinds": [kind for kind, _ in identities],
            "values": [value for _, value in identities],
        },
    )
    for table in _FOLLOWING:
        await connection.execute(
            text(
                f"update {table} set contact_id = :loser, merged_from = nullif(merged_from, :loser) "  # noqa: S608
                "where contact_id = :winner and merged_from = any(:family)"
            ),
            {"loser": loser, "winner": winner, "family": list(family)},
        )
    await _look_again(connection, [winner, loser])


Rows = Mapping[str, Sequence[Mapping[str, Any]]]


async def side_rows(connection: AsyncConnection, contact_id: int) -> dict[str, list[dict[str, Any]]]:
    """A contact's rows of the tables with one row for a contact and something else, to be kept for undoing."""
    parts = [
        f"select '{table}' as name, to_jsonb(t) as row from {table} t where contact_id = :id"  # noqa: S608 -- ours
        for table in (*_SIDE, *_CHOSEN)
    ]
    found: dict[str, list[dict[str, Any]]] = {}
    for name, row in await connection.execute(text(" union all ".join(parts)), {"id": contact_id}):
        found.setdefault(name, []).append(row)
    return found


async def split_side_rows(connection: AsyncConnection, winner: int, loser: int, before: tuple[Rows, Rows]) -> None:
    """Give both contacts the rows they had before a merge, as far as nothing has changed them since."""
    keyed = {table: ((other,), "since") for table, (other, _) in _SIDE.items()}
    for table, (keys, moment) in (keyed | {table: rest[:2] for table, rest in _CHOSEN.items()}).items():
        mine, theirs = (list(rows.get(table, ())) for rows in before)
        same = " and ".join(f"t.{key} = l.{key}" for key in (*keys, moment))
        # Of the winner's rows those go that came from the loser and are still as they came …
        await connection.execute(
            text(
                f"delete from {table} t using jsonb_populate_recordset(null::{table}, cast(:theirs as jsonb)) l "  # noqa: S608
                f"where t.contact_id = :winner and {same}"
            ),
            {"winner": winner, "theirs": msgspec.json.encode(theirs).decode()},
        )
        # … and what either had before comes again, unless something newer took its place or its segment is gone.
        there = "where b.segment_id in (select id from segment)" if table in _SIDE else ""
        await connection.execute(
            text(
                f"insert into {table} select b.* from jsonb_populate_recordset(null::{table}, "  # noqa: S608
                f"cast(:rows as jsonb)) b {there} on conflict do nothing"
            ),
            {"rows": msgspec.json.encode([*mine, *theirs]).decode()},
        )


# --- consents


async def consents(connection: AsyncConnection, contact_id: int) -> dict[Agreement, Stated]:
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


async def clear_consents(connection: AsyncConnection, contact_id: int) -> None:
    """Let nothing hold for a contact; its history stays."""
    await connection.execute(text("delete from consent where contact_id = :id"), {"id": contact_id})


async def set_consents(connection: AsyncConnection, contact_id: int, stated: Mapping[Agreement, Stated]) -> None:
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
