"""Writing the same on many contacts."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import attributes
from contacts.profiles.items import Limits, check_tag
from core.errors import InvalidInput, Problem

_APPLY = text(
    """
    with person as (
        select id, attributes, tags from contact where id = any(:ids) order by id for no key update
    ), wanted as (
        select id, (attributes || cast(:set as jsonb)) - cast(:unset as text[]) as attributes,
            array(select tag from unnest(tags || cast(:add as text[])) with ordinality as t (tag, place)
                  where tag <> all(cast(:remove as text[])) group by tag order by min(place)) as tags
        from person
    ), fitting as (
        select * from wanted
        where octet_length(attributes::text) <= :bytes and cardinality(tags) <= :tag_limit
          and (select count(*) from jsonb_object_keys(attributes)) <= :attribute_limit
    ), written as (
        update contact c set attributes = f.attributes, tags = f.tags, updated_at = now() from fitting f
        where c.id = f.id and (c.attributes, c.tags) is distinct from (f.attributes, f.tags)
    )
    select id from wanted except select id from fitting
    """
)


async def apply(
    connection: AsyncConnection,
    contact_ids: Sequence[int],
    attributes_: Mapping[str, Any],
    add_tags: Sequence[str] = (),
    remove_tags: Sequence[str] = (),
    limits: Limits | None = None,
) -> set[int]:
    """Write the same attributes (None removes one) and tags on many contacts: the `update` step of a journey.

    Doing it again changes nothing. Contacts that do not exist any more are passed over.

    Returns:
        Those contacts for whom it would exceed the limits; they are left as they were.

    Raises:
        InvalidInput: a value does not fit its attribute's type, or a tag cannot be.
    """
    limits = limits or Limits()
    values = await _checked(connection, attributes_)
    refused = await connection.execute(
        _APPLY,
        {
            "ids": list(contact_ids),
            "set": msgspec.json.encode({n: v for n, v in values.items() if v is not None}).decode(),
            "unset": [name for name, value in values.items() if value is None],
            "add": [check_tag(tag) for tag in add_tags],
            "remove": [check_tag(tag) for tag in remove_tags],
            "bytes": limits.bytes,
            "tag_limit": limits.tags,
            "attribute_limit": limits.attributes,
        },
    )
    return set(refused.scalars())


async def _checked(connection: AsyncConnection, given: Mapping[str, Any]) -> dict[str, attributes.Value | None]:
    """Attributes of one update fitted to their types; new names are registered."""
    problems: list[Problem] = []
    wanted = {}
    for name, value in given.items():
        try:
            attributes.check_name(name)
            if value is not None:
                wanted[name] = attributes.infer(value)
        except InvalidInput as error:
            problems += [Problem(p.message, p.mend, path=f"attributes.{name}") for p in error.problems]
    if problems:
        raise InvalidInput(*problems)
    types = await attributes.register(connection, wanted) if wanted else {}
    checked: dict[str, attributes.Value | None] = {}
    for name, value in given.items():
        try:
            checked[name] = None if value is None else attributes.fit(types[name], value)
        except InvalidInput as error:
            problems += [Problem(p.message, p.mend, path=f"attributes.{name}") for p in error.problems]
    if problems:
        raise InvalidInput(*problems)
    return checked
