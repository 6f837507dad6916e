"""What the demo shows: one table that is redrawn on a terminal, and plain lines anywhere else."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from studio import status
from studio.demo import figures
from studio.demo.story import JOURNEY, PORTAL_PATH
from studio.demo.verdict import Verdict
from studio.status import JourneyPage, Overview

_LINE_EVERY = 2.0  # seconds between two lines where there is no terminal


@dataclass(frozen=True)
class Figures:
    """Everything on the screen, counted at one moment."""

    overview: Overview
    journey: JourneyPage
    events: Mapping[str, int]
    accepted: int
    """Events that the API has acknowledged."""
    seconds: float
    """Since the first visitor came."""

    @property
    def finished(self) -> int:
        """Journeys that have ended."""
        return sum(sum(version.outcomes.values()) for version in self.journey.versions)

    @property
    def entered(self) -> int:
        """Journeys that were begun."""
        return sum(line.entered for line in self.overview.journeys if line.name == self.journey.name)


async def count(connection: AsyncConnection, accepted: int, seconds: float) -> Figures:
    """The figures of this moment; the same that the pages show."""
    return Figures(
        await status.overview(connection),
        await status.journey(connection, JOURNEY),
        await figures.events(connection),
        accepted,
        seconds,
    )


class Screen:
    """Shows figures until the block ends."""

    def __init__(self, console: Console, url: str, hint: str) -> None:
        """
        Args:
            console: where to.
            url: of the pages.
            hint: the last line, which says what to do.
        """
        self._console = console
        self._url = url
        self._hint = hint
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._said = ""
        self._said_at = 0.0

    def __enter__(self) -> "Screen":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, now: Figures) -> None:
        """Draw the figures, or write them as a line if they have changed and the last line is a while ago."""
        if self._live is not None:
            self._live.update(drawn(now, self._url, self._hint), refresh=True)
            return
        line = _line(now)
        if line != self._said and time.monotonic() - self._said_at >= _LINE_EVERY:
            self._said, self._said_at = line, time.monotonic()
            self._console.print(f"{now.seconds:4.0f} s  {line}", highlight=False, soft_wrap=True)


def drawn(now: Figures, url: str, hint: str) -> RenderableType:
    """The figures as one picture for a terminal."""
    version = now.journey.versions[0]
    steps = Table(expand=True, box=None, padding=(0, 1))
    steps.add_column("step", no_wrap=True)
    steps.add_column("does", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("here now", "visits"):
        steps.add_column(name, justify="right", no_wrap=True)
    steps.add_column("messages", no_wrap=True)
    for step in version.steps:
        style = "bold" if step.here else ""
        here = f"[cyan]{step.here}[/]" if step.here else "[dim]·[/]"
        messages = ", ".join(f"{number} {state}" for state, number in step.messages.items())
        steps.add_row(escape(step.id), f"[dim]{escape(step.does)}[/]", here, str(step.visits), messages, style=style)
    title = f"{escape(now.journey.title)} [dim](every wait lasts 1/{version.hasten:g} of what the journey says)[/]"
    addresses = Table.grid(padding=(0, 2))
    for what, path in (
        ("Status", "/"),
        ("Journey", f"/journeys/{now.journey.name}"),
        ("Letters", "/mailbox"),
        ("Portal", PORTAL_PATH),
    ):
        addresses.add_row(f"[bold]{what}[/]", f"[link={url}{path}]{url}{path}[/link]")
    return Panel(
        Group(
            addresses,
            Panel(steps, title=title, title_align="left", border_style="cyan"),
            _beside(
                _counts("Events", now.events),
                _counts("Messages", {**now.overview.messages, **_reactions(now.overview)}),
                _counts("Outcomes", version.outcomes),
            ),
            f"[dim]{now.finished} of {now.entered} journeys have ended after {now.seconds:.0f} s. {hint}[/]",
        ),
        title="[bold]Kaskad demo[/]: visitors of an export portal who do not finish their application",
        border_style="dim",
    )


def _beside(*parts: RenderableType) -> Table:
    grid = Table.grid(expand=True)
    for _ in parts:
        grid.add_column(ratio=1)
    grid.add_row(*parts)
    return grid


def _reactions(overview: Overview) -> dict[str, int]:
    pairs = {"opened": overview.opened, "clicked": overview.clicked}
    return {name: number for name, number in pairs.items() if number}


def _counts(title: str, counts: Mapping[str, int]) -> Panel:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column()
    table.add_column(justify="right")
    for name, number in counts.items():
        table.add_row(escape(name), f"[bold]{number}[/]")
    if not counts:
        table.add_row("[dim]none yet[/]", "")
    return Panel(table, title=title, title_align="left", border_style="dim")


def _line(now: Figures) -> str:
    version = now.journey.versions[0]
    here = {step.id: step.here for step in version.steps if step.here}
    return (
        f"{now.accepted} events accepted; in the journey: {_list(here)}; messages: {_list(now.overview.messages)}; "
        f"outcomes: {_list(version.outcomes)}"
    )


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def comparison(verdict: Verdict) -> Table:
    """The verdict's figures side by side."""
    table = Table(title="Do ledger, mailbox and outcomes agree?", title_justify="left", show_header=False)
    for _ in range(4):
        table.add_column(no_wrap=True)
    for line in verdict.lines:
        mark = "[green]agree[/]" if line.agrees else "[bold red]differ[/]"
        first, second = f"{line.expected:>4} {line.by}", f"{line.found:>4} {line.there}"
        table.add_row(escape(line.what), first, second, mark)
    return table
