"""What the benchmarks share: a whole stack of its own, and the figures as the last line."""

import asyncio
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
