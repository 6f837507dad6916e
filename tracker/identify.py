"""Connecting a visitor with who he says to be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts.attributes import types
from contacts.identifying import Identified, Rules, identify
from contacts.identities import Pair
from contacts.profiles import Limits, apply
from core.database import Database
from core.errors import InvalidInput, Problem
from core.settings import Settings

_ATTEMPTS = 5
_RETRIED = {"40P01", "40001", "23505"}


@dataclass(frozen=True)
class Met:
    """Who a visitor is, and what was wrong with the attributes that came along."""

    who: Identified
    problems: tuple[Problem, ...] = ()


async def connect(
    database: Database,
    device: str | None,
    said: Mapping[str, str],
    attributes: Mapping[str, Any],
    source: str,
    settings: Settings,
) -> Met:
    """Let the rules for identities decide, in a transaction of its own. Doing it again changes nothing.

    A page is not trusted: anybody can write anything there. So it adds no address to somebody who is known, and of
    attributes only those that exist here and that the contact has no value of.

    Args:
        database: for a transaction of its own.
        device: the anonymous id that the browser keeps; None if it keeps none.
        said: external_id, email and phone, as far as they are known.
        attributes: of the contact.
        source: who says so, for the record.
        settings: the rules.

    Raises:
        InvalidInput: what was said cannot be.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with database.begin() as connection:
                who = await identify(
                    connection,
                    device,
                    said,
                    rules=Rules.of(settings),
                    trusted=False,
                    source=source,
                    limits=Limits.of(settings),
                    region=settings.phone_region,
                )
                return Met(who, await _complete(connection, who.contact_id, attributes, Limits.of(settings)))
        except (DBAPIError, psycopg.Error) as error:
            original = error.orig if isinstance(error, DBAPIError) else error
            if attempt == _ATTEMPTS or getattr(original, "sqlstate", None) not in _RETRIED:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _complete(
    connection: AsyncConnection, contact_id: int, given: Mapping[str, Any], limits: Limits
) -> tuple[Problem, ...]:
    """Give a contact those attributes that it has no value of; what is wrong with others."""
    if not given:
        return ()
    known = await types(connection, given)
    mend = "make it: kaskad attribute add"
    problems = [
        Problem("there is no such attribute here", mend, path=f"ident.attributes.{name[:100]}")
        for name in given
        if name not in known
    ]
    held = await connection.execute(
        text("select attributes from contact where id = :id for no key update"), {"id": contact_id}
    )
    present = held.scalar_one()
    missing = {name: given[name] for name in known if name not in present and given[name] is not None}
    try:
        async with connection.begin_nested():
            if missing and await apply(connection, [contact_id], missing, limits=limits):
                problems.append(Problem("the contact would have more attributes than allowed", path="ident.attributes"))
    except InvalidInput as error:
        problems += [Problem(one.message, one.mend, path=f"ident.{one.path}") for one in error.problems]
    return tuple(problems)


def known_as(said: Mapping[str, str], who: Identified) -> Pair | None:
    """An identity by which the contact is found, when the device's own is none of it."""
    left_out = {*who.conflicts, *who.withheld}
    return next((pair for pair in said.items() if pair not in left_out), None)
