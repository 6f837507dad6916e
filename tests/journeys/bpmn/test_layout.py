"""The picture: no shape covers another, flows begin and end at their shapes, and it always looks the same."""

from itertools import combinations, pairwise

from hypothesis import HealthCheck, given, settings

from journeys import bpmn
from journeys.bpmn.chart import chart_of
from journeys.bpmn.diagram import Diagram
from journeys.bpmn.drawing import drawn
from journeys.bpmn.layout import Box, Layout, Point, laid_out
from journeys.language import Journey
from journeys.loader import load
from tests.journeys.bpmn.samples import EVERY_KIND
from tests.journeys.bpmn.strategies import loaded, written_journeys


def _pictured(journey: Journey) -> tuple[Diagram, Layout]:
    diagram = drawn(chart_of(journey))
    return diagram, laid_out(diagram)


def _overlap(one: Box, other: Box) -> bool:
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    return not (beside or one.y + one.height <= other.y or other.y + other.height <= one.y)


def _touches(point: Point, box: Box) -> bool:
    x, y = point
    return box.x <= x <= box.x + box.width and box.y <= y <= box.y + box.height


def _crosses(begin: Point, end: Point, box: Box) -> bool:
    """Whether a level or upright line runs through the inside of a box."""
    low, high = sorted((begin, end))
    top, bottom = sorted((begin[1], end[1]))
    level = low[0] < box.x + box.width and high[0] > box.x
    return level and top < box.y + box.height and bottom > box.y


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=written_journeys())
def test_no_shape_covers_another_and_no_flow_runs_through_one(text: str) -> None:
    diagram, layout = _pictured(loaded(text))
    _check(diagram, layout)


def test_every_kind_is_laid_out() -> None:
    _check(*_pictured(load(EVERY_KIND)))


def _check(diagram: Diagram, layout: Layout) -> None:
    on_borders = {one.id: one.attributes["attachedToRef"] for one in diagram.elements if one.tag == "boundaryEvent"}
    inside = {one.id for rule in diagram.rules for one in (rule.start, rule.end)}
    outer = {key: box for key, box in layout.boxes.items() if key not in inside}
    for (key, box), (other, other_box) in combinations(outer.items(), 2):
        assert not _overlap(box, other_box) or on_borders.get(key) == other or on_borders.get(other) == key
    for border, host in on_borders.items():
        assert _overlap(outer[border], outer[host])
    for flow in diagram.flows:
        points = layout.lines[flow.id]
        assert _touches(points[0], outer[flow.source])
        assert _touches(points[-1], outer[flow.target])
        ends = {flow.source, flow.target, on_borders.get(flow.source, "")}
        for begin, end in pairwise(points):
            assert begin[0] == end[0] or begin[1] == end[1]
            for key, box in outer.items():
                assert key in ends or not _crosses(begin, end, box), (flow.id, key)
    for rule in diagram.rules:
        for one in (rule.start, rule.end):
            assert _overlap(layout.boxes[one.id], layout.boxes[rule.id])


def test_the_same_journey_always_looks_the_same() -> None:
    assert bpmn.export(load(EVERY_KIND)) == bpmn.export(load(EVERY_KIND))
