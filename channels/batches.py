"""What the messages of a batch have in common, and what the caps need to know of each."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec


@dataclass(frozen=True)
class Batch:
    """What the messages of a batch have in common."""

    channel: str
    purpose: str
    version_id: int
    step: int
    at: datetime
    """message.created_at of all of them."""
    address: str | None = None
    """Where all of them go, if that is no address of the contact's: the host of a webhook."""
    sender: str | None = None
    """As the template has it; None where it names none."""


class Member(msgspec.Struct, frozen=True, gc=False):
    """One message of the batch."""

    enrollment_id: int
    message_id: UUID
    contact_id: int
    address: str | None
    per_week: int | None
    """The contact's own limit."""
