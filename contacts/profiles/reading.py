"""Finding contacts and showing what is known about them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import consents, identities
from core.errors import InvalidInput, NotFound, Problem
from core.schema.contacts import IDENTITY_KINDS


@dataclass(frozen=True)
class Profile:
    """All there is to show of one contact, save its timeline."""

    id: int
    created_at: datetime
    updated_at: datetime
    language: str | None
    time_zone: str | None
    tags: list[str]
    attributes: dict[str, Any]
    identities: list[dict[str, Any]]
    consents: list[dict[str, Any]]
    company: str | None = None
    """The key of its company."""


async def get(connection: AsyncConnection, contact_id: int) -> Profile:
    """One contact with its identities and what it agreed to.

    Raises:
        NotFound: there is none with this id.
    """
    rows = await connection.execute(
        text(
            "select c.id, c.created_at, c.updated_at, c.language, c.time_zone, c.tags, c.attributes, o.key as company "
            "from contact c left join company o on o.id = c.company_id where c.id = :id"
        ),
        {"id": contact_id},
    )
    row = rows.mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no contact {contact_id}")
    known_by = await identities.of(connection, contact_id)
    return Profile(**row, identities=known_by, consents=await consents.of(connection, contact_id))


async def find(connection: AsyncConnection, reference: str, region: str = identities.DEFAULT_REGION) -> int:
    """The contact meant by `42` or by `email:anna@example.com`, `external_id:7` and so on.

    The number of a contact that was merged means the one it was merged into.

    Raises:
        InvalidInput: the reference is neither.
        NotFound: nobody is known by it.
    """
    if reference.isascii() and reference.isdigit() and len(reference) < 19:
        number = int(reference)
        merged = await connection.execute(
            text("select now_id from contact_merge where loser_id = :id and undone_at is null"), {"id": number}
        )
        return int(merged.scalar() or number)
    kind, colon, value = reference.partition(":")
    if not colon:
        kinds = ", ".join(IDENTITY_KINDS)
        raise InvalidInput(Problem(f"{reference[:80]!r} is no contact", f"a number, or kind:value with one of {kinds}"))
    pair = (kind, identities.normalise(kind, value, region))
    found = (await identities.lookup(connection, [pair])).get(pair)
    if found is None:
        raise NotFound(f"nobody is known by this {kind}")
    return found


async def page(connection: AsyncConnection, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
    """Contacts in the order of their ids, from the first one after `after`, each with its identities."""
    rows = await connection.execute(
        text(
            "select c.id, c.created_at, c.updated_at, c.language, c.time_zone, c.tags, c.attributes, "
            "(select o.key from company o where o.id = c.company_id) as company, coalesce((select "
            "jsonb_agg(jsonb_build_object('kind', i.kind, 'value', i.value, 'created_at', i.created_at) order by "
            "i.created_at, i.kind) from identity i where i.contact_id = c.id), '[]') as identities "
            "from contact c where c.id > :after order by c.id limit :limit"
        ),
        {"after": after, "limit": limit},
    )
    return [dict(row) for row in rows.mappings()]
