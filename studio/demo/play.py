"""The demo from beginning to end: load the sample, let the visitors come, watch, and judge."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from core.database import Database
from core.errors import KaskadError, Unavailable
from core.settings import Settings
from studio.demo import figures, sample, screen
from studio.demo.client import Client
from studio.demo.screen import Figures
from studio.demo.story import JOURNEY, LONGEST, PORTAL_PATH, Story
from studio.demo.verdict import Verdict, judge
from studio.demo.visitors import Done, Visitors

_COUNT_EVERY = 0.5  # seconds
_MARGIN = 60.0  # seconds beyond what the waits take, before an unfinished story is judged as it is
_READY = 60.0  # seconds for the API to answer


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line."""

    visitors: int
    hasten: float
    """Waits are divided by this."""
    between: float
    """Seconds from one arrival to the next."""


class Play:
    """One run of the story on a running stack."""

    def __init__(self, database: Database, url: str, story: Story, key: str, wishes: Wishes) -> None:
        self._database = database
        self._story = story
        self._wishes = wishes
        self._site = Client(url)
        self._visitors = Visitors(story, Client(url, key), self._site, url, f"{url}{PORTAL_PATH}/")
        self._began = time.monotonic()

    @property
    def done(self) -> Done:
        """What the visitors did so far."""
        return self._visitors.done

    async def watch(self, show: Callable[[Figures], None], *, until_the_end: bool) -> None:
        """Let the visitors come, and show the figures again and again.

        Args:
            show: is given the figures.
            until_the_end: return when the story has ended, or took too long; else never.

        Raises:
            KaskadError: the API refused what a visitor did.
        """
        deadline = self._began + self._longest()
        async with self._playing() as playing:
            while True:
                now = await self.count()
                show(now)
                if until_the_end and (await self._is_over(now) or time.monotonic() > deadline):
                    return
                await asyncio.wait([playing], timeout=_COUNT_EVERY)
                if playing.done():
                    playing.result()

    async def count(self) -> Figures:
        """The figures of this moment."""
        async with self._database.begin() as connection:
            passed = time.monotonic() - self._began
            return await screen.count(connection, self.done.accepted, passed)

    async def judge(self) -> Verdict:
        """Compare what is kept everywhere with the story."""
        async with self._database.begin() as connection:
            return judge(self._story, self.done, await figures.gather(connection, self._site, JOURNEY))

    @asynccontextmanager
    async def _playing(self) -> AsyncIterator["asyncio.Task[None]"]:
        playing = asyncio.create_task(self._play(), name="visitors")
        try:
            yield playing
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)

    async def _play(self) -> None:
        try:
            await self._visitors.play(self._wishes.between)
        except ExceptionGroup as group:
            known, _ = group.split(KaskadError)
            while isinstance(known, ExceptionGroup):
                known = known.exceptions[0]  # type: ignore[assignment]
            raise known or group from group

    async def _is_over(self, now: Figures) -> bool:
        """Everybody has gone through, everything they meant to do is done, and no message is on its way."""
        if now.finished < len(self._story.visitors) or not self._visitors.idle:
            return False
        async with self._database.begin() as connection:
            return not await figures.under_way(connection)

    def _longest(self) -> float:
        waits = LONGEST.total_seconds() / self._wishes.hasten
        return waits + len(self._story.visitors) * self._wishes.between + _MARGIN


async def prepared(
    database: Database, settings: Settings, url: str, wishes: Wishes, story: Story, say: Callable[[str], None]
) -> Play:
    """Load the sample into a stack that has just started, and wait until its API and mailbox answer."""
    key = await sample.load(database, settings, url, story, wishes.hasten, say)
    await _ready(Client(url))
    return Play(database, url, story, key, wishes)


async def _ready(site: Client) -> None:
    deadline = time.monotonic() + _READY
    while True:
        words = await _why_not_ready(site)
        if words is None:
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"the API is not ready after {_READY:.0f} s: {words}")
        await asyncio.sleep(0.1)


async def _why_not_ready(site: Client) -> str | None:
    for path in ("/readyz", "/mailbox/api/letters?limit=1"):
        try:
            answer = await site.get(path)
        except Unavailable as error:
            return str(error)
        if answer.status != 200:
            return f"{path} answers {answer.status}"
    return None
