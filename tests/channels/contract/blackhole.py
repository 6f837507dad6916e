"""The black hole under the contract: there is no other side that could misbehave, or count."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.channels.contract.adapter import Adapter, Mood, Server


@asynccontextmanager
async def _serve(mood: Mood) -> AsyncIterator[Server]:
    yield Server("blackhole://", mood, counts=False)


ADAPTER = Adapter(("blackhole",), _serve, moods=(Mood.ACCEPT,))
