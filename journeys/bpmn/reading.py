"""From BPMN 2.0 XML to a journey: our own files without loss, others as far as they have a meaning here.

What the standard says goes before our details: a timer, a message, a condition or a flow that was changed in a modeler
is taken as it stands now. What has no meaning is refused, all of it at once, by element and line.
"""

from dataclasses import dataclass
from typing import Any

from core import documents
from core.documents import Path
from core.errors import InvalidInput, Problem
from journeys.bpmn import foreign, nesting, text
from journeys.bpmn.chart import BOTTOM, Chart
from journeys.bpmn.entrances import entrance, rules
from journeys.bpmn.foreign import slug
from journeys.bpmn.labels import clean
from journeys.bpmn.markup import Tag, parse
from journeys.bpmn.nodes import Nodes
from journeys.bpmn.source import Source
from journeys.loader import load


@dataclass(frozen=True)
class Imported:
    """A journey that was read from BPMN."""

    journey: str
    text: str
    """YAML that loads."""
    left_out: tuple[str, ...]
    """What does nothing and was not taken over, such as `2 text annotations`."""


def read(content: bytes, file: str = "") -> Imported:
    """Read a journey from a BPMN file.

    Args:
        content: the file.
        file: its name, for messages.

    Raises:
        InvalidInput: with every problem, each with line and column.
    """
    source = Source(parse(content, file), file)
    nodes = Nodes(source)
    begin = entrance(source)
    head, tags = _head(source, file), dict(begin.tags)
    head |= begin.data
    ending = rules(source)
    head |= ending.data
    tags |= ending.tags
    chart = Chart(head, nodes.all, nodes.resolved(begin.target))
    _check(source, chart, nodes)
    return _written(source, chart, nodes, tags)


def _head(source: Source, file: str) -> dict[str, Any]:
    """The journey's name, title and rules."""
    process = source.process
    name = process.attributes.get("name", "")
    own = source.detail(process, "journey")
    if own is not None:
        head = own[1]
        if name and name != clean(str(head.get("name") or head.get("journey"))):
            head = {"journey": head.get("journey"), "name": name} | {
                key: value for key, value in head.items() if key not in {"journey", "name"}
            }
        return head
    stem = file.replace("\\", "/").rpartition("/")[2].partition(".")[0]
    known = foreign.name_of(process)
    called = known if known != "process" else slug(stem) or known
    return {"journey": called} | ({"name": name} if name else {})


def _check(source: Source, chart: Chart, nodes: Nodes) -> None:
    if not chart.nodes and not source.problems:
        source.refuse(source.process, "there is no step in this process", "draw at least one")
    elif chart.start == BOTTOM and not source.problems:
        source.refuse(source.process, "the start leads to no step", "draw a flow to the first one")
    remembered = all(node.place for node in chart.nodes)
    if not source.problems and not remembered:
        there = nesting.reached(chart)
        for node in chart.nodes:
            if node.key not in there:
                source.refuse(nodes.tags[node.key], "nothing leads here", "draw a flow to it, or take it out")
    if source.problems:
        raise InvalidInput(*sorted(set(source.problems), key=lambda one: (one.line, one.column, one.message)))


def _written(source: Source, chart: Chart, nodes: Nodes, tags: dict[Path, Tag]) -> Imported:
    """The YAML; what the language refuses about it is told with the place in the BPMN."""
    steps, places = nesting.unfolded(chart)
    first = ("journey", "name", "enter", "goal", "exit")
    journey: dict[str, Any] = {key: chart.head[key] for key in first if key in chart.head}
    journey |= {key: value for key, value in chart.head.items() if key not in journey}
    written = text.as_yaml(journey | {"steps": steps})
    tags = tags | {place: nodes.tags[node.key] for place, node in places.items()}
    try:
        load(written)
    except InvalidInput as error:
        raise InvalidInput(*(_placed(one, source, tags) for one in error.problems)) from error
    left_out = tuple(f"{number} {what}" for what, number in source.left_out.items() if number)
    return Imported(str(journey["journey"]), written, left_out)


def _placed(problem: Problem, source: Source, tags: dict[Path, Tag]) -> Problem:
    path = documents.parts(problem.path)
    for length in range(len(path), 0, -1):
        if path[:length] in tags:
            return source.problem(tags[path[:length]], problem.message, problem.mend)
    return source.problem(source.process, problem.message, problem.mend)
