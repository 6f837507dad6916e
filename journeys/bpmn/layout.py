"""Where everything stands in the picture: layers from left to right, one cell a shape, flows in the spaces between.

Small and deterministic: the same diagram always looks the same. A flow that passes layers has a cell of its own in
each, so it never runs through a shape; a flow that leads back runs above everything.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from journeys.bpmn.diagram import TASK_SIZE, Diagram, Element, Flow

Point = tuple[int, int]

COLUMN, ROW = 240, 130
_LEFT, _TOP = 100, 100
_LANE = 12
_RULE_WIDTH, _RULE_HEIGHT, _RULES_IN_A_ROW = 300, 140, 4
_LABEL_WIDTH, _LINE_HEIGHT, _LETTERS_IN_A_LINE = 130, 14, 20


@dataclass(frozen=True)
class Box:
    """A rectangle: its upper left corner, and its size."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> Point:
        """The middle of the right side."""
        return self.x + self.width, self.y + self.height // 2

    @property
    def left(self) -> Point:
        """The middle of the left side."""
        return self.x, self.y + self.height // 2


@dataclass
class Layout:
    """The boxes of shapes and of labels, by element id; the points of flows, by flow id."""

    boxes: dict[str, Box] = field(default_factory=dict)
    labels: dict[str, Box] = field(default_factory=dict)
    lines: dict[str, list[Point]] = field(default_factory=dict)


def laid_out(diagram: Diagram) -> Layout:
    """Give every shape and flow of a diagram its place."""
    grid = _Grid(diagram)
    layout = Layout()
    for one in diagram.elements:
        layout.boxes[one.id] = _box(one, grid)
        if one.name and one.size != TASK_SIZE:
            layout.labels[one.id] = _label_below(layout.boxes[one.id], one.name)
    channels = _Channels()
    for flow in diagram.flows:
        layout.lines[flow.id] = _line(flow, layout, grid, channels)
        if flow.name:
            layout.labels[flow.id] = _flow_label(layout.lines[flow.id], flow.name)
    _rules(diagram, layout, max(grid.rows.values(), default=0) + 1)
    return layout


class _Grid:
    """The cell of each element, and the cells that each flow passes. An event on a border has none of its own."""

    def __init__(self, diagram: Diagram) -> None:
        hosts = {one.id: one.attributes["attachedToRef"] for one in diagram.elements if one.tag == "boundaryEvent"}
        self.hosts = {one.id: hosts.get(one.id, one.id) for one in diagram.elements}
        self.columns = _columns(diagram, self.hosts)
        self.chains = {
            flow.id: _chain(flow, self.hosts[flow.source], self.columns)
            for flow in diagram.flows
            if self.columns[flow.target] > self.columns[self.hosts[flow.source]]
        }
        self.rows = _rows(self.columns, self.chains)

    def center(self, cell: str, column: int) -> Point:
        """The middle of a cell."""
        return _center(column, self.rows[cell])


# --- layers


def _columns(diagram: Diagram, hosts: dict[str, str]) -> dict[str, int]:
    """The layer of each element: as far right as the longest way to it that does not go back."""
    followers: dict[str, list[str]] = {one.id: [] for one in diagram.elements if hosts[one.id] == one.id}
    for flow in diagram.flows:
        followers[hosts[flow.source]].append(flow.target)
    order = _topological(followers)
    place = {key: number for number, key in enumerate(order)}
    columns = dict.fromkeys(followers, 0)
    for key in order:
        behind = columns[key] + 1
        for there in followers[key]:
            if place[there] > place[key]:
                columns[there] = max(columns[there], behind)
    return columns


def _topological(followers: dict[str, list[str]]) -> list[str]:
    """Depth first, so that only flows that close a loop lead backwards in the order."""
    seen: set[str] = set()
    done: list[str] = []
    for root, first in followers.items():
        waiting = [(root, iter(first))] if root not in seen else []
        seen.add(root)
        while waiting:
            rest = waiting[-1][1]
            there = next((one for one in rest if one not in seen), None)
            if there is None:
                done.append(waiting.pop()[0])
            else:
                seen.add(there)
                waiting.append((there, iter(followers[there])))
    return done[::-1]


def _chain(flow: Flow, source: str, columns: dict[str, int]) -> list[str]:
    """The cells that a flow passes, from its source to its target; those between are named after it."""
    between = range(columns[source] + 1, columns[flow.target])
    return [source, *(f"{flow.id} {column}" for column in between), flow.target]


# --- rows


def _rows(columns: dict[str, int], chains: dict[str, list[str]]) -> dict[str, int]:
    """The row of each cell: beside what leads there, if that is free; else below."""
    cells: dict[int, list[str]] = defaultdict(list)
    leads: dict[str, list[str]] = defaultdict(list)
    order: dict[str, int] = {}
    for key, column in columns.items():
        cells[column].append(key)
    for number, chain in enumerate(chains.values()):
        for offset, (here, there) in enumerate(pairwise(chain)):
            leads[there].append(here)
            order.setdefault(there, number)
            if offset + 2 < len(chain):
                cells[columns[chain[0]] + offset + 1].append(there)
    rows: dict[str, int] = {}
    for column in sorted(cells):
        wanted = [(_middle([rows[one] for one in leads[key]]), order.get(key, 0), key) for key in cells[column]]
        taken = -1
        for row, _, key in sorted(wanted):
            taken = rows[key] = max(taken + 1, row)
    return rows


def _middle(rows: Iterable[int]) -> int:
    found = sorted(rows)
    return found[(len(found) - 1) // 2] if found else 0


def _center(column: int, row: int) -> Point:
    return _LEFT + column * COLUMN + TASK_SIZE[0] // 2, _TOP + row * ROW + TASK_SIZE[1] // 2


def _box(one: Element, grid: _Grid) -> Box:
    host = grid.hosts[one.id]
    x, y = grid.center(host, grid.columns[host])
    width, height = one.size
    if host != one.id:  # on the lower border of its task
        x, y = x + TASK_SIZE[0] // 2 - 30, y + TASK_SIZE[1] // 2
    return Box(x - width // 2, y - height // 2, width, height)


# --- flows


class _Channels:
    """The spaces between columns: flows that turn in the same one keep a little apart."""

    def __init__(self) -> None:
        self.turned: dict[int, int] = defaultdict(int)
        self.lanes = 0

    def turn(self, column: int) -> int:
        """Where to go up or down, left of a column: near what lies before, so that there is room for a name."""
        number = self.turned[column]
        self.turned[column] += 1
        return _LEFT + (column - 1) * COLUMN + TASK_SIZE[0] + 10 + number % 5 * 8

    def lane(self) -> int:
        """A height above everything, to go back at."""
        self.lanes += 1
        return _TOP - 30 - self.lanes * _LANE


def _line(flow: Flow, layout: Layout, grid: _Grid, channels: _Channels) -> list[Point]:
    host = grid.hosts[flow.source]
    column = grid.columns[host]
    source, target = layout.boxes[flow.source], layout.boxes[flow.target]
    points = [source.right]
    if host != flow.source:  # from the border downwards, and between the rows
        points = [(source.x + source.width // 2, source.y + source.height)]
        points += [(points[0][0], points[0][1] + 6), (channels.turn(column + 1), points[0][1] + 6)]
    if flow.id in grid.chains:
        points += _forward(grid.chains[flow.id], points[-1], column, grid, channels)
    else:
        points += _back(points[-1], target, column, grid.columns[flow.target], channels)
    return _tidy([*points, target.left])


def _forward(chain: list[str], begin: Point, column: int, grid: _Grid, channels: _Channels) -> list[Point]:
    """The turns of a flow from cell to cell."""
    points: list[Point] = []
    height = begin[1]
    for offset, there in enumerate(chain[1:], 1):
        target = grid.center(there, 0)[1]
        if height != target:
            x = channels.turn(column + offset)
            points += [(x, height), (x, target)]
            height = target
    return points


def _back(begin: Point, target: Box, column: int, to: int, channels: _Channels) -> list[Point]:
    right, left, y = channels.turn(column + 1), channels.turn(to), channels.lane()
    return [(right, begin[1]), (right, y), (left, y), (left, target.left[1])]


def _tidy(points: list[Point]) -> list[Point]:
    """Without points in the middle of a straight line."""
    kept = points[:1]
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        if not (before[1] == here[1] == after[1] or before[0] == here[0] == after[0]):
            kept.append(here)
    return [*kept, points[-1]]


def _height(text: str) -> int:
    """Of a text in the width of a label."""
    return _LINE_HEIGHT * math.ceil(len(text) / _LETTERS_IN_A_LINE)


def _label_below(box: Box, text: str) -> Box:
    return Box(box.x + box.width // 2 - _LABEL_WIDTH // 2, box.y + box.height + 4, _LABEL_WIDTH, _height(text))


def _flow_label(points: list[Point], text: str) -> Box:
    """Above the flow, where it has parted from others of the same source and not met others of the same target."""
    x, y = points[2] if len(points) > 3 else points[0]
    return Box(x + 2, y - _height(text) - 2, COLUMN - TASK_SIZE[0] - 60, _height(text))


# --- goals and exits


def _rules(diagram: Diagram, layout: Layout, row: int) -> None:
    """Event sub-processes, side by side below everything."""
    for number, rule in enumerate(diagram.rules):
        x = _LEFT + number % _RULES_IN_A_ROW * (_RULE_WIDTH + 40)
        y = _TOP + row * ROW + number // _RULES_IN_A_ROW * (_RULE_HEIGHT + 40)
        layout.boxes[rule.id] = Box(x, y, _RULE_WIDTH, _RULE_HEIGHT)
        start = layout.boxes[rule.start.id] = Box(x + 62, y + 52, 36, 36)
        end = layout.boxes[rule.end.id] = Box(x + 202, y + 52, 36, 36)
        layout.labels[rule.start.id] = _label_below(start, rule.start.name)
        layout.labels[rule.end.id] = _label_below(end, rule.end.name)
        layout.lines[f"{rule.id}_flow"] = [start.right, end.left]
