"""Letters to look at: rendered for a real contact, with links that lead nowhere, and never sent."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import templates
from channels.policy import Skip
from channels.rendering import Compiled, Links, render, scopes
from contacts import identities
from core.errors import InvalidInput, NotFound, Problem
from core.schema.contacts import IDENTITY_KINDS
from core.settings import Settings


@dataclass(frozen=True)
class Preview:
    """A letter as the contact would get it."""

    subject: str
    html: str
    text: str


async def preview(
    connection: AsyncConnection, settings: Settings, template: str, contact: str, event: dict[str, Any]
) -> Preview:
    """Render a template for a contact.

    Args:
        connection: an open transaction.
        settings: of the installation.
        template: its name.
        contact: a number, or kind:value of an identity.
        event: properties of the entry event.

    Raises:
        NotFound: no such template or contact.
        InvalidInput: the letter cannot be rendered; says which value is missing.
    """
    found = await templates.find(connection, template)
    values = await _contact(connection, contact)
    # No row of the ledger has this id, so whoever follows the links changes nothing.
    links = Links(settings).context(UUID(int=0), datetime(2000, 1, 1, tzinfo=UTC))
    journey = {"name": "preview", "title": "Preview"}
    letter = render(Compiled(found.compiled), scopes(values, event, journey) | links)
    if isinstance(letter, Skip):
        raise InvalidInput(Problem(f"this contact would get no message: {letter}", "give the value a default"))
    return Preview(letter.subject, letter.html, letter.text)


async def _contact(connection: AsyncConnection, given: str) -> dict[str, Any]:
    number = await _number(connection, given)
    rows = await connection.execute(
        text(
            "select c.id, c.language, c.time_zone, c.tags, c.attributes, o.name as company from contact c "
            "left join company o on o.id = c.company_id where c.id = :id"
        ),
        {"id": number},
    )
    row = rows.mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no contact {given}")
    known = await connection.execute(
        text(
            "select distinct on (kind) kind, value from identity where contact_id = :id "
            "order by kind, created_at, value"
        ),
        {"id": number},
    )
    own = {name: row[name] for name in ("id", "language", "time_zone", "tags", "company")}
    return {**row["attributes"], **{row.kind: row.value for row in known}, **own}


async def _number(connection: AsyncConnection, given: str) -> int:
    if given.isdecimal() and len(given) < 19:
        return int(given)
    kind, _, value = given.partition(":")
    if kind not in IDENTITY_KINDS or not value:
        raise InvalidInput(Problem(f"{given!r} names no contact", "give a number, or email:anna@example.com"))
    pair = (kind, identities.normalise(kind, value))
    found = await identities.lookup(connection, [pair])
    if pair not in found:
        raise NotFound(f"there is no contact {given}")
    return found[pair]
