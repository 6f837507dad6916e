"""What the messages of a batch have in common, how their rows are written, and what the caps need to know of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from core.database import array_of

# A batch is younger than the table's statistics, so the planner takes its time to be rare, and thinks that there is one
# row of it. A join with the new values then compared each row with each message: 500 messages took 55 ms, and seconds
# with another plan, where they take 6. So there is no join: each row looks its values up by its id.
ROWS = "m.created_at = %(at)s and m.id = any(%(ids)s::uuid[])"
"""The rows of a batch that a statement is about."""
NEW = "(%(new)s::jsonb -> m.id::text)"
"""What `written` was given for a row, in statements with ROWS: an object."""


def written(at: datetime, new: Mapping[UUID, Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters of statements with ROWS and NEW.

    Args:
        at: message.created_at of the rows.
        new: by row, what is to be written on it.
    """
    return {"at": at, "ids": array_of(list(new)), "new": msgspec.json.encode(new).decode()}


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
