"""What a process does every few seconds beside its work, and goes on doing whatever happens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from core.errors import KaskadError

Duty = Callable[[], Awaitable[float | None]]
"""One turn of it. It may give the seconds until the next one, where those are not always the same."""

_SOONEST, _LATEST = 1.0, 30.0
"""Seconds until a duty that failed is tried again: at first, and at most after it failed many times."""
_log = structlog.get_logger()


async def repeat(
    duty: Duty, every: float, *, name: str = "", stop: asyncio.Event | None = None, wait_first: bool = False
) -> None:
    """Do a duty again and again, one turn after the other, until `stop` is set or the task is cancelled.

    A turn that fails is logged and tried again, later each time: what Kaskad says in its own words as a warning,
    anything else as an error with its traceback, since it is a defect. Neither ends the duty, for nobody would begin it
    again; a duty whose failure has to end something must not be done by this.

    Args:
        duty: one turn.
        every: seconds between the end of a turn and the next; what a turn gives takes its place.
        name: what logs call it; the function's name if empty.
        stop: ends the pauses too; a turn under way is finished.
        wait_first: begin with a pause.
    """
    stop = stop or asyncio.Event()
    name = name or getattr(duty, "__name__", type(duty).__name__)
    failures = 0
    if wait_first:
        await _pause(stop, every)
    while not stop.is_set():
        try:
            given = await duty()
        except Exception as error:  # noqa: BLE001 - see above: logged in full, and nothing else would go on with it
            failures += 1
            seconds = min(_LATEST, _SOONEST * 2 ** min(failures - 1, 10))
            _tell(error, duty=name, failures=failures, again_in=seconds)
        else:
            failures, seconds = 0, every if given is None else given
        await _pause(stop, seconds)


@asynccontextmanager
async def repeating(
    duty: Duty, every: float, *, name: str = "", stop: asyncio.Event | None = None, wait_first: bool = False
) -> AsyncIterator[None]:
    """Repeat a duty while the block lasts; its end cancels the turn under way and waits until that has ended."""
    task = asyncio.create_task(repeat(duty, every, name=name, stop=stop, wait_first=wait_first))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _tell(error: Exception, **details: object) -> None:
    if isinstance(error, KaskadError):
        _log.warning("will try again", error=str(error), **details)
    else:
        _log.error("failed, will try again", exc_info=error, **details)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), max(0.0, seconds))
