"""Why the policy did not let a message out; none for messages that it let out."""

from sqlalchemy import case

from core.schema.messages import MessageState, message
from reports.declarations import MESSAGES, Dimension, columns

# Messages that failed keep the provider's words in the same column: they are not for grouping.
_REASON = columns("skip_reason", {MESSAGES.name: case((message.c.state == MessageState.SKIPPED, message.c.reason))})

SKIP_REASON = Dimension("skip-reason", "Skip reason", "Why it was skipped", (_REASON,), lambda reason: reason)
