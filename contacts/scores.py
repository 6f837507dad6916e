"""Numbers on contacts that count up and down."""

from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import attributes, identities

_ADD = text(
    """
    with person as (
        select c.id, c.attributes, n.times from contact c
        join unnest(cast(:ids as bigint[]), cast(:times as int[])) as n (id, times) on n.id = c.id
        order by c.id for no key update of c
    )
    update contact c set updated_at = now(), attributes = person.attributes || jsonb_build_object(
        cast(:name as text),
        person.times * cast(:amount as numeric)
        + case when jsonb_typeof(person.attributes -> :name) = 'number'
            then cast(person.attributes ->> :name as numeric) else 0 end
    )
    from person where c.id = person.id
    """
)


async def add(connection: AsyncConnection, contact_ids: Sequence[int], amounts: Mapping[str, float]) -> None:
    """Add to number attributes of contacts; a missing one counts as 0, and whoever is named twice gets it twice.

    This is no change that may be repeated: the caller sees to it that it happens once.

    Args:
        connection: an open transaction.
        contact_ids: whose; those who do not exist any more are passed over.
        amounts: attribute to what is added, which may be negative.

    Raises:
        InvalidInput: an attribute cannot be called so.
    """
    if not contact_ids:
        return
    await identities.hold_off_erasure(connection)
    await attributes.register(connection, dict.fromkeys(amounts, "number"), merging="add")
    times = Counter(contact_ids)
    ids = sorted(times)
    for name, amount in sorted(amounts.items()):
        values = {"ids": ids, "times": [times[one] for one in ids], "name": name, "amount": amount}
        await connection.execute(_ADD, values)
