"""The SQL that criteria become, for people who want to see it."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from core.schema.contacts import contact
from segments import criteria as language
from segments.resolving import resolve


async def sql(connection: AsyncConnection, criteria: language.Criteria) -> dict[str, Any]:
    """The question who meets criteria.

    Returns:
        `sql`, with `%(name)s` where a value goes, and `parameters`, the values by name: what people wrote is only
        ever there.
    """
    clause = (await resolve(connection, criteria)).clause()
    statement = select(contact.c.id).where(clause).order_by(contact.c.id)
    compiled = statement.compile(dialect=postgresql.dialect(paramstyle="pyformat"))  # type: ignore[no-untyped-call]
    return {"sql": str(compiled), "parameters": dict(compiled.params)}
