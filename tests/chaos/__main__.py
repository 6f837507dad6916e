"""`python -m tests.chaos`: play the reference journey while parts are killed, and say whether everything agrees."""

import argparse
import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from core.logs import configure
from core.settings import Settings
from tests.chaos.play import Options, Result, play
from tests.chaos.sink import FAULTS

console = Console(stderr=True)


def main() -> int:
    """Play as often as asked for; 0 if nothing was lost or doubled."""
    options, runs = _options()
    configure(Settings(log_level="error"))
    defects = 0
    for number in range(runs):
        result = asyncio.run(play(_numbered(options, number), console.log))
        console.print(_table(result))
        for defect in result.judgement.defects[:50]:
            console.print(f"[bold red]defect:[/] {defect}", highlight=False)
        sys.stdout.write(json.dumps(result.figures()) + "\n")
        sys.stdout.flush()
        defects += len(result.judgement.defects)
    return int(defects > 0)


def _numbered(options: Options, number: int) -> Options:
    """The options of the run of this number."""
    seed = options.seed + number
    return replace(options, seed=seed, keep=options.keep and options.keep / f"seed-{seed}")


def _options() -> tuple[Options, int]:
    default = Options()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--contacts", type=int, default=default.contacts)
    parser.add_argument("--kills", type=int, default=default.kills)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--runs", type=int, default=1, help="so many times, each with the next seed")
    parser.add_argument("--wait", type=int, default=default.wait_seconds, help="seconds that the journey waits")
    parser.add_argument("--spread", type=float, default=default.spread_seconds, help="seconds in which contacts begin")
    parser.add_argument("--keep", type=Path, help="keep data and logs in this new folder")
    given = parser.parse_args()
    options = Options(
        contacts=given.contacts,
        kills=given.kills,
        seed=given.seed,
        wait_seconds=given.wait,
        spread_seconds=given.spread,
        keep=given.keep,
    )
    return options, given.runs


def _table(result: Result) -> Table:
    title = f"seed {result.options.seed}: {len(result.judgement.defects)} defects in {result.seconds:.0f} s"
    table = Table(
        "what", "how often", title=title, title_style="bold red" if result.judgement.defects else "bold green"
    )
    for name, count in result.killed.items():
        table.add_row(f"killed: {name}", str(count))
    for name, words in FAULTS.items():
        table.add_row(f"SMTP: {words}", str(result.faults.get(name, 0)))
    table.add_section()
    for name, count in sorted(result.requests.items()):
        table.add_row(f"request: {name}", str(count))
    table.add_section()
    for name, count in sorted(result.judgement.counts.items()):
        table.add_row(name, f"{count:,}")
    table.add_row("settled after the last kill", f"{result.settled_after:.0f} s")
    return table


if __name__ == "__main__":
    sys.exit(main())
