"""What every command of the command line shares: the way to the installation, output, and errors in plain words."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from core import logs, running
from core.database import Database
from core.errors import InvalidInput, Unavailable
from core.settings import Settings
from core.terminal import complain, complaints, console, harmless, one_line, plain_errors, write

__all__ = [
    "complain",
    "complaints",
    "connected",
    "console",
    "database_url",
    "harmless",
    "load_settings",
    "one_line",
    "output",
    "plain_errors",
    "run",
    "write",
]

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run an asynchronous command to its end. A KaskadError is printed in full and ends the process with 1."""
    with plain_errors():
        return asyncio.run(coroutine)


def load_settings() -> Settings:
    """The settings of the environment, with the addresses of the running embedded stack filled in.

    Raises:
        InvalidInput: a KASKAD_* variable has a value that cannot be used; each is named.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        raise InvalidInput(
            *(
                f"KASKAD_{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}"
                for one in error.errors(include_input=False)
            )
        ) from None
    return running.resolve(settings)


@asynccontextmanager
async def connected(pool: int = 4) -> AsyncIterator[Database]:
    """The database of the installation that this command is about.

    Raises:
        Unavailable: no external database is set and no embedded stack runs over the data folder.
        DatabaseUnavailable: it does not answer.
    """
    settings = load_settings()
    logs.configure(settings)
    database = Database(database_url(settings), pool=pool)
    try:
        yield database
    finally:
        await database.close()


def database_url(settings: Settings) -> str:
    """Where the database is; Unavailable, with the ways out, if nothing says so."""
    if settings.database is None:
        raise Unavailable(
            f"Kaskad is not running over the data folder {settings.data.absolute()}: start it with `kaskad up` in "
            "another terminal, name another folder with `kaskad --data FOLDER …`, or set KASKAD_DATABASE"
        )
    return settings.database


def output(rows: Sequence[Mapping[str, Any]] | Mapping[str, Any], *, json: bool, empty: str = "Nothing.") -> None:
    """Print rows as a table, or one row as names and values; with `json` as a JSON array or object instead.

    Args:
        rows: what to print; the first row's keys are the columns.
        json: machine-readable, times in RFC 3339.
        empty: the sentence that stands for an empty table.
    """
    if json:
        write(msgspec.json.format(msgspec.json.encode(rows, enc_hook=str), indent=2).decode() + "\n")
        return
    if isinstance(rows, Mapping):
        table = Table(show_header=False, box=None)
        for name, value in rows.items():
            table.add_row(f"[bold]{_shown(name)}[/]", _cell(value))
    elif not rows:
        console.print(empty)
        return
    else:
        table = Table(*(_shown(name).replace("_", " ") for name in rows[0]))
        for row in rows:
            table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if hasattr(value, "isoformat"):
        return str(value.isoformat(sep=" ", timespec="seconds") if hasattr(value, "hour") else value.isoformat())
    if isinstance(value, (list, tuple, set)):
        return _shown(", ".join(map(str, value)))
    return _shown(value)


def _shown(value: object) -> str:
    # Here already, though the console would do it: so that columns are as wide as what they show.
    return escape(harmless(str(value)))
