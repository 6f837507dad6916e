"""Playing the visitors: they send events through the API, read their letters in the mailbox, and follow the links."""

import asyncio
import html
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from core.clock import now
from core.errors import Conflict, Unavailable
from studio.demo.client import Client
from studio.demo.story import Act, Habit, Story, Visitor

_log = structlog.get_logger("kaskad.demo")
_LOOK_EVERY = 0.3  # seconds between two looks into the mailbox
_PAGE = 200
_LINK = re.compile(r'<a\b[^>]*\bhref="([^"]+)"', re.IGNORECASE)
_PICTURE = re.compile(r'<img\b[^>]*\bsrc="([^"]+)"', re.IGNORECASE)


@dataclass
class Done:
    """What the visitors have done so far."""

    saved: int = 0
    submitted: int = 0
    changed: int = 0
    opened: int = 0
    clicked: int = 0
    acted_at: dict[str, datetime] = field(default_factory=dict)
    """By external id: when the last thing that a visitor did beyond saving the draft was acknowledged."""
    letters_read: set[int] = field(default_factory=set)
    """Ids of the letters that were looked at."""

    @property
    def accepted(self) -> int:
        """Events that the API has acknowledged."""
        return self.saved + self.submitted + self.changed


class Visitors:
    """Plays a story against a running stack."""

    def __init__(self, story: Story, api: Client, site: Client, url: str, landing: str) -> None:
        """
        Args:
            story: who does what.
            api: with a key for events:write.
            site: without one, as visitors are.
            url: where the installation is; letters link there.
            landing: what the address begins with that the letters' main link leads to.
        """
        self._story = story
        self._api = api
        self._site = site
        self._url = url.rstrip("/")
        self._landing = landing
        self._first_letters: set[str] = set()
        self._busy = 0
        self._to_come = len(story.visitors)
        self.done = Done()

    @property
    def idle(self) -> bool:
        """Whether everybody has come, and nobody is in the middle of doing something."""
        return not self._to_come and not self._busy

    async def play(self, seconds_between: float) -> None:
        """Let everybody come and react to letters. Runs until it is cancelled.

        Args:
            seconds_between: from one arrival to the next.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._arrive(group, seconds_between))
            group.create_task(self._read_letters(group))

    async def _arrive(self, group: asyncio.TaskGroup, seconds_between: float) -> None:
        for visitor in self._story.visitors:
            self._begin(group, self._come(visitor))
            self._to_come -= 1
            await asyncio.sleep(seconds_between)

    def _begin(self, group: asyncio.TaskGroup, doing: Coroutine[Any, Any, None]) -> None:
        self._busy += 1
        group.create_task(doing).add_done_callback(lambda _: self._end())

    def _end(self) -> None:
        self._busy -= 1

    async def _come(self, visitor: Visitor) -> None:
        await self._send(visitor.saved(self._landing + visitor.application_id))
        self.done.saved += 1
        if visitor.habit is Habit.AT_ONCE:
            await self._submit(visitor)

    async def _submit(self, visitor: Visitor) -> None:
        await self._send(visitor.submitted())
        self.done.submitted += 1
        self.done.acted_at[visitor.external_id] = now()

    async def _send(self, event: dict[str, Any]) -> None:
        """Report an event; again while the API is too busy, which is safe because the event has an id."""
        for _ in range(20):
            answer = await self._patiently(lambda: self._api.post("/v1/events", event))
            if answer is not None:
                return
            await asyncio.sleep(0.5)
        raise Unavailable("the API was too busy for ten seconds to take an event")

    async def _patiently(self, ask: Callable[[], Any]) -> dict[str, Any] | None:
        try:
            answer = await ask()
        except Unavailable:
            return None
        if answer.status != 202:
            raise Conflict(f"the API refused an event: {answer.status} {answer.body[:300].decode(errors='replace')}")
        result: dict[str, Any] = answer.json()
        return result

    async def _read_letters(self, group: asyncio.TaskGroup) -> None:
        """Look into the mailbox again and again; each new letter is given to whoever it is for."""
        while True:
            for summary in await self._look():
                self.done.letters_read.add(summary["id"])
                reader = self._story.reader(summary["recipient"])
                if reader is not None and reader.email not in self._first_letters:
                    self._first_letters.add(reader.email)
                    self._begin(group, self._react(reader, summary["id"]))
            await asyncio.sleep(_LOOK_EVERY)

    async def _look(self) -> list[dict[str, Any]]:
        try:
            return await self._new_letters()
        except Unavailable as error:  # the API is being started again, say; the letters wait
            _log.warning("cannot look into the mailbox, will try again", error=str(error))
            return []

    async def _new_letters(self) -> list[dict[str, Any]]:
        """Letters that were not there before, oldest first."""
        found: list[dict[str, Any]] = []
        before = ""
        while True:
            page = (await self._site.get(f"/mailbox/api/letters?limit={_PAGE}{before}")).json()["letters"]
            new = [letter for letter in page if letter["id"] not in self.done.letters_read]
            found += new
            if len(new) < _PAGE:
                return found[::-1]
            before = f"&before={page[-1]['id']}"

    async def _react(self, reader: Visitor, letter: int) -> None:
        act = reader.on_first_letter()
        if act is Act.NOTHING:
            return
        content = (await self._site.get(f"/mailbox/api/letters/{letter}")).json()["html"]
        await self._open(content)
        if act in {Act.CLICK, Act.CLICK_AND_SUBMIT}:
            await self._click(content)
            self.done.acted_at[reader.external_id] = now()
        if act in {Act.SUBMIT, Act.CLICK_AND_SUBMIT}:
            await self._submit(reader)
        if act is Act.CHANGE:
            await self._send(reader.changed())
            self.done.changed += 1
            self.done.acted_at[reader.external_id] = now()

    async def _open(self, content: str) -> None:
        """Show the letter: its pictures are fetched, as far as they are ours."""
        for address in map(html.unescape, _PICTURE.findall(content)):
            if address.startswith(self._url + "/"):
                await self._site.get(address)
                self.done.opened += 1

    async def _click(self, content: str) -> None:
        """Follow the letter's main link as far as it is ours: to the redirect."""
        for address in map(html.unescape, _LINK.findall(content)):
            if not address.startswith(self._url + "/"):
                continue
            answer = await self._site.get(address)
            target = answer.headers.get("location", "")
            if target.startswith(self._landing):
                self.done.clicked += 1
                await self._site.get(target)
                return
        raise Conflict(f"the letter has no tracked link that leads to {self._landing}")
