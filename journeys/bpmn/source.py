"""What a BPMN file says, before anybody asks what it means: process, elements, flows; and the complaints."""

import json
from dataclasses import dataclass
from typing import Any

from core.documents import Path
from core.errors import InvalidInput, Problem
from journeys.bpmn.diagram import NAMESPACE, place_of
from journeys.bpmn.labels import duration_of
from journeys.bpmn.markup import Tag

BPMN = "http://www.omg.org/spec/BPMN/20100524/MODEL"
_NODES = frozenset(
    {
        *("startEvent", "endEvent", "intermediateCatchEvent", "intermediateThrowEvent", "boundaryEvent"),
        *("task", "sendTask", "serviceTask", "userTask", "manualTask", "scriptTask", "businessRuleTask", "receiveTask"),
        *("callActivity", "subProcess", "transaction", "adHocSubProcess"),
        *("exclusiveGateway", "inclusiveGateway", "parallelGateway", "eventBasedGateway", "complexGateway"),
    }
)
_LEFT_OUT = {
    "laneSet": "lanes",
    "textAnnotation": "text annotations",
    "association": "associations",
    "group": "groups",
    "dataObject": "data objects",
    "dataObjectReference": "data objects",
    "dataStoreReference": "data stores",
    "property": "properties",
    "ioSpecification": "data inputs and outputs",
    "documentation": "documentation",
}
"""What is in a process and does nothing: it is left out, and the reader is told."""


@dataclass(frozen=True)
class Link:
    """A sequence flow."""

    tag: Tag
    id: str
    source: str
    target: str
    name: str
    way: Path | None
    condition: str


@dataclass(frozen=True)
class Definition:
    """An event definition: message, timer, …; with what it refers to, or the expression in it."""

    kind: str
    body: str
    form: str = ""


class Source:
    """A file with one process."""

    def __init__(self, root: Tag, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.left_out: dict[str, int] = {}
        self.nodes: dict[str, Tag] = {}
        self.links: list[Link] = []
        self.process = self._process(root)
        self.names = {
            tag.attributes.get("id", ""): tag.attributes.get("name", "")
            for tag in root.each(BPMN)
            if tag.name in {"message", "signal"}
        }
        self._take_in(self.process)
        self._check_links()

    def refuse(self, tag: Tag, message: str, mend: str = "") -> None:
        """Note that an element has no meaning here, or a wrong one."""
        self.problems.append(self.problem(tag, message, mend))

    def problem(self, tag: Tag, message: str, mend: str = "") -> Problem:
        """A problem with an element, by its kind, id and name."""
        name = " ".join(tag.attributes.get("name", "").split())
        called = " ".join([tag.name, tag.attributes.get("id", ""), f"“{name}”" if name else ""]).strip()
        return Problem(f"{called}: {message}", mend, self.file, tag.line, tag.column)

    def _process(self, root: Tag) -> Tag:
        if (root.namespace, root.name) != (BPMN, "definitions"):
            message = f"this is not BPMN 2.0: it begins with {root.name}"
            raise InvalidInput(Problem(message, "export it as BPMN 2.0 XML", self.file, root.line, root.column))
        processes = list(root.each(BPMN, "process"))
        if not processes:
            raise InvalidInput(Problem("there is no process in this file", "", self.file, root.line, root.column))
        for extra in processes[1:]:
            self.refuse(extra, "a journey is one process", "put each process into a file of its own")
        for shared in root.each(BPMN, "collaboration"):
            self.left_out["pools and message flows"] = len(shared.children)
        return processes[0]

    def _take_in(self, process: Tag) -> None:
        for tag in process.each(BPMN):
            if tag.name == "sequenceFlow":
                self._take_flow(tag)
            elif tag.name in _NODES:
                key = tag.attributes.get("id", "")
                if not key or key in self.nodes:
                    self.refuse(tag, "its id is missing, or another element has it", "give it an id of its own")
                self.nodes[key] = tag
            elif tag.name in _LEFT_OUT:
                self.left_out[_LEFT_OUT[tag.name]] = self.left_out.get(_LEFT_OUT[tag.name], 0) + 1
            elif tag.name != "extensionElements":
                self.refuse(tag, "has no meaning in a journey", "take it out")

    def _take_flow(self, tag: Tag) -> None:
        way = tag.own(NAMESPACE, "way")
        condition = next((one.text.strip() for one in tag.each(BPMN, "conditionExpression")), "")
        self.links.append(
            Link(
                tag,
                tag.attributes.get("id", ""),
                tag.attributes.get("sourceRef", ""),
                tag.attributes.get("targetRef", ""),
                tag.attributes.get("name", "").strip(),
                None if way is None else place_of(way),
                condition,
            )
        )

    def _check_links(self) -> None:
        for link in self.links:
            for end in (link.source, link.target):
                if end not in self.nodes:
                    self.refuse(link.tag, f"there is no element {end or 'at its end'}", "draw the flow again")
        self.links = [link for link in self.links if link.source in self.nodes and link.target in self.nodes]
        self._leaving: dict[str, list[Link]] = {key: [] for key in self.nodes}
        self._coming: dict[str, list[Link]] = {key: [] for key in self.nodes}
        for link in self.links:
            self._leaving[link.source].append(link)
            self._coming[link.target].append(link)

    def leaving(self, key: str) -> list[Link]:
        """The flows that leave an element, in the order they are written."""
        return self._leaving[key]

    def coming(self, key: str) -> list[Link]:
        """The flows that lead to an element."""
        return self._coming[key]

    def definitions(self, tag: Tag) -> list[Definition]:
        """The event definitions of an event, or the message of a task that receives one."""
        found = []
        for one in tag.each(BPMN):
            if one.name.endswith("EventDefinition"):
                kind = one.name.removesuffix("EventDefinition")
                found.append(self._definition(kind, one))
        return found

    def _definition(self, kind: str, tag: Tag) -> Definition:
        if kind in {"message", "signal"}:
            return Definition(kind, self.named(tag.attributes.get(f"{kind}Ref", "")))
        inside = next((one for one in tag.each(BPMN) if one.name.startswith(("time", "condition"))), None)
        return Definition(kind, "", "") if inside is None else Definition(kind, inside.text.strip(), inside.name)

    def named(self, reference: str) -> str:
        """The name of a message or signal, by its id, which may have a prefix."""
        return self.names.get(reference, self.names.get(reference.rpartition(":")[2], ""))

    def detail(self, tag: Tag, name: str) -> tuple[Tag, dict[str, Any]] | None:
        """Our extension element of this name in an element, read; None if there is none, or it cannot be read."""
        for inside in tag.each(BPMN, "extensionElements"):
            for one in inside.each(NAMESPACE, name):
                data = _json(one.text)
                if isinstance(data, dict):
                    return one, data
                self.refuse(tag, f"what stands in kaskad:{name} is not a JSON object", "restore it, or take it out")
        return None

    def duration(self, tag: Tag, definition: Definition) -> str | None:
        """The length of time of a timer in our words; what is no such length is refused."""
        found = duration_of(definition.body) if definition.form == "timeDuration" else None
        if found is None:
            said = f"{definition.form or 'timer'} {definition.body[:60]}".strip()
            mend = "write a timeDuration such as PT4H or P1DT12H; years and months differ in length"
            self.refuse(tag, f"{said} is not a length of time", mend)
        return found


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> Any:
    raise ValueError(name)
