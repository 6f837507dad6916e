"""Letters to look at: rendered for a real contact, with links that lead nowhere, and never sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import templates
from channels.policy import Skip
from channels.rendering import Compiled, Links, render, scopes
from contacts import identities
from core.errors import InvalidInput, NotFound, Problem
from core.schema.contacts import IDENTITY_KINDS
from core.settings import Settings

NO_JOURNEY = {"name": "preview", "title": "Preview"}
"""What stands for the journey in a letter that belongs to none."""
_CONTACTS = text(
    "select c.id, c.language, c.time_zone, c.tags, c.attributes, o.name as company from contact c "
    "left join company o on o.id = c.company_id where c.id = any(:ids)"
)
_IDENTITIES = text(
    "select distinct on (contact_id, kind) contact_id, kind, value from identity where contact_id = any(:ids) "
    "order by contact_id, kind, created_at, value"
)


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
    number = await _number(connection, contact)
    values = (await values_of(connection, [number])).get(number)
    if values is None:
        raise NotFound(f"there is no contact {contact}")
    letter = render(Compiled(found.compiled), scopes(values, event, NO_JOURNEY) | dead_links(settings))
    if isinstance(letter, Skip):
        raise InvalidInput(Problem(f"this contact would get no message: {letter}", "give the value a default"))
    return Preview(letter.subject, letter.html, letter.text)


def event_of(given: str) -> dict[str, Any]:
    """Properties of an entry event as they are typed, a JSON object. Raises InvalidInput."""
    try:
        return msgspec.json.decode(given, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise InvalidInput(Problem(f"--event is no JSON object: {error}", "write it like '{\"total\": 12}'")) from error


def dead_links(settings: Settings) -> dict[str, Any]:
    """The links of no message, as long as those of one: no row of the ledger has this id, so whoever follows them
    changes nothing."""
    return Links(settings).context(UUID(int=0), datetime(2000, 1, 1, tzinfo=UTC))


async def values_of(connection: AsyncConnection, contacts: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What templates find of each contact, as it is now; contacts that do not exist are left out."""
    known: dict[int, dict[str, Any]] = {}
    for row in await connection.execute(_IDENTITIES, {"ids": list(contacts)}):
        known.setdefault(row.contact_id, {})[row.kind] = row.value
    rows = await connection.execute(_CONTACTS, {"ids": list(contacts)})
    return {row["id"]: {**row["attributes"], **known.get(row["id"], {}), **_own(row)} for row in rows.mappings()}


def _own(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "language", "time_zone", "tags", "company")}


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
