"""Figures that are kept for a while, so that what they cost does not depend on how many people look."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from core.clock import now

T = TypeVar("T")

SHORTEST = 1.0
"""Seconds that a figure is kept at least."""
TIMES = 20
"""A figure is kept this many times as long as it took to count: counting takes at most a twentieth of a connection."""
_MOST = 100


@dataclass(frozen=True)
class Counted(Generic[T]):
    """A figure, and when its counting began."""

    figures: T
    at: datetime
    until: float
    """By the clock of `Kept`: when it is counted anew."""


class Kept:
    """One process's figures by name. One is counted at a time, while whoever wants a new one waits for it.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._figures: OrderedDict[Hashable, Counted[Any]] = OrderedDict()
        self._lock = asyncio.Lock()

    async def get(self, name: Hashable, count: Callable[[], Awaitable[T]]) -> Counted[T]:
        """The figure of this name, counted anew if the one at hand is too old. What `count` raises is not kept."""
        if (present := self._present(name)) is not None:
            return present
        async with self._lock:
            if (present := self._present(name)) is not None:  # whoever had the lock wanted the same
                return present
            at, begun = now(), self._clock()
            figures = await count()
            done = self._clock()
            made = Counted(figures, at, done + max(SHORTEST, TIMES * (done - begun)))
            self._figures[name] = made
            self._figures.move_to_end(name)
            if len(self._figures) > _MOST:
                self._figures.popitem(last=False)
            return made

    def _present(self, name: Hashable) -> Counted[Any] | None:
        present = self._figures.get(name)
        return present if present is not None and self._clock() < present.until else None
