"""A PostgreSQL of its own for one task, gone afterwards: `python -m studio.stack.scratch python -m module`.

The command is run with the URL of an empty database added to its end. Tests use `scratch_server` too.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from studio.stack.postgres import EmbeddedPostgres
from studio.stack.process import Account, free_port

FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "2GB"}
"""Settings for data that nobody minds losing."""


@asynccontextmanager
async def scratch_server(options: Mapping[str, str]) -> AsyncIterator[EmbeddedPostgres]:
    """Run a server in a temporary folder for as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="kaskad-"))
    account = Account.named("nobody") if os.geteuid() == 0 else None
    server = EmbeddedPostgres(folder, free_port(), folder / "logs" / "postgres.log", account=account, options=options)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        shutil.rmtree(folder)


async def _main() -> int:
    async with scratch_server(FORGETFUL) as server:
        done = await asyncio.to_thread(
            subprocess.run,
            [*sys.argv[1:], server.url],
            check=False,
        )
        return done.returncode


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
