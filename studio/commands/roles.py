"""`kaskad worker` and `kaskad router`."""

import asyncio
from collections.abc import Awaitable, Callable

import typer
from temporalio.client import Client

from core import cli, metrics, migrate, temporal
from core.database import Database
from core.errors import Misconfigured
from core.settings import Settings
from engine.roles import run_router, run_worker
from studio.commands.launching import STOPPING, begin, serve, spare_garbage_collection

app = typer.Typer()

_Role = Callable[[Settings, Database, Client, asyncio.Event], Awaitable[None]]


@app.command()
def worker() -> None:
    """Run a worker alone: it carries contacts through journeys and hands messages over."""
    serve(_run("worker", run_worker))


@app.command()
def router() -> None:
    """Run a router alone: it turns events into entries and signals. Of several, one works and the others stand by."""
    serve(_run("router", run_router))


async def _run(name: str, role: _Role) -> None:
    """Run a role until SIGINT or SIGTERM, then let it finish what it has in hand."""
    settings = cli.load_settings()
    begin(settings, name)
    metrics.serve(settings)
    database = Database(cli.database_url(settings), pool=settings.database_pool)
    try:
        await _require_schema(database)
        client = await temporal.connect(settings)
        stop = asyncio.Event()
        for one in STOPPING:
            asyncio.get_running_loop().add_signal_handler(one, stop.set)
        spare_garbage_collection()
        await role(settings, database, client, stop)
    finally:
        await database.close()


async def _require_schema(database: Database) -> None:
    if not await migrate.is_current(database):
        raise Misconfigured("the database does not have this version's schema: run `kaskad migrate`")
