"""What a message was sent for; letters to the staff have the purpose `staff`."""

from core.schema.messages import message
from reports.declarations import MESSAGES, Dimension, columns

_PURPOSE = columns("purpose", {MESSAGES.name: message.c.purpose})

PURPOSE = Dimension("purpose", "Purpose", "What the message was sent for", (_PURPOSE,), lambda purpose: purpose)
