"""The journey; none for messages outside of journeys."""

from typing import Any

from sqlalchemy import ColumnElement, select

from core.schema.journeys import journey, journey_version
from reports.declarations import VERSION, Dimension


def _name(version_id: ColumnElement[Any]) -> ColumnElement[Any]:
    of_version = select(journey.c.name).join(journey_version, journey_version.c.journey_id == journey.c.id)
    return of_version.where(journey_version.c.id == version_id).scalar_subquery()


JOURNEY = Dimension("journey", "Journey", "The journey, over all its versions", (VERSION,), _name)
