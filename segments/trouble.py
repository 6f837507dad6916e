"""Segments that cannot be asked about: they are left alone for a while, so that the others go on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import InvalidInput

log = structlog.get_logger()

REST = timedelta(minutes=10)
_NOT_ITS_FAULT = ("08", "25", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that say nothing about the statement: lost connections, deadlocks, shutdowns (PostgreSQL manual,
appendix A)."""
_REST = text(
    "update segment set rests_until = now() + :rest, "
    "sweep_due_at = case when tracking is not null then now() + :rest end where id = :id"
)


@asynccontextmanager
async def noted(connection: AsyncConnection, segment_id: int, name: str) -> AsyncIterator[None]:
    """What is done inside for a segment is undone where its question fails; the transaction goes on.

    The segment is then left alone for a while, and gone through anew afterwards.
    """
    try:
        async with connection.begin_nested():
            yield
    except (InvalidInput, DBAPIError) as error:
        if isinstance(error, DBAPIError) and not _is_its_own(error):
            raise
        reason = error.orig if isinstance(error, DBAPIError) else error
        log.warning("a segment cannot be asked about", segment=name, error=str(reason))
        await connection.execute(_REST, {"id": segment_id, "rest": REST})


def _is_its_own(error: DBAPIError) -> bool:
    """Whether the statement itself cannot be carried out, now or later."""
    state = getattr(error.orig, "sqlstate", None)
    return not error.connection_invalidated and state is not None and state[:2] not in _NOT_ITS_FAULT
