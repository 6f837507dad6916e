"""The step of the journey that a message was sent by."""

from typing import Any

from sqlalchemy import ColumnElement, Integer, Text, cast, func, select

from core.schema.journeys import journey_version
from core.schema.messages import message
from reports.declarations import MESSAGES, VERSION, Dimension, columns

_NUMBER = columns("step", {MESSAGES.name: cast(message.c.step, Integer)})


def _id(version_id: ColumnElement[Any], number: ColumnElement[Any]) -> ColumnElement[Any]:
    found = func.jsonb_extract_path_text(journey_version.c.plan, "steps", cast(number, Text), "id", type_=Text)
    return select(found).where(journey_version.c.id == version_id).scalar_subquery()


STEP = Dimension("step", "Step", "The id of the step that sent", (VERSION, _NUMBER), _id)
