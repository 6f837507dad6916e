"""Doing a transaction again when another one was in its way, which PostgreSQL tells by an SQLSTATE."""

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database import Database
from core.errors import Unavailable

ATTEMPTS = 5
RACES = frozenset({"40001", "40P01", "23505"})
"""Serialisation, deadlock, and a unique row that the other one was quicker to write."""

_T = TypeVar("_T")


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of an error, whether it came through SQLAlchemy or past it."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return original.sqlstate if isinstance(original, psycopg.Error) else None


async def again(attempt: Callable[[], Awaitable[_T]], attempts: int = ATTEMPTS, races: Collection[str] = RACES) -> _T:
    """Do a transaction, and do it again as long as others are in its way.

    Args:
        attempt: opens the transaction, does the work and commits; nothing of a failed one may be left.
        attempts: how often at most.
        races: the SQLSTATEs after which doing the same again can succeed.

    Raises:
        Unavailable: others were in the way every time.
    """
    for number in range(1, attempts + 1):
        try:
            return await attempt()
        except (DBAPIError, psycopg.Error) as error:
            if sqlstate(error) not in races:
                raise
            if number == attempts:
                raise Unavailable("others keep writing the same: try again later") from error
    raise ValueError("at least one attempt is needed")


async def repeated(database: Database, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
    """Do work in a transaction of its own, as `again` does.

    Raises:
        Unavailable, DatabaseUnavailable: as `again` and `Database.begin` do.
    """

    async def attempt() -> _T:
        async with database.begin() as connection:
            return await work(connection)

    return await again(attempt)
