"""The provider boundary: what a provider is given, what it answers, what it reports later, and how it fails.

A provider takes messages and answers with one receipt each. It never decides whether a message may be sent (the policy
did), never writes to the ledger (delivery does) and never raises for a message's own fate: `Outcome` is for that.

What becomes of a message afterwards it tells in its own words and in its own time: webhooks, bounces, receipts of an
SMSC. A pure parser turns each into `Report`s; `channels.reports` writes them down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol, TypeVar
from uuid import UUID

from core.errors import NotAllowed, Unavailable


class Outcome(StrEnum):
    """What became of one message at the moment of handing over."""

    ACCEPTED = "accepted"  # the provider took it
    REJECTED = "rejected"  # it never will
    DEFERRED = "deferred"  # not now, and surely not taken: safe to try again
    UNKNOWN = "unknown"  # nobody knows; the connection went away after the last byte, say


@dataclass(frozen=True, slots=True)
class Receipt:
    """A provider's first answer about one message."""

    outcome: Outcome
    provider_message_id: str | None = None
    reason: str = ""
    """In the provider's words, shortened by delivery; for every outcome but ACCEPTED."""
    retry_after: timedelta | None = None
    """When a DEFERRED message may be tried again, where the provider says so."""
    elsewhere: bool = False
    """For REJECTED: whether the refusal is this provider's own (no credit, no route, a blocked sender), so that
    another provider may carry the message. A refusal because of the address or the content is not."""
    no_such_address: bool = False
    """For REJECTED: whether the provider says that there is no such recipient. That is a bounce for good which came at
    once: the address is suppressed."""
    held: bool = False
    """For DEFERRED: a limit of our own kept the message here; it says nothing about the provider."""
    parts: int = 1
    """Messages on the bill: a long SMS is several."""
    cost: Decimal | None = None
    """Where the provider names it; in the currency of its prices."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a letter."""

    name: str
    content_type: str
    content: bytes = field(repr=False)
    content_id: str | None = None
    """Of a picture that the HTML shows as `cid:…`; None for a file to open."""


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
    return_path: str | None = None
    """The envelope's sender, where bounces go; None leaves it to the provider."""
    attachments: tuple[Attachment, ...] = ()

    @property
    def parts(self) -> int:
        """A letter is one, however long."""
        return 1


class Message(Protocol):
    """What the messages of every channel have; those of email are `Letter`s."""

    @property
    def message_id(self) -> UUID:
        """Ours."""
        ...

    @property
    def parts(self) -> int:
        """How many it counts for at the provider, in limits and on the bill; a long SMS is several, as `channels.parts`
        counts them."""
        ...


M_contra = TypeVar("M_contra", bound=Message, contravariant=True)
"""The messages of a channel: `Letter` and its like."""


class Provider(Protocol[M_contra]):
    """Someone who carries messages of one channel. One instance serves a whole worker process and keeps its
    connections open."""

    async def hand_over(self, messages: Sequence[M_contra]) -> list[Receipt]:
        """Hand the messages over and give one receipt each, in the same order.

        Concurrency, pooling and limits of the other side live inside. Messages that were not tried at all, because
        the other side does not answer, are DEFERRED. When cancelled, it stops starting new ones and lets the
        cancellation through; delivery then holds the messages without a receipt in doubt.
        """
        ...

    async def check(self) -> None:
        """Connect, encrypt and sign in.

        Raises:
            Misconfigured: the settings cannot work (wrong password, bad certificate), said in words.
            Unavailable: the other side does not answer now.
        """
        ...

    async def close(self) -> None:
        """Give the connections back. Called once; nothing is handed over afterwards."""
        ...


EmailProvider = Provider[Letter]
AnyProvider = Provider[Any]
"""Of whatever channel: delivery gives each the messages of its own."""


class ReportKind(StrEnum):
    """What a provider says later about a message, in our words."""

    DELIVERED = "delivered"  # it arrived
    DEFERRED = "deferred"  # it is on its way and late
    SOFT_BOUNCED = "soft_bounced"  # it came back, and the next one may not
    BOUNCED = "bounced"  # it came back for good
    COMPLAINED = "complained"  # the recipient called it spam
    UNSUBSCRIBED = "unsubscribed"  # by the provider's own link or list
    OPENED = "opened"
    CLICKED = "clicked"
    ANSWERED = "answered"  # a reply, a text back
    PRESSED = "pressed"  # a key of the telephone
    UNKNOWN = "unknown"  # a word that the table does not know; kept for people to read


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that a provider says about one message."""

    kind: ReportKind
    key: str
    """What makes it this very report: the provider's id of the event, or a digest of what does not change when it is
    told again. A key that came before changes nothing."""
    at: datetime
    message_id: UUID | None = None
    """Ours, which it was handed over with; or None, then the provider's own finds the message."""
    provider_message_id: str | None = None
    recipient: str | None = None
    reason: str = ""
    """In the provider's words."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the kind has besides: `url` of a click, `text` of an answer, `digits`, `machine` (no human did it)."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook of a provider, as it came. Header names are lower case."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    received_at: datetime


class Forged(NotAllowed):
    """A webhook whose signature is missing, wrong or too old."""


class ReportParser(Protocol):
    """Reads a provider's webhooks."""

    async def __call__(self, url: str, hook: Hook) -> list[Report]:
        """What the webhook says.

        Args:
            url: the provider's URL with its secrets, as it was added.
            hook: as it came.

        Raises:
            Forged: the signature does not hold. It is compared in constant time.
            InvalidInput: this is not what the provider sends.
        """
        ...


class NotNow(Unavailable):
    """Nothing more of a delivery can move at present: a rate limit, a pause, or a provider that is down."""

    def __init__(
        self,
        why: str,
        retry_after: timedelta,
        settled: frozenset[int] = frozenset(),
        moved: Mapping[str, list[int]] = MappingProxyType({}),
    ) -> None:
        super().__init__(why)
        self.retry_after = retry_after
        self.settled = settled
        """The enrollments of the delivery whose messages have their final word."""
        self.moved = moved
        """Those whose messages another provider carries now, by its name."""
