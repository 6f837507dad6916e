"""A journey as a chart: its steps, and where each leads by which branch. Between the YAML and the BPMN, both ways.

Steps are known by the ids of their BPMN elements. What has the same chart, in the same order and nesting, compiles to
the same plan.
"""

from dataclasses import dataclass, field
from typing import Any

from core.documents import Path
from journeys import branches, compiler
from journeys.language import Journey
from journeys.steps.registry import BY_KEY

BOTTOM = "End_of_journey"
"""The element that those come to who fall off the end of the steps."""
NEXT: Path = ("next",)
"""The way to the step behind, beside the ways of branches."""
SHARED: Path = ("then",)
"""The branch of a wait that all its events take that have none of their own."""


def goes_on(kind: str) -> bool:
    """Whether steps of a kind lead to the next one, and not by their branches only or nowhere."""
    return BY_KEY[kind].goes_on


@dataclass
class Node:
    """A step of a chart."""

    key: str
    """The id of its element."""
    name: str
    """The id of the step, written or made from its kind and number."""
    data: dict[str, Any]
    """As written, with null where a branch stands."""
    place: Path | None = None
    """Where in the YAML it stands, if that is known."""
    ways: dict[Path, str] = field(default_factory=dict)
    """By place of the branch in the step, or NEXT: the key of the step it leads to."""
    line: int = 0
    column: int = 0

    @property
    def kind(self) -> str:
        """What kind of step it is."""
        return branches.kind_of(self.data)

    @property
    def join(self) -> str:
        """The key of the element where its branches meet, for a step whose branches are all gone."""
        return f"Join_{self.name}"

    @property
    def shared(self) -> str | None:
        """Where those events of a wait lead that say nothing themselves, if the wait says it."""
        return self.ways.get(SHARED) if shares(self.data) else None


@dataclass
class Chart:
    """The steps in the order they are written; the journey's other keys as written."""

    head: dict[str, Any]
    """The whole journey without its steps."""
    nodes: list[Node]
    start: str


def shares(step: dict[str, Any]) -> bool:
    """Whether a step has a branch that others of its branches fall back on."""
    return "wait" in step and branches.written(step, SHARED)


def chart_of(journey: Journey) -> Chart:
    """The chart of a journey that `journeys.load` read."""
    data = journey.document.data
    charter = _Charter(_names(journey))
    charter.block(data["steps"], ("steps",), ())
    nodes = [charter.finished(node) for node in charter.nodes]
    head = {key: value for key, value in data.items() if key != "steps"}
    return Chart(head, nodes, charter.target(("steps", 0)))


def _names(journey: Journey) -> dict[Path, str]:
    """By place in the YAML: the id in the plan. Of a step that became several, the first counts."""
    assembly = compiler.assemble(journey)
    names: dict[Path, str] = {}
    for path, step in zip(assembly.paths, assembly.plan.steps, strict=True):
        names.setdefault(_as_written(path, journey.document.data), step.id)
    return names


def _as_written(path: Path, data: Any) -> Path:
    """A path of the models, where a lone mapping is a list of one, as a path of the file."""
    kept: list[str | int] = []
    for part in path:
        if not (isinstance(part, int) and isinstance(data, dict)):
            kept.append(part)
            data = branches.at(data, (part,))
    return tuple(kept)


class _Charter:
    """Walks the steps; targets are paths, `("#", id)`, `("join", key)` or `()` for the bottom until all are known."""

    def __init__(self, names: dict[Path, str]) -> None:
        self.names = names
        self.nodes: list[Node] = []
        self.targets: dict[str, dict[Path, Path]] = {}
        self.keys: dict[Path, str] = {}
        self.elsewhere: dict[Path, Path] = {}

    def block(self, steps: list[Any], path: Path, follower: Path) -> None:
        for index, written in enumerate(steps):
            step = {"end": None} if written == "end" else written
            here = (*path, index)
            behind = (*path, index + 1) if index + 1 < len(steps) else follower
            if "id" in step:
                self.elsewhere["#", str(step["id"])] = here
            if "goto" in step:
                self.elsewhere[here] = ("#", str(step["goto"]))
            else:
                self._step(step, here, behind)

    def _step(self, step: dict[str, Any], here: Path, behind: Path) -> None:
        name = self.names[here]
        node = Node(f"Step_{name}", name, branches.without_branches(step), here)
        self.nodes.append(node)
        self.keys[here] = node.key
        ways = self.targets[node.key] = {}
        meeting = ("join", node.join) if node.kind == "parallel" else behind
        for place in sorted(branches.places(step), key=lambda one: one != SHARED):
            branch = branches.at(step, place)
            fallback = ways.get(SHARED, meeting) if shares(step) else meeting
            if isinstance(branch, list):
                ways[place] = (*here, *place, 0)
                self.block(branch, (*here, *place), fallback)
            elif branch is not None:
                ways[place] = ("#", branch)
            elif node.kind != "wait" or place[0] == "until":
                ways[place] = fallback
        if goes_on(node.kind):
            ways[NEXT] = behind

    def finished(self, node: Node) -> Node:
        node.ways = {place: self.target(to) for place, to in self.targets[node.key].items()}
        return node

    def target(self, to: Path) -> str:
        while to in self.elsewhere:
            to = self.elsewhere[to]
        if to and to[0] == "join":
            return str(to[1])
        return self.keys[to] if to else BOTTOM
