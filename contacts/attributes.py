"""The typed custom attributes that contacts carry: their names, types and values."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import Conflict, InvalidInput, Problem
from core.schema.contacts import ATTRIBUTE_TYPES, IDENTITY_KINDS

RESERVED = frozenset(
    {*IDENTITY_KINDS, "id", "language", "time_zone", "tags", "consents", "segments", "identities", "attributes"}
    | {"created_at", "updated_at", "company", "suppressed", "known", "identified_at", "last_active_at"}
)
"""Names that already mean something on a contact, in criteria and in templates."""

_NAME = re.compile(r"[^\W\d]\w{0,62}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?")
_LIST_LIMIT = 1000
_MENDS = {
    "text": 'write it in quotes, like "Moscow"',
    "number": "write it without quotes, like 12.5",
    "boolean": "write true or false",
    "date": 'write it like "2026-03-31"',
    "datetime": 'write it like "2026-03-31T10:00:00Z"',
    "list": 'write a list of texts, like ["a", "b"]',
}

Value = str | float | int | bool | list[str]


def check_name(name: str) -> None:
    """Refuse what cannot be an attribute's name.

    Raises:
        InvalidInput: it is reserved, longer than 63 characters, or not made of letters, digits and underscores.
    """
    if name in RESERVED:
        mend = "give it another name, or leave the value out of the attributes"
        raise InvalidInput(Problem(f"{name!r} already means something else on a contact", mend, path="attributes"))
    if not _NAME.fullmatch(name):
        mend = "begin with a letter and use letters, digits and _ only, 63 at most"
        raise InvalidInput(Problem(f"{name[:80]!r} cannot be an attribute's name", mend, path="attributes"))


def infer(value: object) -> str:
    """The type of a JSON value: text that looks like an ISO 8601 date or date and time is taken for one.

    Raises:
        InvalidInput: no attribute can hold it.
    """
    for kind in ("boolean", "number", "date", "datetime", "text", "list"):
        if _fits(kind, value) is not None:
            return kind
    raise InvalidInput(
        Problem("no attribute can hold this value", "use text, a number, true, false or a list of texts")
    )


def fit(kind: str, value: object) -> Value:
    """Bring a JSON value into the form that attributes of this type are kept in (datetimes in UTC).

    Raises:
        InvalidInput: it is of another type; the problem says which one was expected.
    """
    fitted = _fits(kind, value)
    if fitted is None:
        raise InvalidInput(Problem(f"expected a {kind}" if kind != "text" else "expected text", _MENDS[kind]))
    return fitted


def _fits(kind: str, value: object) -> Value | None:  # noqa: PLR0911 - one line a type
    match kind, value:
        case "boolean", bool():
            return value
        case "number", (int() | float()) if not isinstance(value, bool) and math.isfinite(value):
            return value if abs(value) < 1e300 else None
        case "text", str() if storable(value):
            return value
        case "date", str() if _DATE.fullmatch(value):
            return _parsed_date(value)
        case "datetime", str():
            return _parsed_datetime(value)
        case "list", list() if len(value) <= _LIST_LIMIT and all(isinstance(v, str) and storable(v) for v in value):
            return value
    return None


def storable(value: str) -> bool:
    """Whether PostgreSQL can keep this text: no NUL, no lone surrogates."""
    return (value.isascii() and "\0" not in value) or ("\0" not in value and not re.search("[\ud800-\udfff]", value))


def _parsed_date(value: str) -> str | None:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        return None


def _parsed_datetime(value: str) -> str | None:
    if not _DATETIME.fullmatch(value):
        return f"{day}T00:00:00Z" if _DATE.fullmatch(value) and (day := _parsed_date(value)) else None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return None


async def types(connection: AsyncConnection, names: Iterable[str] | None = None) -> dict[str, str]:
    """The types of the attributes that exist, of all or of those named."""
    query = "select name, type from attribute"
    if names is None:
        rows = await connection.execute(text(query))
    else:
        rows = await connection.execute(text(f"{query} where name = any(:names)"), {"names": list(names)})
    return {row.name: row.type for row in rows}


async def register(connection: AsyncConnection, wanted: Mapping[str, str], merging: str = "keep") -> dict[str, str]:
    """Make the attributes that do not exist yet; returns the types that hold, which others may have set before.

    `merging` is for new ones: what becomes of two values when contacts merge: `keep` the winner's, or `add` both up.
    """
    for name in wanted:
        check_name(name)
    known = await types(connection, wanted)
    new = sorted(set(wanted) - set(known))
    if not new:
        return known
    await connection.execute(
        text(
            "insert into attribute (name, type, merging) select *, :merging "
            "from unnest(cast(:names as text[]), cast(:types as text[])) on conflict do nothing"
        ),
        {"names": new, "types": [wanted[name] for name in new], "merging": merging},
    )
    return await types(connection, wanted)


async def add(
    connection: AsyncConnection, name: str, kind: str, label: str | None = None, merging: str | None = None
) -> None:
    """Make an attribute, or change the label of one that exists, or what becomes of it when contacts merge.

    Args:
        connection: an open transaction.
        name: of the attribute.
        kind: one of ATTRIBUTE_TYPES.
        label: what people see.
        merging: `keep` the winner's value, or `add` both up (numbers only); as it is, or `keep`, if left out.

    Raises:
        InvalidInput: the name or the type cannot be.
        Conflict: it exists with another type; contacts carry such values, so the type stays.
    """
    check_name(name)
    if kind not in ATTRIBUTE_TYPES:
        raise InvalidInput(Problem(f"there is no type {kind!r}", "one of " + ", ".join(ATTRIBUTE_TYPES)))
    if merging not in {None, "keep", "add"} or (merging == "add" and kind != "number"):
        raise InvalidInput(Problem("merging is keep, or add for numbers", path="merging"))
    row = await connection.execute(
        text(
            "insert into attribute (name, type, label, merging) "
            "values (:name, :type, :label, coalesce(:merging, 'keep')) on conflict (name) "
            "do update set label = coalesce(excluded.label, attribute.label), "
            "merging = coalesce(:merging, attribute.merging) returning type"
        ),
        {"name": name, "type": kind, "label": label, "merging": merging},
    )
    if (present := row.scalar_one()) != kind:
        raise Conflict(f"attribute {name} exists and is of type {present}")


async def listing(connection: AsyncConnection) -> list[dict[str, Any]]:
    """All attributes by name: name, type, label, merging, created_at."""
    rows = await connection.execute(text("select name, type, label, merging, created_at from attribute order by name"))
    return [dict(row) for row in rows.mappings()]
