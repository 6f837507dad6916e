"""Where messages ended: one of these at most holds for a message, as its state says."""

from sqlalchemy import func

from core.schema.messages import MessageState, message
from reports.declarations import MESSAGES, Measure


def _in(state: MessageState, label: str, description: str) -> Measure:
    expression = func.count().filter(message.c.state == state)
    return Measure(label.lower(), label, description, "count", MESSAGES, expression)


DELIVERED = _in(
    MessageState.DELIVERED,
    "Delivered",
    "Messages of which the provider says that they arrived, and that did not come back",
)
BOUNCED = _in(MessageState.BOUNCED, "Bounced", "Messages that a provider accepted and that came back")
FAILED = _in(MessageState.FAILED, "Failed", "Messages that no provider took: refused for good")
SKIPPED = _in(MessageState.SKIPPED, "Skipped", "Messages that the policy did not let out; see the skip reason")
