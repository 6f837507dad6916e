"""Putting steps together: they stand in a list and point at each other by labels until all are numbered.

Steps are numbered in the order they are written, branches right behind the step they belong to. A step that only leads
to another one (`goto`) is another label for its target and leaves no step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from core.documents import Document, Path
from core.errors import InvalidInput, Problem
from journeys import timing
from journeys.plan import EventFilter, Step, Subscription
from journeys.steps.grammar import StepNode
from segments import eventfilter

Label = str
Draft = Callable[[], Step]
"""Makes the plan step once every label has its number."""

END: Label = "the end of the journey"


@dataclass(frozen=True)
class Place:
    """Where a step stands while it is compiled, and what it may ask for there."""

    assembler: "Assembler"
    path: Path
    follower: Label
    """What comes behind the step."""

    @property
    def journey(self) -> str:
        """The name of the journey."""
        return self.assembler.journey

    @property
    def priority(self) -> str:
        """That of messages which say nothing else."""
        return self.assembler.priority

    @property
    def hasten(self) -> float:
        """Lengths of time are divided by this."""
        return self.assembler.hasten

    def name(self, kind: str, written: str | None = None) -> str:
        """The id as written, or the kind with its place among the steps of that kind."""
        return self.assembler.name(kind, written)

    def number(self, label: Label) -> int:
        """The number of the step that a label stands for; to be asked in a draft only."""
        return self.assembler.number(label)

    def branch(self, branch: Any, *place: str | int, otherwise: Label | None = None) -> Label:
        """The label of a branch that stands at a place in the step; without one, what follows, or `otherwise`."""
        follower = self.follower if otherwise is None else otherwise
        if branch is None:
            return follower
        return id_label(branch) if isinstance(branch, str) else self.block(branch, *place, follower=follower)

    def block(self, steps: tuple[StepNode, ...], *place: str | int, follower: Label) -> Label:
        """Put steps that stand at a place in the step right behind it; gives the label of the first."""
        return self.assembler.block(steps, (*self.path, *place), follower)

    def behind(self, make: Draft, label: Label | None = None) -> Label:
        """Put a step behind what was placed so far that is not written, but belongs to this one."""
        return self.assembler.behind(make, self.path, label)

    def criterion(self, data: dict[str, Any]) -> int:
        """The number of criteria in the plan."""
        return self.assembler.criterion(data)

    def subscribe(self, event: EventFilter, role: Literal["wait", "watch"] = "wait") -> int:
        """The number of a new subscription."""
        return self.assembler.subscribe(role, event)

    def seconds(self, duration: str) -> float:
        """A length of time in seconds, shortened in demonstrations."""
        return timing.duration(duration).total_seconds() / self.hasten


class Assembler:
    """The steps of one journey on their way into its plan."""

    def __init__(
        self,
        journey: str,
        document: Document,
        steps: tuple[StepNode, ...],
        *,
        priority: str,
        hasten: float,
        draft: Callable[[StepNode, Place], Draft],
    ) -> None:
        self.journey, self.priority, self.hasten = journey, priority, hasten
        self._document, self._draft = document, draft
        self.drafts: list[Draft] = []
        self.paths: list[Path] = []
        """By step number: the place in the YAML that it comes from."""
        self.criteria: list[dict[str, Any]] = []
        self.subscriptions: list[Subscription] = []
        self.gotos: dict[Label, Path] = {}
        self.used: set[Label] = set()
        self._numbers: dict[Label, int] = {}
        self._aliases: dict[Label, Label] = {}
        self._counts: dict[str, int] = {}
        self._taken = _ids(steps)

    def block(self, steps: tuple[StepNode, ...], path: Path, after: Label) -> Label:
        """Put a list of steps together; what it leads to is `after`. Gives the label of its first step."""
        labels = ["/".join(map(str, (*path, index))) for index in range(len(steps))]
        for index, step in enumerate(steps):
            follower = labels[index + 1] if index + 1 < len(steps) else after
            if step.id:
                self._aliases[id_label(step.id)] = labels[index]
            target = step.stands_for()
            if target is not None:
                self._aliases[labels[index]] = id_label(target)
                self.gotos[labels[index]] = (*path, index)
            else:
                self._place(step, labels[index], (*path, index), follower)
        return labels[0]

    def _place(self, step: StepNode, label: Label, path: Path, follower: Label) -> None:
        self._numbers[label] = number = len(self.drafts)
        self.paths.append(path)
        self.drafts.append(_never)  # keeps the number while branches are put behind it
        self.drafts[number] = self._draft(step, Place(self, path, follower))

    def behind(self, make: Draft, path: Path, label: Label | None = None) -> Label:
        """See `Place.behind`."""
        label = label or f"behind {len(self.drafts)}"
        self._numbers[label] = len(self.drafts)
        self.paths.append(path)
        self.drafts.append(make)
        return label

    def criterion(self, data: dict[str, Any]) -> int:
        """The number of criteria, which are kept once."""
        if data not in self.criteria:
            self.criteria.append(data)
        return self.criteria.index(data)

    def subscribe(self, role: Any, event: EventFilter, outcome: str = "") -> int:
        """The number of a new subscription."""
        self.subscriptions.append(Subscription(role=role, filter=event, outcome=outcome))
        return len(self.subscriptions) - 1

    def name(self, kind: str, written: str | None) -> str:
        """See `Place.name`."""
        if written:
            return written
        while True:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            name = f"{kind}-{self._counts[kind]}"
            if name not in self._taken:
                return name

    def number(self, label: Label) -> int:
        """The number that a label stands for.

        Raises:
            InvalidInput: no step has this id, or gotos lead to each other only.
        """
        seen: list[Label] = []
        while label in self._aliases and label not in seen:
            seen.append(label)
            label = self._aliases[label]
        self.used.update(seen, [label])
        if label == END:
            return len(self.drafts)
        if label not in self._numbers:
            raise InvalidInput(self._lost(label, seen))
        return self._numbers[label]

    def _lost(self, label: Label, seen: list[Label]) -> Problem:
        path = next((self.gotos[one] for one in seen if one in self.gotos), ("steps",))
        if label in seen:
            return self._document.problem(path, "these gotos only lead to each other", "let one lead to a step")
        return self._document.problem(path, f"there is no step {label.removeprefix('id ')}", "give a step this id")


def event_filter(event: str, where: dict[str, Any] | None) -> EventFilter:
    """The filter for an event with tests as they are written."""
    problems: list[Problem] = []
    tests = eventfilter.parse(where, ("where",), problems, correlated=True) if where else {}
    if problems:
        raise InvalidInput(*problems)
    return EventFilter(event=event, where=tests)


def id_label(name: str) -> Label:
    """The label of the step with this id."""
    return f"id {name}"


def _never() -> Step:
    raise AssertionError("a step was asked for before it was put together")


def _ids(steps: Any) -> set[str]:
    """Every id that a journey's steps name, at any depth."""
    found: set[str] = set()
    waiting = [steps]
    while waiting:
        one = waiting.pop()
        if isinstance(one, tuple):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif hasattr(one, "model_fields_set"):
            if isinstance(one, StepNode) and one.id:
                found.add(one.id)
            waiting.extend(value for _, value in one if not isinstance(value, str))
    return found
