"""What contacts are known by: writing identities one way, and finding or making the contacts behind them."""

import asyncio
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec
import phonenumbers
from psycopg import AsyncCursor
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database import Direct, array, driver
from core.errors import Conflict, InvalidInput, NotFound, Problem
from core.schema.contacts import IDENTITY_KINDS

DEFAULT_REGION = "RU"
LENGTH_LIMITS = {"anonymous_id": 200, "external_id": 200, "email": 254, "phone": 40, "push_endpoint": 2000}
"""Characters an identity may have. PostgreSQL refuses index entries over 2,700 bytes, hence the last one."""

KNOWN_KINDS = ("external_id", "email", "phone")
"""Kinds by which somebody is known by name, from the one that says most; the others are marks of a device."""

DAILY_MARK = "~"
"""What the anonymous ids of visitors begin with who agreed to no storage: a hash of the day, which they share with
whoever has the same browser behind the same address."""

_ERASURE_LOCK = 0x65726173  # "eras"
_TRIES, _PAUSE = 100, 0.05
"""How often, and with how many seconds between, writers are let pass before they have to wait."""
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?=.{{1,254}}$)(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_LABEL}")
_OPAQUE = frozenset({"anonymous_id", "external_id", "push_endpoint"})
_PLAIN = re.compile(r"[!-~]{1,200}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Pair = tuple[str, str]


def normalise(kind: str, value: str, region: str = DEFAULT_REGION) -> str:
    """Write an identity in the one form that the database keeps.

    Emails (the dot-atom form of RFC 5321, section 4.1.2) lose surrounding space and capitals, and international
    domains become ASCII (IDNA). Phones become E.164; those without a leading + are read as in `region` (ISO 3166).
    The other kinds are only trimmed.

    Raises:
        InvalidInput: the kind is unknown, or the value cannot be one of it.
    """
    if isinstance(value, str):  # what nearly all are; an import asks millions of times
        if kind == "email" and _EMAIL.fullmatch(value):
            return value.lower()
        if kind in _OPAQUE and _PLAIN.fullmatch(value):
            return value
    reason = _unfit(kind, value)
    if reason is None:
        value = value.strip()
        if kind == "email":
            return _email(value)
        if kind == "phone":
            return _phone(value, region)
        return value
    raise InvalidInput(reason)


def _unfit(kind: str, value: object) -> Problem | None:
    """What is wrong with an identity of any kind, if something is."""
    limit = LENGTH_LIMITS.get(kind)
    if limit is None:
        return Problem(f"there is no identity {kind!r}", "one of " + ", ".join(IDENTITY_KINDS))
    if not isinstance(value, str):
        return Problem(f"{kind} must be text", path=kind)
    if not value.strip():
        return Problem(f"{kind} is empty", "leave it out, or give it a value", path=kind)
    if len(value.strip()) > limit or len(value.encode("utf-8", "surrogatepass")) > 2600:
        return Problem(f"{kind} is longer than {limit} characters", path=kind)
    if _CONTROL.search(value.strip()) or (not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value)):
        return Problem(f"{kind} contains a control character", "remove it", path=kind)
    return None


def _email(value: str) -> str:
    local, _, domain = value.rpartition("@")
    try:
        written = f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError:
        written = ""
    if _EMAIL.fullmatch(written):
        return written.lower()
    raise InvalidInput(Problem("this is not an email address", "write it like anna@example.com", path="email"))


def _phone(value: str, region: str) -> str:
    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not phonenumbers.is_possible_number(number):
        mend = "write it with its country, like +79161234567"
        raise InvalidInput(Problem("this is not a phone number", mend, path="phone"))
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


async def hold_off_erasure(connection: AsyncConnection | Direct) -> None:
    """From here to the end of the transaction no contact is erased, so what is written about one cannot outlive it.

    Whoever finds contacts and then writes about them calls it first (`resolve` and `upsert` do). Any number may
    hold it at once.
    """
    raw = await driver(connection)
    await raw.execute("select pg_advisory_xact_lock_shared(%s::bigint)", (_ERASURE_LOCK,))


async def await_writers(connection: AsyncConnection) -> None:
    """Wait for everyone in `hold_off_erasure` and keep newcomers waiting until the transaction ends.

    Who waits for a lock is waited for by all who come later. So for some seconds it is only asked for again and again:
    one long transaction, such as a chunk of an import, would otherwise hold up everybody who writes.
    """
    for _ in range(_TRIES):
        got = await connection.execute(text("select pg_try_advisory_xact_lock(:lock)"), {"lock": _ERASURE_LOCK})
        if got.scalar_one():
            return
        await asyncio.sleep(_PAUSE)
    await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _ERASURE_LOCK})


async def lookup(connection: AsyncConnection | Direct, identities: Sequence[Pair]) -> dict[Pair, int]:
    """The contacts behind those of the (kind, value) pairs that are known. One statement for each kind."""
    raw = await driver(connection)
    by_kind: dict[str, list[str]] = {}
    for kind, value in identities:
        by_kind.setdefault(kind, []).append(value)
    found: dict[Pair, int] = {}
    for kind, values in by_kind.items():
        cursor = await raw.execute(_FIND, (kind, array(values)), binary=True)
        found.update({(kind, value): contact_id for value, contact_id in await cursor.fetchall()})
    return found


async def ask(connection: AsyncConnection | Direct, identities: Sequence[Pair]) -> "Answer":
    """Send the question which contacts are behind (kind, value) pairs, in one statement; on a pipeline it can wait.

    Asked without `hold_off_erasure` before it, the answer may be of the past.
    """
    raw = await driver(connection)
    kinds, values = array([kind for kind, _ in identities]), array([value for _, value in identities])
    return Answer(await raw.execute(_ASK, (kinds, values)))


class Answer:
    """What `ask` will find."""

    def __init__(self, cursor: AsyncCursor[tuple[Any, ...]]) -> None:
        self._cursor = cursor

    async def contacts(self) -> list[int | None]:
        """The contact behind each pair, in the order of the question; None where nobody is known by it."""
        ((found,),) = await self._cursor.fetchall()
        return list(_numbers.decode(found))


_numbers = msgspec.json.Decoder(list[int | None])

# As one JSON text the answer costs this process a tenth of what rows would. A subquery for each pair, since its plan
# is the index whatever the planner thinks of the array.
_ASK = """
select array_to_json(array(
    select (select contact_id from identity where kind = given.kind and value = given.value)
    from unnest(%s::text[], %s::text[]) as given (kind, value)
))::text
"""

_FIND = "select value, contact_id from identity where kind = %s and value = any(%s::text[])"

# The foreign key is checked when the statement ends, so identities may come first and only the ones that won
# get a contact: nobody who loses a race leaves an orphan. Everyone inserts in the same order: no deadlock.
_MAKE = """
with candidate as materialized (
    select kind, value, nextval((select pg_get_serial_sequence('contact', 'id')::regclass)) as id
    from unnest(%s::text[], %s::text[]) as given (kind, value)
), won as (
    insert into identity (kind, value, contact_id) select kind, value, id from candidate
    on conflict do nothing returning kind, value, contact_id
), made as (
    insert into contact (id) select contact_id from won
)
select kind, value, contact_id from won
"""


async def resolve(connection: AsyncConnection | Direct, identities: Sequence[Pair]) -> list[int]:
    """Find the contact behind each (kind, value), making one for each identity nobody has had before.

    Args:
        identities: pairs, each value as `normalise` writes it; they may repeat.

    Returns:
        Contact ids in the order given. Nobody is erased until the transaction ends. Call it once a transaction:
        two calls that make contacts can deadlock with two others, which PostgreSQL ends with an error.

    Raises:
        InvalidInput: an anonymous id belonged to somebody who was erased.
    """
    await hold_off_erasure(connection)
    found = await complete(connection, identities, await (await ask(connection, identities)).contacts())
    if None in found:
        raise InvalidInput(Problem("this anonymous id belonged to a contact who was erased", "begin with a new one"))
    return cast("list[int]", found)


async def complete(
    connection: AsyncConnection | Direct, identities: Sequence[Pair], contacts: Sequence[int | None]
) -> list[int | None]:
    """The second half of `resolve`: make contacts for the pairs that `ask` found none behind.

    Anonymous ids of people who were erased stay without one: nothing may come in under them any more.
    """
    if None not in contacts:
        return list(contacts)
    found: dict[Pair, int] = {}
    unknown = {pair for pair, contact in zip(identities, contacts, strict=True) if contact is None}
    raw = await driver(connection)
    unknown -= await erased(connection, unknown)
    while missing := sorted(unknown - found.keys()):
        kinds, values = array([kind for kind, _ in missing]), array([value for _, value in missing])
        cursor = await raw.execute(_MAKE, (kinds, values))
        found.update({(kind, value): contact_id for kind, value, contact_id in await cursor.fetchall()})
        # Those that another transaction made in between are visible to the next statement.
        found.update(await lookup(connection, [pair for pair in missing if pair not in found]))
    return [found.get(pair) if contact is None else contact for pair, contact in zip(identities, contacts, strict=True)]


def digest(pair: Pair) -> bytes:
    """What is kept of an identity whose contact was erased."""
    kind, value = pair
    return hashlib.sha256(f"{kind}\0{value}".encode()).digest()


async def erased(connection: AsyncConnection | Direct, identities: Iterable[Pair]) -> set[Pair]:
    """Those of the (kind, value) pairs that are anonymous ids of people who were erased."""
    digests = {digest(pair): pair for pair in identities if pair[0] == "anonymous_id"}
    if not digests:
        return set()
    raw = await driver(connection)
    cursor = await raw.execute("select digest from erased_identity where digest = any(%s)", (list(digests),))
    return {digests[bytes(found)] for (found,) in await cursor.fetchall()}


async def attach(connection: AsyncConnection, contact_id: int, kind: str, value: str) -> None:
    """Let a contact be known by one more (normalised) identity. Doing it again changes nothing.

    Raises:
        NotFound: there is no such contact.
        Conflict: another contact is known by it.
    """
    await hold_off_erasure(connection)
    added = await connection.execute(
        text(
            "insert into identity (kind, value, contact_id) select :kind, :value, id from contact where id = :contact "
            "on conflict do nothing"
        ),
        {"kind": kind, "value": value, "contact": contact_id},
    )
    if added.rowcount:
        return
    owner = (await lookup(connection, [(kind, value)])).get((kind, value))
    if owner is None:
        raise NotFound(f"there is no contact {contact_id}")
    if owner != contact_id:
        raise Conflict(f"this {kind} belongs to another contact ({owner})")


async def of(connection: AsyncConnection, contact_id: int) -> list[dict[str, Any]]:
    """What a contact is known by: kind, value and created_at of each identity, oldest first."""
    rows = await connection.execute(
        text("select kind, value, created_at from identity where contact_id = :id order by created_at, kind, value"),
        {"id": contact_id},
    )
    return [dict(row) for row in rows.mappings()]
