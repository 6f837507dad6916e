"""The programs that send events: each request again, with the same event ids, until it is acknowledged."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.story import Person

_PAUSE = 0.3


@dataclass
class Poster:
    """Posts events over HTTP and keeps what was acknowledged."""

    http: httpx.AsyncClient
    acknowledged: dict[str, float] = field(default_factory=dict)
    """Event id to the time (of time.time) of its acknowledgement."""
    tries: Counter[str] = field(default_factory=Counter)
    """What became of requests."""
    refused: list[str] = field(default_factory=list)

    async def play(self, person: Person, begun: float) -> None:
        """Send what a contact does, at its times."""
        await asyncio.sleep(max(0.0, begun + person.at - time.monotonic()))
        await self.post(person.opening())
        answer = person.answer()
        if answer:
            await asyncio.sleep(person.answers_after)
            await self.post(answer)

    async def post(self, events: Sequence[dict[str, Any]]) -> None:
        """Send events until they are acknowledged, however often that takes."""
        while True:
            try:
                answer = await self.http.post("/v1/events", json={"events": list(events)})
            except httpx.TransportError as error:
                self.tries[type(error).__name__] += 1
            else:
                self.tries[str(answer.status_code)] += 1
                if answer.status_code == 202:
                    self._note(answer.json()["events"])
                    return
                if answer.status_code < 500:
                    self.refused.append(f"{answer.status_code} {answer.text[:300]}")
                    return
            await asyncio.sleep(_PAUSE)

    def _note(self, fates: Sequence[dict[str, Any]]) -> None:
        for fate in fates:
            if fate["status"] in {"accepted", "duplicate"}:
                self.acknowledged[fate["id"]] = time.time()
            else:
                self.refused.append(str(fate))
