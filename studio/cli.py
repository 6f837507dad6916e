"""`kaskad`: the command line. Every package brings its own commands; here they are put together.

A command's module is imported when that command is asked for: all of them together take two seconds, and most of
that is Temporal and the API, which a list of contacts does not need.
"""

import atexit
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from core.terminal import plain_errors

_TEMPORAL = "temporalio.bridge.temporal_sdk_bridge"


@dataclass(frozen=True)
class Place:
    """Where a command, or a group of commands, comes from.

    Attributes:
        help: its line in the list of commands.
        modules: those whose `app` has it; a group may be put together from several.
        is_group: whether the name stands for all commands of the modules, or for the one of that name.
    """

    help: str
    modules: tuple[str, ...]
    is_group: bool = False

    def load(self, name: str) -> Any:
        """Import its modules; gives the command itself."""
        first, *more = [import_module(module).app for module in self.modules]
        for one in more:
            first.add_typer(one)
        group = get_group(first)
        if not self.is_group:
            return group.commands[name]
        group.name, group.help = name, self.help
        return group


def _group(help_line: str, *modules: str) -> Place:
    return Place(help_line, modules, is_group=True)


COMMANDS: dict[str, Place] = {
    "up": Place(
        "Run everything on this machine: PostgreSQL, Temporal, API, worker and router. Ctrl-C stops it.",
        ("studio.commands.up",),
    ),
    "demo": Place(
        "Show everything at work: visitors of an export portal who do not finish their application.",
        ("studio.demo.cli",),
    ),
    "api": Place("Run the HTTP API and the pages alone.", ("studio.commands.api",)),
    "worker": Place(
        "Run a worker alone: it carries contacts through journeys and hands messages over.", ("studio.commands.roles",)
    ),
    "router": Place(
        "Run a router alone: it turns events into entries and signals. Of several, one works and the others stand by.",
        ("studio.commands.roles",),
    ),
    "migrate": Place(
        "Bring the database to this version's schema. `kaskad up` does so by itself.", ("studio.commands.upkeep",)
    ),
    "doctor": Place(
        "Check every part of the installation and say how to mend what is broken. Exits with 1 if anything is.",
        ("studio.commands.upkeep",),
    ),
    "key": _group("API keys.", "studio.commands.keys"),
    "contacts": Place("Contacts: import, list, show, merge, erase.", ("contacts.cli",)),
    "attribute": Place("The typed attributes that contacts carry.", ("contacts.cli",)),
    "consent": Place("What contacts agreed to, and the proof of it.", ("contacts.cli",)),
    "purpose": Place("What contacts can choose on their preference page.", ("contacts.purpose_cli",)),
    "suppression": Place("Addresses that must not be used.", ("contacts.cli",)),
    "company": _group("Companies that contacts belong to.", "contacts.company_cli"),
    "segment": _group("Segments: named sets of contacts.", "segments.cli"),
    "push": Place(
        "Publish a folder of templates, segments and journeys: all of it or, if there is a problem, nothing.",
        ("studio.push",),
    ),
    "pull": Place(
        "Write the published templates, segments and journeys into a folder, one file each.", ("studio.pull",)
    ),
    "diff": Place(
        "Show what `kaskad push FOLDER` would change, by meaning; exits with 1 if there is anything.", ("studio.pull",)
    ),
    "journey": _group("Journeys: check, publish, enter, pause; what became of contacts.", "journeys.cli", "engine.cli"),
    "enrollment": _group("One contact's way: move it, end it.", "engine.enrollment_cli"),
    "template": Place("What is written.", ("channels.cli",)),
    "provider": Place("Who carries messages: SMTP servers and the like.", ("channels.cli",)),
    "route": _group("Which provider carries what.", "channels.route_cli", "engine.trying_cli"),
    "price": Place("What messages cost; the cheaper provider of a tier carries them.", ("channels.tariff_cli",)),
    "sender": Place("Names, numbers and addresses that messages may come from.", ("channels.tariff_cli",)),
    "operator": Place("Which telephone numbers belong to whom.", ("channels.tariff_cli",)),
    "message": Place("The ledger of messages.", ("channels.message_cli",)),
    "email": _group("Email: checks of domains and letters, DKIM keys.", "channels.email.cli"),
    "report": _group("Reports: what was sent, what people did, what journeys brought about.", "reports.cli"),
    "events": _group("The event log: follow it, import into it, count what is in it.", "tracker.cli"),
    "site": _group("Sites whose visitors are tracked: tags, write keys, counts.", "tracker.site_cli"),
}
"""Every command at the top, in the order of `kaskad --help`."""


class Commands(TyperGroup):
    """The commands at the top, each loaded when it is called; until then their names and lines of help stand in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {name: TyperCommand(name, help=place.help) for name, place in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the command that is called."""
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = COMMANDS[args[0]].load(args[0])
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Commands,
    name="kaskad",
    help="Marketing journeys that react to events. `kaskad up` runs everything on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def root(
    data: Annotated[
        Path | None, typer.Option(help="Folder with all state; KASKAD_DATA, or .kaskad (as root /var/lib/kaskad).")
    ] = None,
) -> None:
    """Options that stand before any command."""
    if data is not None:
        os.environ["KASKAD_DATA"] = str(data.absolute())


def main() -> None:
    """Run a command; ends with SystemExit."""
    with plain_errors():
        app()


def script() -> None:
    """The console script `kaskad`.

    Threads of Temporal's client that are not Python's may still hold objects of Python. One that gives such an object
    back while the interpreter takes itself apart aborts the process, whose work was done: one command of 24 ended so on
    a busy machine. So the interpreter is not taken apart where that client was loaded.
    """
    try:
        main()
    except SystemExit as end:
        if _TEMPORAL in sys.modules:
            _leave(end.code)
        raise


def _leave(code: str | int | None) -> NoReturn:
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it has gone
            stream.flush()
    os._exit(code if isinstance(code, int) else bool(code))


if __name__ == "__main__":
    script()
