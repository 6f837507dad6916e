"""Connecting a visitor with who he says to be, and the signature by which a site's server vouches for that.

What is signed is the kinds that `identify` names, in the order external_id, email, phone and joined by commas, then the
values, each on a line of its own: `external_id,email\nu-17\nanna@example.com`, in UTF-8. The signature is HMAC-SHA256
(RFC 2104) of it, keyed with the site's secret, in hexadecimal.
"""

import hashlib
import hmac
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
from tracker.hits import IDENTITIES, Ident
from tracker.sites import Site

_ATTEMPTS = 5
_RETRIED = {"40P01", "40001", "23505"}


@dataclass(frozen=True)
class Met:
    """Who a visitor is, and what was wrong with the attributes that came along."""

    who: Identified
    problems: tuple[Problem, ...] = ()


def sign(secret: str, said: Mapping[str, str]) -> str:
    """The signature for who a visitor is: what a site's server gives to its page.

    Args:
        secret: the site's; `kaskad site secret NAME` prints it.
        said: external_id, email and phone, exactly as the page will say them.
    """
    kinds = [kind for kind in IDENTITIES if kind in said]
    signed = "\n".join([",".join(kinds), *(said[kind] for kind in kinds)])
    return hmac.new(secret.encode(), signed.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def is_vouched(site: Site, ident: Ident) -> bool:
    """Whether the site's server vouches for what a page says, or the page says it on its own, on a site where it may.

    Raises:
        InvalidInput: the signature is not the site's, or there is none and the site takes no page's word.
    """
    said = {kind: value for kind in IDENTITIES if (value := getattr(ident, kind)) is not None}
    if ident.signature is None:
        if site.identify == "open":
            return False
        mend = f"sign it on your server: kaskad site secret {site.name}; or kaskad site set {site.name} --identify open"
        raise InvalidInput(Problem("this site takes nobody's word without a signature", mend, path="ident.signature"))
    # With a line break in it, a value could be read as two.
    if any("\n" in value for value in said.values()) or not hmac.compare_digest(
        sign(site.secret, said).encode(), ident.signature.encode(errors="surrogatepass")
    ):
        mend = "sign exactly what the page says, with this site's secret"
        raise InvalidInput(Problem("the signature is not that of these identities", mend, path="ident.signature"))
    return True


async def connect(
    database: Database,
    device: str | None,
    said: Mapping[str, str],
    attributes: Mapping[str, Any],
    source: str,
    settings: Settings,
    *,
    trusted: bool,
) -> Met:
    """Let the rules for identities decide, in a transaction of its own. Doing it again changes nothing.

    Attributes are signed by nobody, and anybody can write anything into a page. So of them it adds only those that
    exist here and that the contact has no value of.

    Args:
        database: for a transaction of its own.
        device: the anonymous id that the browser keeps; None if it keeps none.
        said: external_id, email and phone, as far as they are known.
        attributes: of the contact.
        source: who says so, for the record.
        settings: the rules.
        trusted: whether the site's server vouches for it.

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
                    trusted=trusted,
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
