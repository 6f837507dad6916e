"""What the benchmarks share: a whole stack of its own, and the figures as the last line."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from core.database import Database
from core.settings import Settings
from studio.stack.supervisor import Stack, running_stack

console = Console(stderr=True)


def report(benchmark: str, figures: dict[str, float]) -> None:
    """Print the figures as one line of JSON, the last of the benchmark's output."""
    rounded = {name: round(value, 3) for name, value in figures.items()}
    sys.stdout.write(json.dumps({"benchmark": benchmark, "figures": rounded}) + "\n")


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """The processor time, in seconds, that each part of the stack has used so far, its children included. On a machine
    that others use too it says more than the clock."""
    tick = os.sysconf("SC_CLK_TCK")
    used: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        pid = int(entry.name)
        # utime, stime, and those of children that were waited for: fields 14 to 17 of proc_pid_stat(5)
        used[pid] = sum(int(value) for value in fields[11:15]) / tick
        children.setdefault(int(fields[1]), []).append(pid)

    def whole(pid: int) -> float:
        return used.get(pid, 0.0) + sum(whole(child) for child in children.get(pid, ()))

    return {part.name: whole(part.pid) for part in stack.parts if part.pid}


def memory_mb(root: int) -> float:
    """What a process and its descendants take, in MB: pages that they share count once (PSS, proc_pid_smaps(5)).

    Processes whose pages may not be looked at are left out.
    """
    children: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
        except OSError:  # it has ended meanwhile
            continue

    def whole(pid: int) -> int:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            sizes[pid] = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return sizes.get(pid, 0) + sum(whole(child) for child in children.get(pid, ()))

    return whole(root) / 1024


@asynccontextmanager
async def scratch_stack(**settings: Any) -> AsyncIterator[tuple[Stack, Database]]:
    """Run the whole embedded stack, with its ordinary, durable settings, in a temporary folder.

    Yields:
        The stack, and a connection to its database.
    """
    # Root's servers run as another user, who has to be able to reach their files.
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="kaskad-benchmark-"))
    os.chmod(folder, 0o755 if os.geteuid() == 0 else 0o700)
    try:
        async with running_stack(Settings(data=folder / "data", port=0, **settings), say=console.log) as stack:
            database = Database(stack.settings.database or "")
            try:
                yield stack, database
            finally:
                await database.close()
    finally:
        shutil.rmtree(folder)
