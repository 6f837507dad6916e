"""`python -m tests.chaos.recovery`: how long a part that is killed keeps people waiting.

At the moment of the kill an event is sent (and sent again until it is acknowledged); it begins a journey with one
letter. Two times are measured from the kill: until the event is acknowledged, and until its letter is at the SMTP sink.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from core.logs import configure
from core.settings import Settings
from tests.chaos import play
from tests.chaos.client import Poster
from tests.chaos.killer import MORE, Killer
from tests.chaos.sink import Sink
from tests.chaos.story import Person

console = Console(stderr=True)
_CALM_SECONDS = 8.0
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Wait:
    """What one kill cost, in seconds."""

    acknowledged: float
    letter: float


async def measure(times: int) -> dict[str, list[Wait]]:
    """Kill each part so many times, in a calm stack."""
    found: dict[str, list[Wait]] = {"nothing": [], **{part: [] for part in MORE}}
    people = [Person(number, "silent", "Kazan", True, 0, 0, True) for number in range(1, times * len(found) + 1)]
    sink = Sink(random.Random(1))
    async with sink, play.installation(sink) as (stack, database):
        key = await play.fill(database, people, wait_seconds=3600)
        poster = play.poster(stack, key, len(people))
        killer = Killer(stack, random.Random(2))
        async with poster.http:
            for _ in range(times):
                for part, waits in found.items():
                    waits.append(await _one(killer, poster, sink, part, people.pop()))
                    console.log(f"{part}: {waits[-1]}")
    return found


async def _one(killer: Killer, poster: Poster, sink: Sink, part: str, person: Person) -> Wait:
    await asyncio.sleep(_CALM_SECONDS)  # until the pools are full again and nobody waits for a next attempt
    letters = len(sink.letters)
    begun = time.monotonic()
    if part != "nothing":
        await killer.kill(part)
    await poster.post(person.opening())
    acknowledged = time.monotonic() - begun
    while True:
        waited = time.monotonic() - begun
        if len(sink.letters) >= letters + 2:
            return Wait(acknowledged, waited)
        if waited > _PATIENCE_SECONDS:
            raise SystemExit(f"no letter {waited:.0f} s after {part} was killed")
        await asyncio.sleep(0.01)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.recovery", description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    configure(Settings(log_level="critical"))
    found = asyncio.run(measure(parser.parse_args().times))
    table = Table("killed", "event acknowledged after (s)", "letter at the sink after (s)")
    for part, waits in found.items():
        row = [[wait.acknowledged for wait in waits], [wait.letter for wait in waits]]
        table.add_row(part, *(f"{statistics.median(one):.1f} (at most {max(one):.1f})" for one in row))
    console.print(table)
    plain = {part: [(round(w.acknowledged, 2), round(w.letter, 2)) for w in waits] for part, waits in found.items()}
    sys.stdout.write(json.dumps(plain) + "\n")


if __name__ == "__main__":
    main()
