"""Whose an identity is when two people say it: the rule that `identify`, writing profiles and importing share.

Two external ids are two people. So what is said of one of them is never written onto the other because they share an
address or a device: that stays whose it is, and a conflict is written down.
"""

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts.identities import Pair

Conflict = tuple[int, int, Pair]
"""A contact, the contact that has the identity, and the identity."""


def somebody_elses(
    said: Iterable[Pair], owners: Mapping[Pair, int], external_ids: Mapping[int, Collection[str]]
) -> dict[Pair, int]:
    """Those of one person's identities that belong to another person, with the contact that has them.

    Args:
        said: what one person is said to be known by; at most one external id.
        owners: whose those of the identities are that somebody has.
        external_ids: those that the owners have.
    """
    said = list(said)
    own = next((value for kind, value in said if kind == "external_id"), None)
    if own is None:
        return {}
    owned = ((pair, owners[pair]) for pair in said if pair in owners)
    return {pair: owner for pair, owner in owned if (held := external_ids.get(owner)) and own not in held}


async def lock(connection: AsyncConnection, contact_ids: Collection[int]) -> None:
    """Let nobody else who goes by the rule give these contacts an external id until the transaction ends."""
    await connection.execute(
        text("select from contact where id = any(:ids) order by id for no key update"), {"ids": sorted(contact_ids)}
    )


async def external_ids(connection: AsyncConnection, contact_ids: Collection[int]) -> dict[int, set[str]]:
    """The external ids of those of the contacts that have any."""
    found: dict[int, set[str]] = {}
    if contact_ids:
        rows = await connection.execute(
            text("select contact_id, value from identity where contact_id = any(:ids) and kind = 'external_id'"),
            {"ids": sorted(contact_ids)},
        )
        for row in rows:
            found.setdefault(row.contact_id, set()).add(row.value)
    return found


async def note_conflicts(connection: AsyncConnection, conflicts: Iterable[Conflict], source: str) -> None:
    """Write down that contacts were said to be known by what others are known by; once each."""
    noted = sorted(set(conflicts))
    if noted:
        await connection.execute(
            text(
                "insert into identity_conflict (contact_id, owner_id, kind, value, source) select n.*, :source from "
                "unnest(cast(:contacts as bigint[]), cast(:owners as bigint[]), cast(:kinds as text[]), "
                "cast(:values as text[])) n on conflict do nothing"
            ),
            {
                "source": source,
                "contacts": [contact for contact, _, _ in noted],
                "owners": [owner for _, owner, _ in noted],
                "kinds": [kind for _, _, (kind, _) in noted],
                "values": [value for _, _, (_, value) in noted],
            },
        )
