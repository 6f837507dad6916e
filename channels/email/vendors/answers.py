"""What vendors' APIs answer and tell in webhooks, taken apart: whatever stands there is read, and nothing raises."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from channels.email.inbound.letters import storable
from channels.provider import Outcome, Receipt
from core.wire import retry_after

METADATA = "kaskad"
"""The name under which vendors keep our message id and give it back in their webhooks."""
SOON = timedelta(minutes=1)
LATER = timedelta(minutes=5)
_LONGEST_WAIT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


def refusal(answer: Answer, words: str, named: bool = False) -> Receipt:
    """What an error means by its status alone.

    Args:
        answer: what came.
        words: the vendor's.
        named: whether these are the vendor's own, in its own form. Then even 500 means that it did not take the
            letter; from whatever stands before it (502, 504) nobody knows.
    """
    reason = f"{answer.status} {words}".strip()
    match answer.status:
        case 429 | 503:
            return Receipt(Outcome.DEFERRED, reason=reason, retry_after=_wait(answer))
        case 401 | 403 | 404:
            # Key, permission or address of the API: the operator has to act, and the letter is not to blame.
            return Receipt(Outcome.DEFERRED, reason=reason, retry_after=LATER)
        case 402:
            return Receipt(Outcome.REJECTED, reason=reason, elsewhere=True)
        case status if 400 <= status < 500:
            return Receipt(Outcome.REJECTED, reason=reason)
        case status if status >= 500 and named:
            return Receipt(Outcome.DEFERRED, reason=reason, retry_after=_wait(answer))
    return Receipt(Outcome.UNKNOWN, reason=reason)


def _wait(answer: Answer) -> timedelta:
    """What `Retry-After` says, from a second to an hour."""
    asked = retry_after(answer.headers)
    return SOON if asked is None else min(max(asked, timedelta(seconds=1)), _LONGEST_WAIT)


def our_id(value: object) -> UUID | None:
    """Our message id out of a vendor's metadata."""
    try:
        return UUID(str(value))
    except ValueError:
        return None


def moment(value: object, default: datetime) -> datetime:
    """A vendor's time: seconds since 1970, or ISO 8601 (UTC where it names no zone)."""
    try:
        if isinstance(value, int | float) or (isinstance(value, str) and value.replace(".", "", 1).isdigit()):
            return datetime.fromtimestamp(float(value), UTC)
        at = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return default
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object; an empty one in the place of anything else."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """A JSON list; an empty one in the place of anything else."""
    return value if isinstance(value, list) else []


def text(value: object, limit: int = 500) -> str:
    """A text of a JSON answer, fit to be stored; empty in the place of null."""
    return "" if value is None else storable(str(value)[:limit])


def said(answer: Answer) -> str:
    """The beginning of an answer, on one line."""
    return " ".join(answer.body[:300].decode("utf-8", "replace").split())
