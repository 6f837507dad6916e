"""Turns under an SMTP provider's rate limits."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from channels.email.settings import Options
from channels.provider import NotNow

Allow = Callable[[str, int], Awaitable[timedelta]]
"""Reserves turns: a domain and how many, to the wait until the last of them may leave.

Raises NotNow, having reserved nothing, when that is further away than PATIENCE. See channels.limits.take."""

PATIENCE = timedelta(seconds=2)


class OwnTurns:
    """The limits of one process, for a provider that was opened without those that all workers share."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._free_at: dict[str, float] = {}

    async def take(self, name: str, count: int) -> timedelta:
        """See `Allow`. The generic cell rate algorithm, as in channels.limits, on the loop's clock."""
        rate = self._options.domain_per_second
        if rate is None:
            return timedelta()
        now = asyncio.get_running_loop().time()
        free_at = max(self._free_at.get(name, now), now)
        wait = timedelta(seconds=free_at - now + (count - 1) / rate)
        if wait > PATIENCE:
            raise NotNow(f"the limit of {rate:g} a second for {name} is used up", wait - PATIENCE)
        self._forget(now)
        self._free_at[name] = free_at + count / rate
        return wait

    def _forget(self, now: float) -> None:
        """Names whose time is past need no entry."""
        if len(self._free_at) > 10_000:
            self._free_at = {name: at for name, at in self._free_at.items() if at > now}
