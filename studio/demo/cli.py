"""`kaskad demo`."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from core import cli, logs
from core.database import Database
from core.settings import Settings
from studio.demo import folder, play
from studio.demo.play import Play, Wishes
from studio.demo.screen import Screen, comparison
from studio.demo.story import PORTAL_PATH, tell
from studio.demo.verdict import Verdict
from studio.stack import process
from studio.stack.stopping import until_told
from studio.stack.supervisor import Stack, running_stack

app = typer.Typer()

_UNHURRIED = Wishes(visitors=60, hasten=1200, between=0.5)  # four hours are 12 s: slow enough to follow
_BRISK = Wishes(visitors=40, hasten=2400, between=0.1)
_SENDER = "Export portal <hello@portal.example>"
_TAKEN_OVER = frozenset({"data", "port", "postgres_user", "log_level", "log_json"})
_SAID_BY_THE_DEMO = frozenset({"host", "demo", "email_from"})


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Play to the end, check the figures, and exit.")] = False,
    visitors: Annotated[int | None, typer.Option(min=1, max=5000, help="How many come; 60, or 40 with --once.")] = None,
    speed: Annotated[
        float | None, typer.Option(min=1, max=14400, help="Waits are divided by this; 1200, or 2400 with --once.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The demo's own folder; `demo` inside the data folder if not given.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the pages; a free one if it is taken.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="With --once: print the figures as JSON.")] = False,
) -> None:
    """Show everything at work: visitors of an export portal who do not finish their application.

    Runs a stack of its own with sample data. Mail goes nowhere but to the built-in mailbox. An earlier demo's data is
    replaced; nothing else is touched.
    """
    if json and not once:
        raise typer.BadParameter("--json goes with --once")
    usual = _BRISK if once else _UNHURRIED
    wishes = Wishes(visitors or usual.visitors, speed or usual.hasten, usual.between)
    console = cli.complaints if json else cli.console
    with cli.plain_errors():
        settings = _settings(data, port, console)
        if folder.fresh(settings.data):
            console.print(f"Replaced what an earlier demo left in {settings.data}.", highlight=False, soft_wrap=True)
    verdicts: list[Verdict] = []
    told = cli.run(until_told(_demo(settings, wishes, console, verdicts.append if once else None)))
    if told:
        console.print("Stopped. `kaskad demo` begins a new one.", highlight=False)
    if once:
        raise typer.Exit(130 if told or not verdicts else report(verdicts[0], console, json=json))


def report(verdict: Verdict, console: Console, *, json: bool) -> int:
    """Print a verdict; gives the exit code: 0 only if everything agrees."""
    console.print(comparison(verdict))
    for words in verdict.words():
        console.print(f"[bold red]differs:[/] {words}", highlight=False, soft_wrap=True)
    if verdict.agrees:
        console.print("[bold green]Ledger, mailbox and outcomes agree.[/]")
    if json:
        lines = [dataclasses.asdict(line) for line in verdict.lines]
        found = verdict.figures | {"agrees": verdict.agrees, "compared": lines, "disagreements": verdict.words()}
        cli.output(found, json=True)
    return 0 if verdict.agrees else 1


def _settings(data: Path | None, port: int | None, console: Console) -> Settings:
    given = cli.load_settings()
    left = [name for name in _left_alone() if f"KASKAD_{name.upper()}" in os.environ]
    if left:
        names = ", ".join(f"KASKAD_{name.upper()}" for name in left)
        console.print(f"The demo has settings of its own, so {names} is left alone.", highlight=False, soft_wrap=True)
    settings = apart(given, data, port)
    refusal = process.why_not_listen(settings.host, settings.port) if settings.port else None
    if refusal:
        console.print(f"Port {settings.port} cannot be had ({refusal}), so a free one is taken.", highlight=False)
    return settings.model_copy(update={"port": 0 if refusal else settings.port})


def apart(given: Settings, data: Path | None = None, port: int | None = None) -> Settings:
    """The settings of an installation of its own on this machine, whatever the environment says of others.

    They begin with the defaults, so that a setting which is added later (a mailbox that is read, a place that errors
    are reported to) does not lead the demo to somebody's real installation.
    """
    taken = {name: getattr(given, name) for name in Settings.model_fields if _is_taken_over(name)}
    ours = {"host": "127.0.0.1", "demo": True, "email_from": _SENDER, "data": (data or given.data / "demo").absolute()}
    own = Settings.model_construct().model_copy(update=taken | ours)
    return own if port is None else own.model_copy(update={"port": port})


def _is_taken_over(name: str) -> bool:
    return name in _TAKEN_OVER or name.endswith("_limit")


def _left_alone() -> list[str]:
    return [name for name in Settings.model_fields if not _is_taken_over(name) and name not in _SAID_BY_THE_DEMO]


async def _demo(settings: Settings, wishes: Wishes, console: Console, judged: Callable[[Verdict], None] | None) -> None:
    logs.configure(settings.model_copy(update={"log_level": "warning"}))
    began = time.monotonic()
    with _saying(console) as say:
        story = tell(wishes.visitors)
        async with running_stack(settings, say=say) as stack:
            database = Database(stack.settings.database or "", pool=4)
            try:
                prepared = await play.prepared(database, stack.settings, stack.url, wishes, story, say)
                say("")
                _introduce(console, stack, wishes, time.monotonic() - began)
                await _watch(prepared, console, stack, judged)
            finally:
                await database.close()


def _introduce(console: Console, stack: Stack, wishes: Wishes, seconds: float) -> None:
    lines = [
        f"Kaskad runs after {seconds:.0f} s at {stack.url}, over {stack.settings.data}.",
        f"{wishes.visitors} visitors save the draft of an application; every wait lasts 1/{wishes.hasten:g} of what "
        "the journey says.",
        f"Look at {stack.url}/ and {stack.url}/mailbox with a browser, or begin an application at "
        f"{stack.url}{PORTAL_PATH}.",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


async def _watch(prepared: Play, console: Console, stack: Stack, judged: Callable[[Verdict], None] | None) -> None:
    hint = "Begin an application at the portal yourself. Ctrl-C ends." if judged is None else "Ctrl-C gives up."
    with Screen(console, stack.url, hint) as shown:
        await prepared.watch(shown.show, until_the_end=judged is not None)
    if judged is not None:
        judged(await prepared.judge())


@contextmanager
def _saying(console: Console) -> Iterator[Callable[[str], None]]:
    """A way to say what is being done: on one line of a terminal, or a line each; an empty text clears it."""
    if not console.is_terminal:
        yield lambda words: console.print(words, highlight=False, soft_wrap=True) if words else None
        return
    with console.status("starting") as status:

        def say(words: str) -> None:
            if words:
                status.start()
                status.update(words + " …")
            else:
                status.stop()

        yield say
