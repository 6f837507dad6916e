"""Whom the router leaves alone for a while, because it was told, or could not be told, just now."""

import time
from collections.abc import Hashable
from typing import Any

_LONGEST = 3600.0


class Rests:
    """Everybody is left alone for twice as long every time: a workflow's history keeps what it is told, and usually it
    is only the worker that is away."""

    def __init__(self, shortest: float) -> None:
        """`shortest` is how long in seconds somebody is left alone the first time."""
        self._shortest = shortest
        self._until: dict[Hashable, tuple[float, float]] = {}

    def now(self) -> list[Any]:
        """Those who are to be left alone."""
        at = time.monotonic()
        self._until = {who: rest for who, rest in self._until.items() if rest[0] > at - _LONGEST}
        return [who for who, (until, _) in self._until.items() if until > at]

    def give(self, who: Hashable) -> None:
        """Leave somebody alone for a while."""
        _, before = self._until.get(who, (0.0, self._shortest / 2))
        rest = min(2 * before, _LONGEST)
        self._until[who] = (time.monotonic() + rest, rest)
