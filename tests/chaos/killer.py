"""Kills parts of a running stack without warning, as a crash does."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from studio.stack.process import is_alive
from studio.stack.supervisor import Stack

PARTS = ("worker", "router", "api", "temporal", "postgres")
MORE = (*PARTS, "backend", "everything")
"""`backend` is one of PostgreSQL's processes, whose death makes the server throw everybody out and recover;
`everything` is all parts at the same moment."""


@dataclass
class Killer:
    """Kills, and counts."""

    stack: Stack
    dice: random.Random
    killed: Counter[str] = field(default_factory=Counter)

    async def rage(self, kills: int, pause: tuple[float, float], say: Callable[[str], None]) -> None:
        """Kill so many times, each part at least once if there are enough, with a random pause before each."""
        first = list(PARTS)
        self.dice.shuffle(first)
        victims = [*first, *(self.dice.choice(MORE) for _ in range(kills))][:kills]
        self.dice.shuffle(victims)
        for victim in victims:
            await asyncio.sleep(self.dice.uniform(*pause))
            async with asyncio.timeout(120):
                await self.kill(victim)
            say(f"killed {victim} ({self.killed.total()} of {kills})")

    async def kill(self, victim: str) -> None:
        """SIGKILL to a part, with all of its children; waits until the part runs if it does not."""
        if victim == "backend":
            await self._kill_backend()
        else:
            names = PARTS if victim == "everything" else (victim,)
            pids = [pid for name in names for pid in await self._pids(name)]
            for pid in pids:
                _kill(pid)
        self.killed[victim] += 1

    async def _pids(self, name: str) -> list[int]:
        part = next(part for part in self.stack.parts if part.name == name)
        while True:
            if part.pid is not None:
                return [part.pid, *children(part.pid)]
            await asyncio.sleep(0.05)

    async def _kill_backend(self) -> None:
        while True:
            _, *backends = await self._pids("postgres")
            if backends:
                _kill(self.dice.choice(backends))
                return
            await asyncio.sleep(0.05)


def children(parent: int) -> list[int]:
    """The processes that a process started and that still run."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError, IndexError):
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(folder.name))
    return [pid for pid in found if is_alive(pid)]


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
