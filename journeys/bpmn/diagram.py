"""What a BPMN process consists of, as far as Kaskad writes it: elements, flows, and event sub-processes."""

from dataclasses import dataclass, field

from core.documents import Path, parts, pointer

NAMESPACE = "urn:kaskad:bpmn:1"
"""Of Kaskad's details in extension elements and attributes, and the language of its conditions and times."""

TASK_SIZE = (100, 80)
SIZES = {
    "startEvent": (36, 36),
    "endEvent": (36, 36),
    "intermediateCatchEvent": (36, 36),
    "boundaryEvent": (36, 36),
    "exclusiveGateway": (50, 50),
    "eventBasedGateway": (50, 50),
    "parallelGateway": (50, 50),
    "complexGateway": (50, 50),
}


@dataclass(frozen=True)
class Trigger:
    """An event definition: what an event waits for."""

    kind: str
    """message, timer, signal, conditional, error"""
    body: str
    """The name of the message or signal; the time; the condition."""
    form: str = ""
    """Of a timer: timeDuration, timeDate or timeCycle."""
    language: str = ""


@dataclass
class Element:
    """A flow node."""

    id: str
    tag: str
    name: str = ""
    trigger: Trigger | None = None
    detail: tuple[str, str] | None = None
    """The name of our extension element, and its JSON."""
    place: Path | None = None
    """Where in the YAML the step stands, for the element that carries its detail."""
    of: str = ""
    """The element that carries the step's detail, for others that belong to the step."""
    way: Path | None = None
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return SIZES.get(self.tag, TASK_SIZE)


@dataclass
class Flow:
    """A sequence flow."""

    id: str
    source: str
    target: str
    name: str = ""
    way: Path | None = None
    condition: str = ""
    """Criteria as JSON."""
    default: bool = False


@dataclass
class Rule:
    """An event sub-process that ends the journey: a goal or an exit."""

    id: str
    name: str
    start: Element
    end: Element
    detail: tuple[str, str]


@dataclass
class Diagram:
    """A whole process."""

    id: str
    name: str
    detail: tuple[str, str]
    elements: list[Element] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)

    def connect(
        self,
        source: str,
        target: str,
        *,
        name: str = "",
        way: Path | None = None,
        condition: str = "",
        default: bool = False,
    ) -> None:
        """Draw a sequence flow."""
        self.flows.append(Flow(f"Flow_{len(self.flows) + 1}", source, target, name, way, condition, default))

    def element(self, key: str) -> Element:
        """The element of this id."""
        return next(one for one in self.elements if one.id == key)


def spelled(path: Path) -> str:
    """A place as it stands in an attribute: a JSON Pointer (RFC 6901); keys that look like list indices are quoted."""
    return pointer(tuple(f'"{part}"' if _is_quoted(part) else part for part in path))


def place_of(text: str) -> Path:
    """The place that `spelled` wrote."""
    return tuple(part[1:-1] if isinstance(part, str) and part.startswith('"') else part for part in parts(text))


def _is_quoted(part: str | int) -> bool:
    return isinstance(part, str) and (part.isdecimal() or part.startswith('"'))
