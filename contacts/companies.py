"""Companies that contacts belong to: written by their key, assigned to contacts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import attributes, identities
from core.errors import InvalidInput, NotFound, Problem

KEY_LIMIT = 200
ATTRIBUTES_LIMIT = 200
BYTES_LIMIT = 32_768


@dataclass(frozen=True)
class Company:
    """What is said about a company. What is left out stays as it is; an attribute that is None is removed."""

    key: str
    name: str | None = None
    """The key, for a company that is new and has no name."""
    attributes: Mapping[str, Any] = field(default_factory=dict)


def check_key(value: str) -> str:
    """A company's key, trimmed and in lower case: a domain, or its number in the CRM.

    Raises:
        InvalidInput: it is empty, too long, or holds characters that cannot be seen.
    """
    key = value.strip().lower()
    if not 0 < len(key) <= KEY_LIMIT or not key.isprintable() or not attributes.storable(key):
        mend = f"1 to {KEY_LIMIT} characters that can be seen, like acme.com"
        raise InvalidInput(Problem(f"{value[:60]!r} cannot be the key of a company", mend, path="company"))
    return key


# One company a statement: they are few, and each says what was wrong with it.
_UPSERT = text(
    """
    insert into company as c (key, name, attributes)
    values (:key, coalesce(:name, :key), jsonb_strip_nulls(cast(:attributes as jsonb)))
    on conflict (key) do update set name = coalesce(:name, c.name), changed_at = now(),
        attributes = jsonb_strip_nulls(c.attributes || cast(:attributes as jsonb))
    returning id, octet_length(attributes::text) <= :bytes
        and (select count(*) from jsonb_object_keys(attributes)) <= :names as fits
    """
)


async def upsert(connection: AsyncConnection, company: Company) -> int:
    """Make a company or change it; gives its id.

    Raises:
        InvalidInput: the key, the name or an attribute cannot be, or there are too many attributes.
    """
    key = check_key(company.key)
    name = None if company.name is None else company.name.strip()
    if name is not None and (not 0 < len(name) <= KEY_LIMIT or not attributes.storable(name)):
        raise InvalidInput(Problem("this cannot be the name of a company", f"1 to {KEY_LIMIT} characters", path="name"))
    for one, value in company.attributes.items():
        attributes.check_name(one)
        if value is not None:
            attributes.infer(value)
    row = (
        await connection.execute(
            _UPSERT,
            {
                "key": key,
                "name": name,
                "attributes": msgspec.json.encode(dict(company.attributes)).decode(),
                "bytes": BYTES_LIMIT,
                "names": ATTRIBUTES_LIMIT,
            },
        )
    ).one()
    if not row.fits:
        mend = f"{ATTRIBUTES_LIMIT} attributes and {BYTES_LIMIT} bytes at most"
        raise InvalidInput(Problem("a company carries too many attributes", mend, path="attributes"))
    return int(row.id)


async def ensure(connection: AsyncConnection, names: Mapping[str, str]) -> dict[str, int]:
    """The ids of companies by (checked) key; those that do not exist yet are made, with these names."""
    wanted = sorted(names)
    await connection.execute(
        text(
            "insert into company (key, name) select n.key, n.name "
            "from unnest(cast(:keys as text[]), cast(:names as text[])) as n (key, name) "
            "where not exists (select from company c where c.key = n.key) on conflict do nothing"
        ),
        {"keys": wanted, "names": [names[key] for key in wanted]},
    )
    rows = await connection.execute(text("select key, id from company where key = any(:keys)"), {"keys": wanted})
    return {row.key: row.id for row in rows}


async def assign(connection: AsyncConnection, members: Mapping[int, str | None]) -> None:
    """Say which company contacts belong to, by its key; None takes them out.

    A company that is new is made, and named as it is written here: `Acme Ltd` has the key `acme ltd`.

    Contacts who do not exist any more are passed over.

    Raises:
        InvalidInput: a key cannot be.
    """
    if not members:
        return
    keys = {contact: None if key is None else check_key(key) for contact, key in members.items()}
    await identities.hold_off_erasure(connection)
    ids = await ensure(connection, {check_key(written): written.strip() for written in members.values() if written})
    ordered = sorted(keys)
    await connection.execute(
        text(
            """
            with person as (
                select c.id, n.company_id from contact c
                join unnest(cast(:contacts as bigint[]), cast(:companies as bigint[])) as n (id, company_id)
                    on n.id = c.id
                where c.company_id is distinct from n.company_id order by c.id for no key update of c
            )
            update contact c set company_id = person.company_id, updated_at = now() from person where c.id = person.id
            """
        ),
        {"contacts": ordered, "companies": [None if (key := keys[one]) is None else ids[key] for one in ordered]},
    )


async def listing(connection: AsyncConnection, after: str, limit: int) -> list[dict[str, Any]]:
    """A page of companies in the order of their keys: key, name, attributes, contacts (how many), created_at."""
    rows = await connection.execute(
        text(
            "select key, name, attributes, created_at, changed_at, "
            "(select count(*) from contact where company_id = company.id) as contacts "
            "from company where key > :after order by key limit :limit"
        ),
        {"after": after, "limit": limit},
    )
    return [dict(row) for row in rows.mappings()]


async def remove(connection: AsyncConnection, key: str) -> None:
    """Remove a company; its contacts stay, without one.

    Raises:
        NotFound: there is no such company.
    """
    done = await connection.execute(text("delete from company where key = :key"), {"key": key.strip().lower()})
    if not done.rowcount:
        raise NotFound(f"there is no company {key}")
