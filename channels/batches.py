"""What the messages of a batch have in common, how their rows are found, and what the caps need to know of each."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from core.schema.partitions import month_start, next_month

# A batch is younger than the table's statistics, so the planner takes its time to be rare. Told the time, it read a
# whole index for it and compared each row with each message: 500 messages took 55 ms where they take 6. So the time
# stands in `n` only, behind a fence (`offset 0`), and the bounds of its month name the partition.
ROWS = "m.id = n.id and m.created_at = n.at and m.created_at >= %(month)s and m.created_at < %(next_month)s"
"""Where the rows of a batch are, for statements in which `n` has the `id` and the `at` of each."""


def times(at: datetime) -> dict[str, datetime]:
    """The parameters `at`, `month` and `next_month` for statements with ROWS."""
    month = month_start(at.astimezone(UTC))
    return {"at": at, "month": month, "next_month": next_month(month)}


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
