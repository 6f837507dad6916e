"""Messages: what is written, who may get it, who carries it, and the ledger of what became of it.

The engine calls two things: `prepare`, which decides and writes the ledger rows of a batch in one transaction, and
`Delivery.deliver`, which renders and hands over. See docs/delivery.md.
"""

from channels.delivery import Delivery
from channels.ledger import prepare
from channels.notices import NoticeRequest, prepare_notices
from channels.policy import Hours, Rules
from channels.provider import EmailProvider, Letter, NotNow, Outcome, Receipt
from channels.requests import Delivered, DeliverRequest, Item, PrepareRequest, Verdict
from channels.settling import Superseded
from channels.spending import Budget
from channels.withdrawing import withdraw

__all__ = [
    "Budget",
    "DeliverRequest",
    "Delivered",
    "Delivery",
    "EmailProvider",
    "Hours",
    "Item",
    "Letter",
    "NotNow",
    "NoticeRequest",
    "Outcome",
    "PrepareRequest",
    "Receipt",
    "Rules",
    "Superseded",
    "Verdict",
    "prepare",
    "prepare_notices",
    "withdraw",
]
