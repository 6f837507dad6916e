"""Journeys as BPMN 2.0: export with a layout, and import."""

from journeys.bpmn.chart import chart_of
from journeys.bpmn.drawing import drawn
from journeys.bpmn.reading import Imported, read
from journeys.bpmn.writing import written
from journeys.language import Journey

__all__ = ["Imported", "export", "read"]


def export(journey: Journey) -> str:
    """A journey that `journeys.load` read, as BPMN 2.0 XML with diagram interchange."""
    return written(drawn(chart_of(journey)))
