"""Ending a command that stays up: Ctrl-C and SIGTERM cancel its work, which then cleans up."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


async def until_told(work: Coroutine[Any, Any, None]) -> bool:
    """Do something until it ends, or until Ctrl-C or SIGTERM; then it is cancelled and may clean up.

    Returns:
        Whether it was told to end.
    """
    task = asyncio.ensure_future(work)
    told = False

    def tell() -> None:
        nonlocal told
        told = True
        task.cancel()

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(one, tell)
    try:
        await task
    except asyncio.CancelledError:
        if not told:
            raise
    return told
