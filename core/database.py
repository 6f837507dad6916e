"""The way to PostgreSQL: one engine a process, transactions opened at the edge and passed down."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
from sqlalchemy import exc
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core.errors import DatabaseUnavailable


class Database:
    """A pool of connections to one database.

    A request or an activity opens a transaction with `begin()` and commits by leaving it; everything below takes
    the connection as an argument and never commits.
    """

    def __init__(self, url: str, pool: int = 10) -> None:
        self.url = url
        self.engine: AsyncEngine = create_async_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            pool_size=pool,
            max_overflow=0,
            pool_pre_ping=True,
            pool_timeout=30,
            connect_args={
                "connect_timeout": 10,
                "options": "-c timezone=UTC -c idle_in_transaction_session_timeout=60000",
            },
        )

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction; commit when the block ends, roll back when it raises.

        Raises:
            DatabaseUnavailable: PostgreSQL refuses the connection or went away in the middle.
        """
        try:
            async with self.engine.begin() as connection:
                yield connection
        except (exc.OperationalError, exc.InterfaceError) as error:
            if error.connection_invalidated or _is_lost(error.orig):
                raise DatabaseUnavailable(f"PostgreSQL does not answer: {error.orig}") from error
            raise
        except psycopg.Error as error:  # from `driver`, past SQLAlchemy
            if _is_lost(error):
                raise DatabaseUnavailable(f"PostgreSQL does not answer: {error}") from error
            raise
        except exc.TimeoutError as error:
            raise DatabaseUnavailable(f"No connection became free: {error}") from error

    async def close(self) -> None:
        """Give all connections back."""
        await self.engine.dispose()


def _is_lost(error: BaseException | None) -> bool:
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    return error.sqlstate is None or error.sqlstate[:2] in {"08", "57", "53"}


async def driver(connection: AsyncConnection) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """The psycopg connection inside the same transaction, for COPY and pipelines."""
    raw = await connection.get_raw_connection()
    return cast("psycopg.AsyncConnection[tuple[Any, ...]]", raw.driver_connection)
