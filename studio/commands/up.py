"""`kaskad up`: everything on this machine."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import typer

from core import logs
from core.cli import console, run
from core.settings import Settings
from studio.commands.launching import Host, Port, listening
from studio.stack.role import ROLES
from studio.stack.stopping import until_told
from studio.stack.supervisor import running_stack

app = typer.Typer()


@app.command()
def up(
    host: Host = None,
    port: Port = None,
    role: Annotated[
        list[str] | None, typer.Option(help="Only these of api, worker and router; may be repeated.")
    ] = None,
) -> None:
    """Run everything on this machine: PostgreSQL, Temporal, API, worker and router. Ctrl-C stops it."""
    roles = role or list(ROLES)
    if unknown := sorted(set(roles) - set(ROLES)):
        raise typer.BadParameter(f"no such role: {', '.join(unknown)}; there are {', '.join(ROLES)}")
    run(_up(listening(host, port), roles))


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
