"""What the contract suite needs of each kind of provider: a real server of that kind that misbehaves as it is told,
and, where the kind reports by webhook, the way to make its hooks. One file in this folder for each kind."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from channels.provider import Hook, Letter, ReportKind


class Mood(StrEnum):
    """How the other side behaves."""

    ACCEPT = "accept"
    REJECT = "reject"  # never this message
    THROTTLE = "throttle"  # later; with a time, where its protocol has a word for that
    REFUSE = "refuse"  # nobody listens
    UNREACHABLE = "unreachable"  # no connection comes about, and nobody says why
    SILENT = "silent"  # connects and says nothing at all
    DROP = "drop"  # hangs up before it has the message
    HANG = "hang"  # takes the message and never answers
    HALF_CLOSE = "half-close"  # takes the message and closes its side
    HANG_UP = "hang up"  # takes the message and hangs up instead of answering
    GARBAGE = "garbage"  # takes the message and answers nonsense


TAKES = frozenset({Mood.ACCEPT, Mood.HANG, Mood.HALF_CLOSE, Mood.HANG_UP, Mood.GARBAGE})
"""The moods in which the other side may have the message."""


@dataclass
class Server:
    """The other side."""

    url: str
    """Of the provider, with timeouts of a second."""
    mood: Mood
    taken: int = 0
    """Messages that it has in full."""
    counts: bool = True
    """Whether anybody is there to count them."""
    has_taken: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> None:
        """Count a message that has arrived in full."""
        self.taken += 1
        self.has_taken.set()


@contextmanager
def unreachable() -> Iterator[int]:
    """A port at which connecting hangs: its queue is full, and nobody takes from it."""
    with ExitStack() as open_sockets:
        listening = open_sockets.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):  # one fits in; the kernel answers nobody else
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@dataclass(frozen=True)
class Hooks:
    """How a kind reports."""

    make: Callable[[str, UUID, str], Hook]
    """A signed webhook that says a word about a message, as the event of an id."""
    words: Mapping[str, ReportKind]
    """Its words and what they mean to us."""
    url: str
    """Of the provider, with what it takes to check its signatures."""
    forge: Callable[[Hook], Hook]
    """The webhook as somebody would send it who does not know the secret."""
    unknown: str = "some_new_word"
    """One that is not in its documentation."""
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    """What has to hold while its webhooks are read."""


def letter(number: int) -> Letter:
    """A letter to somebody."""
    return Letter(
        UUID(int=number + 1), "Export <news@export.example>", f"anna{number}@shop.example", f"Letter {number}",
        "<p>Hello</p>", "Hello",
    )  # fmt: skip


@dataclass(frozen=True)
class Adapter:
    """A kind of provider under test."""

    schemes: tuple[str, ...]
    """Those of the registry that it stands for."""
    serve: Callable[[Mood], AbstractAsyncContextManager[Server]]
    retry_after: timedelta | None = None
    """What THROTTLE says, where the protocol has a word for it."""
    message: Callable[[int], Any] = letter
    """Makes a message of its channel."""
    hooks: Hooks | None = None
    greets: bool = False
    """Whether the other side speaks first, and says before the message that it may come. Otherwise it may have a
    message of which it says nothing at all."""
    moods: Sequence[Mood] = tuple(Mood)
    """Those of its other side; a kind that has none only accepts."""


Serving = AsyncIterator[Server]
