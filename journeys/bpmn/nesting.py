"""From a chart back to the steps of a journey as they are written: which stand in which branch, and where to go.

Charts of our own files say where each step stood, and get the same nesting again. Others are put in an order in which
branches stand behind the step they belong to, and what leads elsewhere does so by `goto`.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from core.documents import Path
from core.errors import InvalidInput
from journeys import branches, language
from journeys.bpmn.chart import BOTTOM, NEXT, SHARED, Chart, Node, shares

Blocks = dict[tuple[str, Path], list[Node]]
"""By step and branch (the whole journey is the branch `()` of the step ``): the steps that stand there."""

_TOP: tuple[str, Path] = ("", ())
_NESTING_LIMIT = 8
_SLUG = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")


def unfolded(chart: Chart) -> tuple[list[Any], dict[Path, Node]]:
    """The steps as data for YAML, and by place the node that each came from."""
    for blocks in (_as_placed(chart), _as_found(chart)):
        if blocks is not None:
            writer = _Writer(chart, blocks)
            writer.top()  # once to learn which steps have to be named
            writer.places = {}
            steps = writer.top()
            if len(writer.places) == len(chart.nodes):
                return steps, writer.places
    raise InvalidInput("some steps have no place in this journey")


# --- nesting as it was


def _as_placed(chart: Chart) -> Blocks | None:
    """The nesting that the nodes remember; None if it does not fit any more."""
    by_place: dict[Path, Node] = {node.place: node for node in chart.nodes if node.place is not None}
    if len(by_place) != len(chart.nodes) or not chart.nodes:
        return None
    blocks: Blocks = {}
    for place, node in by_place.items():
        inside = _owner(place, by_place)
        if inside is None:
            return None
        blocks.setdefault(inside, []).append(node)
    for block in blocks.values():
        block.sort(key=_last)
    fits = blocks.get(_TOP, [None])[0] == chart.nodes[0] and chart.start == chart.nodes[0].key
    return blocks if fits else None


def _last(node: Node) -> int:
    return int(node.place[-1]) if node.place else 0


def _owner(place: Path, by_place: dict[Path, Node]) -> tuple[str, Path] | None:
    """The step and the branch in which a place lies."""
    if not isinstance(place[-1], int):
        return None
    block = place[:-1]
    if block == ("steps",):
        return _TOP
    for length in range(len(block) - 1, 0, -1):
        owner = by_place.get(block[:length])
        if owner is not None:
            branch = block[length:]
            return (owner.key, branch) if branches.written(owner.data, branch) else None
    return None


# --- nesting found in the flows


def _as_found(chart: Chart) -> Blocks:
    nodes = {node.key: node for node in chart.nodes}
    joins = {node.join: node for node in chart.nodes}
    order = _ordered(nodes, joins, chart.start)
    return _Nester([nodes[key] for key in order], joins).blocks()


def _followers(node: Node, joins: dict[str, Node]) -> list[str]:
    """Where a step leads, branches first."""
    ways = [to for place, to in node.ways.items() if place != NEXT]
    found = [*ways, *([node.ways[NEXT]] if NEXT in node.ways else [])]
    return [joins[to].ways.get(NEXT, BOTTOM) if to in joins else to for to in found]


def reached(chart: Chart) -> set[str]:
    """The keys of the steps that the start leads to."""
    nodes = {node.key: node for node in chart.nodes}
    return set(_ordered(nodes, {node.join: node for node in chart.nodes}, chart.start))


def _ordered(nodes: dict[str, Node], joins: dict[str, Node], start: str) -> list[str]:
    """From the start, each step before those it leads to, and branches before what follows them."""
    done: list[str] = []
    seen = {start}
    waiting = [(start, iter(_followers(nodes[start], joins)[::-1]))] if start in nodes else []
    while waiting:
        rest = waiting[-1][1]
        there = next((one for one in rest if one in nodes and one not in seen), None)
        if there is None:
            done.append(waiting.pop()[0])
        else:
            seen.add(there)
            waiting.append((there, iter(_followers(nodes[there], joins)[::-1])))
    return done[::-1]


class _Nester:
    def __init__(self, order: list[Node], joins: dict[str, Node]) -> None:
        self.order, self.joins = order, joins
        self.position = {node.key: number for number, node in enumerate(order)}
        self.found: Blocks = {}
        self.ahead: dict[int, set[int]] = {}

    def blocks(self) -> Blocks:
        self.found[_TOP] = self._nest(0, len(self.order), 0)
        return self.found

    def _nest(self, low: int, high: int, depth: int) -> list[Node]:
        """The steps of a stretch that stand side by side; those in branches go to `found`."""
        block, here = [], low
        while here < high:
            node = self.order[here]
            block.append(node)
            here = self._branches(node, here + 1, high, depth) if depth < _NESTING_LIMIT else here + 1
        return block

    def _branches(self, node: Node, begin: int, high: int, depth: int) -> int:
        """Put what follows into the branches of a step, as far as it belongs there; gives where that ends."""
        ways = {place: self.position.get(to, -1) for place, to in node.ways.items() if place != NEXT}
        if not ways:
            return begin
        end = min(high, self._meeting(node, begin - 1, high))
        here = begin
        for place, target in ways.items():
            if target != here or not here < end or (place == SHARED and "wait" in node.data):
                continue
            later = [other for other in ways.values() if here < other < end]
            until = min(later, default=end)
            self.found[node.key, place] = self._nest(here, until, depth + 1)
            here = until
        return here

    def _meeting(self, node: Node, here: int, high: int) -> int:
        """Where the ways of a step come together again: behind its branches."""
        if NEXT in node.ways:
            return self._forward(self.position.get(node.ways[NEXT], high), here, high)
        reach = [self._ahead(self.position[to]) for place, to in node.ways.items() if to in self.position]
        going_on = [one for one in reach if any(one & other for other in reach if other is not one)]
        if not going_on:
            return high
        common = set.intersection(*going_on)
        return self._forward(min((one for one in common if one > here), default=high), here, high)

    @staticmethod
    def _forward(position: int, here: int, high: int) -> int:
        return position if position > here else high

    def _ahead(self, start: int) -> set[int]:
        """The steps that lie ahead of one, itself too, without going back."""
        if start not in self.ahead:
            found, front = {start}, [start]
            while front:
                here = front.pop()
                for key in _followers(self.order[here], self.joins):
                    there = self.position.get(key, -1)
                    if there > here and there not in found:
                        found.add(there)
                        front.append(there)
            self.ahead[start] = found
        return self.ahead[start]


# --- writing it down


class _Writer:
    def __init__(self, chart: Chart, blocks: Blocks) -> None:
        self.chart, self.blocks = chart, blocks
        self.nodes = {node.key: node for node in chart.nodes}
        self.names = {node.key: str(node.data["id"]) for node in chart.nodes if node.data.get("id")}
        self.places: dict[Path, Node] = {}

    def top(self) -> list[Any]:
        return self._block(_TOP, self.chart.start, BOTTOM, ("steps",))

    def _block(self, which: tuple[str, Path], entry: str, follower: str, path: Path) -> list[Any]:
        steps: list[Any] = []
        block = self.blocks.get(which, [])
        if not block or block[0].key != entry:
            steps.append(self._jump(entry))
        for number, node in enumerate(block):
            behind = block[number + 1].key if number + 1 < len(block) else follower
            leads = self._leads(node, behind)
            self.places[*path, len(steps)] = node
            steps.append(self._step(node, leads, (*path, len(steps))))
            if leads != behind:
                steps.append(self._jump(leads))
        return steps

    def _leads(self, node: Node, behind: str) -> str:
        """What comes behind a step: where it goes on, or where all those of its ways lead that are not written."""
        if NEXT in node.ways:
            return node.ways[NEXT]
        unwritten = {
            to
            for place, to in node.ways.items()
            if not branches.written(node.data, place) and (node.key, place) not in self.blocks
        }
        return unwritten.pop() if len(unwritten) == 1 else behind

    def _jump(self, to: str) -> Any:
        return "end" if to == BOTTOM else {"goto": self._name(to)}

    def _step(self, node: Node, behind: str, path: Path) -> Any:
        data = deepcopy(node.data)
        shared = self._shared(node)
        follower = node.join if node.kind == "parallel" else behind
        for place in branches.places(data):
            if place == SHARED and node.kind == "wait":
                self._put(data, place, shared, node, follower, path)
            elif place in node.ways:
                fallback = follower if shared is None or place[0] != "until" else shared
                if branches.written(node.data, place) or node.ways[place] != fallback:
                    self._put(data, place, node.ways[place], node, fallback, path)
        return self._named(node, data)

    def _shared(self, node: Node) -> str | None:
        """Where the events of a wait lead that have no branch of their own, if they all lead there."""
        if not shares(node.data):
            return None
        leads = {
            to for place, to in node.ways.items() if place[0] == "until" and not branches.written(node.data, place)
        }
        block = self.blocks.get((node.key, SHARED))
        if not leads:  # those that have their own come there behind it, or never
            return block[0].key if block else node.ways.get(SHARED)
        return leads.pop() if len(leads) == 1 else None

    def _put(self, data: dict[str, Any], place: Path, to: str | None, node: Node, follower: str, path: Path) -> None:
        """Write a branch: the steps that stand there, or the name of one."""
        if to is None:
            data.pop(str(place[-1]), None)
        elif (node.key, place) in self.blocks:
            branches.put(data, place, self._block((node.key, place), to, follower, (*path, *place)))
        elif to == BOTTOM or node.kind == "parallel":
            branches.put(data, place, [self._jump(to)])
        else:
            branches.put(data, place, self._name(to))

    def _name(self, key: str) -> str:
        if key not in self.names:
            self.names[key] = self._free(self.nodes[key].name)
        return self.names[key]

    def _free(self, wanted: str) -> str:
        name = wanted if _SLUG.fullmatch(wanted) else "step"
        taken = set(self.names.values())
        return next(one for one in _numbered(name) if one not in taken)

    def _named(self, node: Node, data: dict[str, Any]) -> Any:
        if node.key in self.names and "id" not in data:
            first, *rest = data.items()
            return dict([first, ("id", self.names[node.key]), *rest])
        return "end" if data == {"end": None} else data


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in range(2, language.STEPS_LIMIT * 2):
        yield f"{name}-{number}"
