"""The provider boundary: what a provider is given, what it answers, and how it fails.

A provider takes letters and answers with one receipt each. It never decides whether a letter may be sent (the policy
did), never writes to the ledger (delivery does) and never raises for a letter's own fate: `Outcome` is for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from core.errors import Unavailable


class Outcome(StrEnum):
    """What became of one letter at the moment of handing over."""

    ACCEPTED = "accepted"  # the provider took it
    REJECTED = "rejected"  # it never will
    DEFERRED = "deferred"  # not now, and surely not taken: safe to try again
    UNKNOWN = "unknown"  # nobody knows; the connection went away after the last byte, say


@dataclass(frozen=True, slots=True)
class Receipt:
    """A provider's first answer about one letter."""

    outcome: Outcome
    provider_message_id: str | None = None
    reason: str = ""
    """In the provider's words, shortened by delivery; for every outcome but ACCEPTED."""
    retry_after: timedelta | None = None
    """When a DEFERRED letter may be tried again, where the provider says so."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One email, ready to be put on the wire.

    `sender` and `recipient` are header-ready: `sender` is `Name <address>` or an address, `recipient` a bare address.
    `subject` and the values of `headers` hold no line breaks. `headers` carries List-Unsubscribe and its like; the
    provider makes Date, Message-ID (from `message_id`), From, To, Subject and the MIME headers itself.
    """

    message_id: UUID
    sender: str
    recipient: str
    subject: str
    html: str
    text: str
    headers: dict[str, str] = field(default_factory=dict)


class EmailProvider(Protocol):
    """Someone who carries email. One instance serves a whole worker process and keeps its connections open."""

    async def hand_over(self, letters: Sequence[Letter]) -> list[Receipt]:
        """Hand the letters over and give one receipt each, in the same order.

        Concurrency, pooling and per-domain limits live inside. Letters that were not tried at all, because the
        server does not answer, are DEFERRED. When cancelled, it stops starting new letters and lets the
        cancellation through; delivery then holds the letters without a receipt in doubt.
        """
        ...

    async def check(self) -> None:
        """Connect, encrypt and sign in.

        Raises:
            Misconfigured: the settings cannot work (wrong password, bad certificate), said in words.
            Unavailable: the server does not answer now.
        """
        ...

    async def close(self) -> None:
        """Give the connections back. Called once; nothing is handed over afterwards."""
        ...


class NotNow(Unavailable):
    """Nothing more of a delivery can move at present: a rate limit, a pause, or a provider that is down."""

    def __init__(self, why: str, retry_after: timedelta, settled: frozenset[int] = frozenset()) -> None:
        super().__init__(why)
        self.retry_after = retry_after
        self.settled = settled
        """The enrollments of the delivery whose messages have their final word."""
