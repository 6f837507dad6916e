"""`kaskad api`: requests, pages, and the links in letters."""

import asyncio
import contextlib
from collections.abc import Iterator

import typer
import uvicorn

from core import cli, temporal
from core.database import Database
from core.errors import Misconfigured
from core.settings import Settings
from studio.api import create_app
from studio.commands.launching import STOPPING, Host, Port, begin, listening, serve, spare_garbage_collection

app = typer.Typer()


@app.command()
def api(host: Host = None, port: Port = None) -> None:
    """Run the HTTP API and the pages alone."""
    serve(_api(listening(host, port)))


async def _api(settings: Settings) -> None:
    begin(settings, "api")
    database = Database(cli.database_url(settings), pool=settings.database_pool)
    client = await temporal.lazy(settings, settings.temporal) if settings.temporal else None
    server = _Server(
        uvicorn.Config(
            create_app(settings, database, client),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # whom to believe is KASKAD_TRUSTED_PROXIES, and core/addresses.py sees to it
            timeout_graceful_shutdown=10,
            backlog=4096,
        )
    )
    spare_garbage_collection()
    try:
        await server.serve()
    except SystemExit as error:  # how uvicorn says that it could not listen; its log has the reason
        raise Misconfigured(
            f"the API cannot listen at {settings.host}:{settings.port}; choose another port with --port or KASKAD_PORT"
        ) from error
    finally:
        await database.close()


class _Server(uvicorn.Server):
    """Uvicorn, for which a stop that was asked for is no failure: its own would end the process by the same signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Shut down on SIGINT and SIGTERM; at once on a second SIGINT."""
        loop = asyncio.get_running_loop()
        for one in STOPPING:
            loop.add_signal_handler(one, self.handle_exit, one, None)
        try:
            yield
        finally:
            for one in STOPPING:
                loop.remove_signal_handler(one)
