"""The SQL that criteria become, for people who want to see it."""

from typing import Any

import msgspec
from sqlalchemy import ARRAY, select
from sqlalchemy.dialects.postgresql import JSONB, psycopg
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

from core.schema.contacts import contact
from segments import criteria as language
from segments.resolving import resolve


async def sql(connection: AsyncConnection, criteria: language.Criteria | None) -> dict[str, Any]:
    """The question who meets criteria; everybody if None.

    Returns:
        `sql`, as psycopg takes it, with `%(name)s` where a value goes, and `parameters`, the values by name: what
        people wrote is only ever there.
    """
    statement = select(contact.c.id).order_by(contact.c.id)
    if criteria is not None:
        statement = statement.where((await resolve(connection, criteria)).clause())
    compiled = statement.compile(
        dialect=psycopg.dialect(),  # type: ignore[no-untyped-call]
        compile_kwargs={"render_postcompile": True},  # each value of a list has a name of its own
    )
    return {"sql": str(compiled), "parameters": _written(compiled)}


def _written(compiled: SQLCompiler) -> dict[str, Any]:
    """The values as SQL takes them: JSON as its text."""
    kinds = {key: bind.type for key, bind in compiled.binds.items()}
    return {key: _value(value, kinds.get(key)) for key, value in (compiled.params or {}).items()}


def _value(value: Any, kind: Any) -> Any:
    if isinstance(kind, JSONB):
        return "null" if value is JSONB.NULL else msgspec.json.encode(value).decode()
    if isinstance(kind, ARRAY) and isinstance(kind.item_type, JSONB):
        return [_value(one, kind.item_type) for one in value]
    return value
