"""Messages that a provider took."""

from sqlalchemy import func

from core.schema.messages import MessageState, message
from reports.declarations import MESSAGES, Measure

SENT = Measure(
    slug="sent",
    label="Sent",
    description="Messages that a provider accepted, whatever became of them then",
    unit="count",
    source=MESSAGES,
    expression=func.count().filter(message.c.state >= MessageState.ACCEPTED),
)
