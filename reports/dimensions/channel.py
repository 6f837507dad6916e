"""The channel of a message."""

from core.schema.messages import message
from reports.declarations import MESSAGES, Dimension, columns

_CHANNEL = columns("channel", {MESSAGES.name: message.c.channel})

CHANNEL = Dimension("channel", "Channel", "The channel: email, sms …", (_CHANNEL,), lambda channel: channel)
