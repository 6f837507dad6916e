"""What travels between workflows, activities and the router: small, ids only, plain JSON.

Lists of numbers instead of objects keep a cohort of a thousand well under Temporal's payload limit.
"""

from dataclasses import dataclass, field
from typing import Any

MAIN_QUEUE = "kaskad"


def cohort_workflow_id(cohort_id: int) -> str:
    """The workflow that carries a cohort; derived, so that starting it again finds the same one."""
    return f"cohort-{cohort_id}"


def provider_queue(provider: str) -> str:
    """The task queue on which a provider's messages are handed over."""
    return f"provider-{provider}"


@dataclass
class News:
    """What a cohort is told."""

    joins: list[list[int]] = field(default_factory=list)
    """[enrollment, seed]"""
    heard: list[list[int]] = field(default_factory=list)
    """[event id, enrollment, subscription, version whose subscription it is], in the order of the log. All of one
    event travel together."""
    control: int = 0
    """The journey's control count, or 0 when this is not news of the journey's state."""
    state: str = ""
    """active, paused, finishing or stopped, with `control`."""
    shift: "Shift | None" = None
    """Another version to go on in."""
    orders: "list[Order]" = field(default_factory=list)
    """What people have asked for single contacts."""


@dataclass
class Shift:
    """Takes a cohort from one version of its journey to another."""

    from_version_id: int
    version_id: int
    plan: dict[str, Any]
    steps: dict[str, tuple[str, bool]]
    """Where contacts go from each step, by ids, and whether they begin there; see journeys.moving.ways."""


@dataclass
class Order:
    """Puts one contact onto another step, or out of the journey."""

    number: int
    enrollment: int
    step: str | None
    outcome: str


@dataclass
class Carried:
    """A cohort's state, taken along when the workflow continues as new."""

    tokens: list[list[Any]]
    members: list[int]
    position: int
    control: int
    state: str
    listened: dict[str, list[list[int]]] = field(default_factory=dict)
    """Version it was on before, to what each of that version's subscriptions is called now."""
    endings: dict[str, list[str | None]] = field(default_factory=dict)
    """Such a version to the outcome of each subscription that ends the journey."""
    orders: list[int] = field(default_factory=list)
    """The orders it has carried out."""


@dataclass
class CohortStart:
    """Everything a cohort workflow begins with."""

    cohort_id: int
    version_id: int
    plan: dict[str, Any]
    closes_at: float
    """From then on nobody joins; the workflow ends when nobody is left."""
    broadcast: bool
    control: int
    state: str
    carried: Carried | None = None


@dataclass
class RecordRequest:
    """What happened to tokens, for the tables that people look at."""

    cohort_id: int
    version_id: int
    visits: list[list[Any]]
    """[enrollment, visit, step, at, via]"""
    waits: list[list[Any]]
    """[enrollment, visit, due or null]"""
    finished: list[list[Any]]
    """[enrollment, visit, at, outcome]"""
    over: bool
    """Nobody is left in the cohort."""
    moved: list[list[Any]] | None = None
    """[enrollment, step, due or null] of all who came to this version together; first of all."""
    orders: list[list[Any]] = field(default_factory=list)
    """[order, why it was refused or null]"""

    def says_something(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.visits or self.waits or self.finished or self.orders or self.moved is not None)


@dataclass
class StepRequest:
    """A batch of tokens at one step."""

    version_id: int
    step: int
    at: float
    """When the batch was made; the same on every retry."""
    members: list[list[int]]
    """[enrollment, visit]"""


@dataclass
class Prepared:
    """What is to happen to each message of a batch."""

    deliver: dict[str, list[list[int]]]
    """Provider to [enrollment, visit]"""
    skipped: list[list[int]]
    """[enrollment, visit]"""
    delayed: list[list[Any]]
    """[enrollment, visit, until]"""


@dataclass
class HandOver:
    """Messages that one provider is to carry."""

    provider: str
    at: float
    members: list[list[int]]
    repeat_in_doubt: bool
    version_id: int = 0
    """Whose rules hold for the messages."""
    step: int = 0


@dataclass
class Acted:
    """What became of a batch at a step that acts."""

    went: list[list[Any]] = field(default_factory=list)
    """[enrollment, visit, step, via]"""
    due: list[list[Any]] = field(default_factory=list)
    """[enrollment, visit, until or null, look again or null]"""
    held: list[list[Any]] = field(default_factory=list)
    """[enrollment, visit, until]"""
    ended: list[list[Any]] = field(default_factory=list)
    """[enrollment, visit, outcome]"""


@dataclass
class Places:
    """Where each token goes, or until when it waits."""

    rows: list[list[Any]]
    """[enrollment, visit, step or time, via]"""
