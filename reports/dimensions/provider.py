"""Who carried a message; none where the policy did not let it out."""

from typing import Any

from sqlalchemy import ColumnElement, select

from core.schema.messages import message, provider
from reports.declarations import MESSAGES, Dimension, columns

_PROVIDER = columns("provider_id", {MESSAGES.name: message.c.provider_id})


def _name(provider_id: ColumnElement[Any]) -> ColumnElement[Any]:
    return select(provider.c.name).where(provider.c.id == provider_id).scalar_subquery()


PROVIDER = Dimension("provider", "Provider", "Who carried the message", (_PROVIDER,), _name)
