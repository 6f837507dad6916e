"""What the engine asks of the channels and what it is told: plain data that travels through Temporal as JSON."""

from dataclasses import dataclass, field
from datetime import datetime

from channels.policy import NO_RULES, Rules
from channels.spending import Budget


@dataclass(frozen=True, slots=True)
class Item:
    """One message to be: which enrollment, and at which of its visits. The message's id follows from both."""

    enrollment_id: int
    visit: int


@dataclass(frozen=True)
class PrepareRequest:
    """A batch of tokens that stand on the same send step."""

    version_id: int
    step: int
    channel: str
    template: str
    purpose: str
    """`transactional` needs no consent; anything else does, for the channel and this purpose."""
    priority: str
    at: datetime
    """When the batch was made; the same on every retry. It becomes message.created_at."""
    items: list[Item]
    rules: Rules = NO_RULES
    budget: Budget | None = None
    """What the journey's messages may cost together."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to happen to one item of a prepared batch."""

    enrollment_id: int
    action: str
    """`deliver` (hand to `provider`), `skip` (never, for `reason`) or `delay` (ask again at `until`)."""
    provider: str | None = None
    until: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True)
class DeliverRequest:
    """The items of a prepared batch that one provider carries."""

    provider: str
    at: datetime
    """The same as in the PrepareRequest."""
    items: list[Item]
    repeat_in_doubt: bool
    """Whether a message that a crash left in doubt is sent again."""
    rules: Rules = NO_RULES
    """The same as in the PrepareRequest."""
    journey_id: int | None = None
    """Whose messages they are: nothing leaves while it is paused, or once it was stopped."""


@dataclass(frozen=True)
class Delivered:
    """The final word on each item: enrollment id to `accepted`, `failed`, `in_doubt` or `skipped`."""

    states: dict[int, str]
    moved: dict[str, list[int]] = field(default_factory=dict)
    """The enrollments whose messages another provider carries now, by its name; they have no word yet."""
