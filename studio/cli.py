"""`kaskad`: the command line. Every package brings its own commands; here they are put together."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import uvicorn

import channels.cli
import channels.email.cli
import contacts.cli
import engine.cli
import engine.enrollment_cli
import journeys.cli
import segments.cli
import studio.demo.cli
import studio.pull
import studio.push
import tracker.cli
from core import access, cli, logs, metrics, migrate, temporal
from core.cli import complaints, connected, console, output, run
from core.database import Database
from core.errors import Misconfigured
from core.settings import Settings
from engine.roles import run_router, run_worker
from studio import api as web
from studio import doctor as examination
from studio.stack.role import ROLES
from studio.stack.stopping import until_told
from studio.stack.supervisor import running_stack

app = typer.Typer(
    name="kaskad",
    help="Marketing journeys that react to events. `kaskad up` runs everything on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(keys, name="key")
log = structlog.get_logger("kaskad")

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Host = Annotated[str | None, typer.Option(help="Address to listen at; KASKAD_HOST.")]
_Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen at, 0 for a free one; KASKAD_PORT.")]


@app.callback()
def root(
    data: Annotated[
        Path | None, typer.Option(help="Folder with all state; KASKAD_DATA, or .kaskad (as root /var/lib/kaskad).")
    ] = None,
) -> None:
    """Options that stand before any command."""
    if data is not None:
        os.environ["KASKAD_DATA"] = str(data.absolute())


@app.command()
def up(
    host: _Host = None,
    port: _Port = None,
    role: Annotated[
        list[str] | None, typer.Option(help="Only these of api, worker and router; may be repeated.")
    ] = None,
) -> None:
    """Run everything on this machine: PostgreSQL, Temporal, API, worker and router. Ctrl-C stops it."""
    roles = role or list(ROLES)
    if unknown := sorted(set(roles) - set(ROLES)):
        raise typer.BadParameter(f"no such role: {', '.join(unknown)}; there are {', '.join(ROLES)}")
    run(_up(_listening(host, port), roles))


async def _up(settings: Settings, roles: list[str]) -> None:
    logs.configure(settings)
    with console.status("starting") as status:
        stack_of_parts = running_stack(settings, roles, say=lambda words: status.update(words + " …"))
        await until_told(_stay_up(stack_of_parts, status.stop))
    console.print("Stopped. Everything is kept; `kaskad up` goes on from here.")


async def _stay_up(stack_of_parts: Any, ready: Callable[[], None]) -> None:
    async with stack_of_parts as stack:
        ready()
        console.print(f"Kaskad runs at [bold]{stack.url}[/] over {stack.settings.data}")
        console.print(f"Logs are in {stack.settings.data / 'logs'}. Ctrl-C stops everything and keeps all data.")
        await asyncio.Event().wait()


@app.command()
def api(host: _Host = None, port: _Port = None) -> None:
    """Run the HTTP API and the pages alone."""
    _serve(_api(_listening(host, port)))


def _serve(role: Coroutine[Any, Any, None]) -> None:
    """Run what has much to do for long on the fast event loop."""
    with cli.plain_errors(), asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(role)


async def _api(settings: Settings) -> None:
    _begin(settings, "api")
    database = Database(cli.database_url(settings), pool=settings.database_pool)
    client = await temporal.lazy(settings, settings.temporal) if settings.temporal else None
    server = uvicorn.Server(
        uvicorn.Config(
            web.create_app(settings, database, client),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=10,
            backlog=4096,
        )
    )
    _spare_garbage_collection()
    try:
        await server.serve()
    except SystemExit as error:  # how uvicorn says that it could not listen; its log has the reason
        raise Misconfigured(
            f"the API cannot listen at {settings.host}:{settings.port}; choose another port with --port or KASKAD_PORT"
        ) from error
    finally:
        await database.close()


def _spare_garbage_collection() -> None:
    """What stands now stands until the end, so the collector need not look at it; and it looks less often.

    Measured taking in events one by one: it took a fifth of the process's time with the defaults.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@app.command()
def worker() -> None:
    """Run a worker alone: it carries contacts through journeys and hands messages over."""
    _serve(_role("worker"))


@app.command()
def router() -> None:
    """Run a router alone: it turns events into entries and signals. Of several, one works and the others stand by."""
    _serve(_role("router"))


async def _role(name: str) -> None:
    """Run a role until SIGINT or SIGTERM, then let it finish what it has in hand."""
    role = run_worker if name == "worker" else run_router
    settings = cli.load_settings()
    _begin(settings, name)
    metrics.serve(settings)
    database = Database(cli.database_url(settings), pool=settings.database_pool)
    try:
        await _require_schema(database)
        client = await temporal.connect(settings)
        stop = asyncio.Event()
        for one in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(one, stop.set)
        _spare_garbage_collection()
        await role(settings, database, client, stop)
    finally:
        await database.close()


@app.command("migrate")
def migrate_command() -> None:
    """Bring the database to this version's schema. `kaskad up` does so by itself."""
    run(_migrate())
    console.print("The database is up to date.")


async def _migrate() -> None:
    settings = cli.load_settings()
    async with connected(pool=2) as database:
        await migrate.migrate(database, settings)


@app.command()
def doctor(json: _Json = False) -> None:
    """Check every part of the installation and say how to mend what is broken. Exits with 1 if anything is."""
    findings = run(examination.examine(cli.load_settings()))
    if json:
        output([finding.row() for finding in findings], json=True)
    else:
        console.print(examination.table(findings))
    if any(finding.is_broken for finding in findings):
        raise typer.Exit(1)


@keys.command("create")
def key_create(
    scope: Annotated[list[str], typer.Option(help=f"What it is good for; may be repeated: {', '.join(access.SCOPES)}")],
    name: Annotated[str, typer.Option(help="What or whom it is for.")] = "",
    json: _Json = False,
) -> None:
    """Make an API key and print it: the only time it can be seen."""
    key = run(_create(name or ", ".join(scope), scope))
    if json:
        output({"key": key, "scopes": scope}, json=True)
        return
    typer.echo(key)
    complaints.print("[dim]Keep it: only its digest is stored, so it cannot be shown again.[/]")


async def _create(name: str, scopes: list[str]) -> str:
    async with connected() as database, database.begin() as connection:
        return await access.create(connection, name, scopes)


@keys.command("list")
def key_list(json: _Json = False) -> None:
    """List API keys, without the keys themselves."""
    found = run(_keys())
    rows = [
        {"id": key.id, "name": key.name, "scopes": key.scopes, "created": key.created_at, "revoked": key.revoked_at}
        for key in found
    ]
    output(rows, json=json, empty="There is no API key yet: kaskad key create --scope events:write")


async def _keys() -> list[access.Key]:
    async with connected() as database, database.begin() as connection:
        return await access.listing(connection)


@keys.command("revoke")
def key_revoke(number: Annotated[int, typer.Argument(help="Its number in `kaskad key list`.")]) -> None:
    """Make an API key worthless, within a few seconds everywhere."""
    run(_revoke(number))
    console.print(f"API key {number} is revoked.")


async def _revoke(number: int) -> None:
    async with connected() as database, database.begin() as connection:
        await access.revoke(connection, number)


def _listening(host: str | None, port: int | None) -> Settings:
    """The settings with what the command line says about where to listen."""
    with cli.plain_errors():
        given: dict[str, Any] = {"host": host, "port": port}
        return cli.load_settings().model_copy(
            update={name: value for name, value in given.items() if value is not None}
        )


def _begin(settings: Settings, role: str) -> None:
    logs.configure(settings)
    logs.report_errors(settings, role)
    structlog.contextvars.bind_contextvars(role=role)


async def _require_schema(database: Database) -> None:
    if not await migrate.is_current(database):
        raise Misconfigured("the database does not have this version's schema: run `kaskad migrate`")


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it exists; it takes a quarter off the cost of a request."""
    return import_module("uvloop").new_event_loop if find_spec("uvloop") else None


# The packages' commands: those that bring their own groups or stand at the top, then those that are one group.
for _commands in (contacts.cli.app, channels.cli.app, studio.push.app, studio.pull.app, studio.demo.cli.app):
    app.add_typer(_commands)
app.add_typer(segments.cli.app, name="segment", help="Segments: named sets of contacts.")
journeys.cli.app.add_typer(engine.cli.app)
app.add_typer(journeys.cli.app, name="journey", help="Journeys: check, publish, enter, pause; what became of contacts.")
app.add_typer(engine.enrollment_cli.app, name="enrollment", help="One contact's way: move it, end it.")
app.add_typer(tracker.cli.app, name="events", help="The event log: follow it, count what is in it.")
app.add_typer(channels.email.cli.app, name="email", help="Email: DKIM keys.")


def main() -> None:
    """The console script `kaskad`."""
    with cli.plain_errors():
        app()


if __name__ == "__main__":
    main()
