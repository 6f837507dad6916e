"""The template that a message was written from; none for letters to the staff, which stand in the journey."""

from typing import Any

from sqlalchemy import ColumnElement, select

from core.schema.messages import message, template, template_version
from reports.declarations import MESSAGES, Dimension, columns

_VERSION = columns("template_version_id", {MESSAGES.name: message.c.template_version_id})


def _name(version_id: ColumnElement[Any]) -> ColumnElement[Any]:
    of_version = select(template.c.name).join(template_version, template_version.c.template_id == template.c.id)
    return of_version.where(template_version.c.id == version_id).scalar_subquery()


TEMPLATE = Dimension("template", "Template", "The template, over all its versions", (_VERSION,), _name)
