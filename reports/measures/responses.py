"""What people did with messages. A message counts once, however often it was opened or clicked."""

from sqlalchemy import func

from core.schema.messages import message
from reports.declarations import MESSAGES, Measure, Rate
from reports.measures.sent import SENT

OPENED = Measure(
    slug="opened",
    label="Opened",
    description="Messages that somebody opened; programs that fetch pictures do not count, as far as they can be told",
    unit="count",
    source=MESSAGES,
    expression=func.count(message.c.opened_at),
)
CLICKED = Measure(
    slug="clicked",
    label="Clicked",
    description="Messages with at least one link clicked",
    unit="count",
    source=MESSAGES,
    expression=func.count(message.c.clicked_at),
)
OPEN_RATE = Rate("open-rate", "Open rate", "Messages opened, of those sent", OPENED.slug, SENT.slug)
CLICK_RATE = Rate("click-rate", "Click rate", "Messages clicked, of those sent", CLICKED.slug, SENT.slug)
