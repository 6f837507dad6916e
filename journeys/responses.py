"""How people answer, for simulation: `opened=0.3,clicked=0.05@1h-6h,application.status_changed=0.2@3h`.

An answer is drawn from a hash, not from a stream of random numbers: whether a contact answers, and when, follows from
the seed, the contact, the step and the visit alone. So the order in which contacts are simulated changes nothing.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import InvalidInput, Problem
from segments import words

PREFIX = "message."
SHORT = ("opened", "clicked", "bounced", "unsubscribed")
"""May be written without `message.`. They are drawn for each message, everything else for each wait."""

_ENTRY = re.compile(r"(?P<event>[^=@,\s]{1,200})=(?P<share>[0-9.]{1,12})(?P<percent>%?)(?:@(?P<delay>[^,]{1,50}))?")
_USUAL_MEDIAN = 4 * 3600.0
_LIMIT = 50


@dataclass(frozen=True)
class Response:
    """How likely an event is, and how long it takes."""

    event: str
    probability: float
    shortest: float = 0.0
    """Seconds."""
    longest: float | None = None
    """Evenly between the two; None: half of the answers come within `median`, then half of the rest, and so on."""
    median: float = _USUAL_MEDIAN

    @property
    def of_messages(self) -> bool:
        """Whether it answers a message; otherwise it answers a wait."""
        return self.event.startswith(PREFIX)

    def delay(self, point: float) -> float:
        """The seconds until the answer, for a point between 0 and 1."""
        if self.longest is not None:
            return self.shortest + (self.longest - self.shortest) * point
        return -math.log2(1 - point) * self.median

    def words(self) -> str:
        """How long it takes, in words."""
        if self.longest is None:
            return f"half of them within {words.said(self.median)}"
        if self.longest == self.shortest:
            return f"after {words.said(self.shortest)}"
        return f"after {words.said(self.shortest)} to {words.said(self.longest)}"


Responses = Mapping[str, Response]
"""Event name to how people answer with it."""


def parse(text: str) -> dict[str, Response]:
    """Read a response model.

    Args:
        text: entries `EVENT=SHARE[@DELAY]`, with commas between. A share is from 0 to 1, or a percentage. A delay is
            `3h` (half of the answers within three hours), `1h-6h` (evenly between) or `=3h` (exactly).

    Raises:
        InvalidInput: naming every entry that cannot be read.
    """
    found: dict[str, Response] = {}
    problems: list[Problem] = []
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if len(entries) > _LIMIT:
        raise InvalidInput(Problem(f"more than {_LIMIT} responses", "leave out those that no step waits for"))
    for entry in entries:
        match = _ENTRY.fullmatch(entry)
        share = _share(match["share"], bool(match["percent"])) if match else None
        times = _times(match["delay"]) if match else None
        if match is None or share is None or times is None:
            problems.append(Problem(f"{entry!r} is not a response", "write clicked=0.05 or order.paid=20%@3h"))
            continue
        event = PREFIX + match["event"] if match["event"] in SHORT else match["event"]
        if event in found:
            problems.append(Problem(f"{event} stands twice", "keep one of them"))
        found[event] = Response(event, share, *times)
    if problems:
        raise InvalidInput(*problems)
    return found


def chance(seed: int, contact: int, step: int, visit: int, what: str) -> tuple[float, float]:
    """Two points from 0 to just under 1 that belong to a seed, a contact and a visit: whether, and when."""
    digest = hashlib.blake2b(b"%d:%d:%d:%d:" % (seed, contact, step, visit) + what.encode(), digest_size=14).digest()
    # 53 bits are what a float holds: more would round up to 1.
    return (int.from_bytes(digest[:7], "big") >> 3) / 2**53, (int.from_bytes(digest[7:], "big") >> 3) / 2**53


def _share(text: str, percent: bool) -> float | None:
    try:
        share = float(text) / (100 if percent else 1)
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None


def _times(text: str | None) -> tuple[float, float | None, float] | None:
    """Shortest, longest and median."""
    if text is None:
        return 0.0, None, _USUAL_MEDIAN
    if text.startswith("="):
        exact = _seconds(text[1:])
        return None if exact is None else (exact, exact, exact)
    low, dash, high = text.partition("-")
    first, last = _seconds(low), _seconds(high) if dash else None
    if first is None or (dash and (last is None or last < first)):
        return None
    return (first, last, first) if dash else (0.0, None, first)


def _seconds(text: str) -> float | None:
    length = words.duration(text.strip())
    return None if length is None or length > words.LONGEST else length.total_seconds()
