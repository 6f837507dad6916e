"""The way to PostgreSQL: one engine a process, transactions opened at the edge and passed down."""

import select
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import msgspec
import psycopg
import structlog
from sqlalchemy import exc, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core.errors import DatabaseUnavailable, Unavailable

Direct = psycopg.AsyncConnection[tuple[Any, ...]]
"""psycopg's own connection, for paths where the microseconds of the layer above count."""

_log = structlog.get_logger()
_PATIENCE = 10
_OPTIONS = "-c timezone=UTC -c idle_in_transaction_session_timeout=60000"
# Planning the few statements of a hot path anew for each set of values would find the same plan again.
_DIRECT_OPTIONS = f"{_OPTIONS} -c plan_cache_mode=force_generic_plan"


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
            connect_args={"connect_timeout": _PATIENCE, "options": _OPTIONS},
        )
        self._idle: list[Direct] = []
        self._closed = False

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction; commit when the block ends, roll back when it raises.

        Raises:
            DatabaseUnavailable: PostgreSQL refuses the connection or went away in the middle.
        """
        with _in_words():
            async with self.engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in autocommit, for what belongs to a database session: advisory locks. It is closed for
        good afterwards, which gives them back, whatever state it is in.

        Raises:
            DatabaseUnavailable: PostgreSQL refuses the connection or went away in the middle.
        """
        with _in_words():
            async with self.engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                try:
                    yield connection
                finally:
                    await connection.invalidate()

    @asynccontextmanager
    async def direct(self) -> AsyncIterator[Direct]:
        """Lend a connection beside the pool, which is kept open for the next; for a path hot enough to need it.

        It is in autocommit: whoever borrows it says `begin` and `commit`, so that they can travel with other
        statements (psycopg's pipeline). What was begun and not committed is rolled back when the block raises.

        Raises:
            DatabaseUnavailable: PostgreSQL refuses the connection or went away in the middle.
        """
        connection = await self._borrowed()
        try:
            yield connection
        except psycopg.Error as error:
            if _is_lost(error) or connection.closed:
                await connection.close()
                raise _unavailable(error) from error
            await self._undo(connection)
            raise
        except BaseException:  # given up in the middle: nobody knows what is still under way on it
            await connection.close()
            raise
        await self._give_back(connection)

    async def _give_back(self, connection: Direct) -> None:
        if self._closed:  # while it was lent
            await connection.close()
        else:
            self._idle.append(connection)

    async def _undo(self, connection: Direct) -> None:
        """Roll back what was begun; the failure that led here is what is to be told, so one of this is not."""
        try:
            await connection.rollback()
        except psycopg.Error as error:
            _log.warning("a connection is given up", reason=str(error))
            await connection.close()
        else:
            await self._give_back(connection)

    async def _borrowed(self) -> Direct:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and not _has_news(connection):
                return connection
            await connection.close()
        url = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            return await psycopg.AsyncConnection.connect(
                url, autocommit=True, connect_timeout=_PATIENCE, options=_DIRECT_OPTIONS
            )
        except psycopg.Error as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        """Give all connections back; those that are lent now close when they come back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()
        await self.engine.dispose()


def _has_news(connection: Direct) -> bool:
    """Whether the server said something to an idle connection, as it does when it goes away."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _in_words() -> Iterator[None]:
    """Tell of a PostgreSQL that refuses a connection or went away as DatabaseUnavailable; all else is as it was."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError) as error:
        if error.connection_invalidated or _is_lost(error.orig):
            raise _unavailable(error.orig) from error
        raise
    except psycopg.Error as error:  # from `driver`, past SQLAlchemy
        if _is_lost(error):
            raise _unavailable(error) from error
        raise
    except exc.TimeoutError as error:
        raise DatabaseUnavailable(f"No connection became free: {error}") from error


def _unavailable(error: BaseException | None) -> DatabaseUnavailable:
    if isinstance(error, psycopg.errors.DiskFull):
        return DatabaseUnavailable(
            f"the database's disk is full: free space on its machine, and send again what was not taken ({error})"
        )
    return DatabaseUnavailable(f"PostgreSQL does not answer: {error}")


def _is_lost(error: BaseException | None) -> bool:
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    return error.sqlstate is None or error.sqlstate[:2] in {"08", "57", "53"}


@asynccontextmanager
async def bounded(connection: AsyncConnection, seconds: int, what: str, mend: str) -> AsyncIterator[None]:
    """Bound each statement of a transaction from here on: nobody's question keeps the database from the others.

    Args:
        connection: an open transaction.
        seconds: how long a statement may take.
        what: the question, as the error names it.
        mend: what to do about it.

    Raises:
        Unavailable: a statement took longer.
    """
    await connection.execute(text("select set_config('statement_timeout', :limit, true)"), {"limit": f"{seconds}s"})
    try:
        yield
    except exc.OperationalError as error:
        if isinstance(error.orig, psycopg.errors.QueryCanceled):
            raise Unavailable(f"{what} took longer than {seconds} s: {mend}") from error
        raise


async def driver(connection: AsyncConnection | Direct) -> Direct:
    """The psycopg connection inside the same transaction, for COPY and pipelines."""
    if isinstance(connection, psycopg.AsyncConnection):
        return connection
    raw = await connection.get_raw_connection()
    return cast("Direct", raw.driver_connection)


def array_of(values: Sequence[float | Decimal | datetime | UUID | bool | None]) -> str:
    """Numbers, moments, UUIDs or truths as one array literal, which is a list of them in JSON but for its brackets;
    psycopg takes ten times as long to write a list of them."""
    return f"{{{msgspec.json.encode(values)[1:-1].decode()}}}"


def array(texts: Iterable[str | None]) -> str:
    """Texts as one array literal, in which JSON's escapes would mean something else."""
    return "{" + ",".join(["null" if text is None else f'"{_escaped(text)}"' for text in texts]) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
