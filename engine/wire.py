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
    """[event id, enrollment, subscription], in the order of the log. All of one event travel together."""
    control: int = 0
    """The journey's control count, or 0 when this is not news of the journey's state."""
    state: str = ""
    """active, paused or stopped, with `control`."""


@dataclass
class Carried:
    """A cohort's state, taken along when the workflow continues as new."""

    tokens: list[list[Any]]
    members: list[int]
    position: int
    control: int
    state: str
    leftovers: list["Leftover"] = field(default_factory=list)


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
    visits: list["Arrivals"]
    waits: list["Waits"]
    finished: list["Finishes"]
    over: bool
    """Nobody is left in the cohort."""


@dataclass
class Arrivals:
    """Enrollments that came to a step at the same time, by the same way, as the same one of their visits. Contacts move
    together, so there are far fewer of these than visits."""

    visit: int
    step: int
    at: float
    via: str
    enrollments: list[int]


@dataclass
class Waits:
    """Enrollments whose present wait ends at `due`, or only by an event if that is null."""

    visit: int
    due: float | None
    enrollments: list[int]


@dataclass
class Finishes:
    """Enrollments that were over at the same time with the same outcome."""

    visit: int
    at: float
    outcome: str
    enrollments: list[int]


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
    remainder: bool = False
    """Whether these are what an earlier call left over."""


@dataclass
class HandedOver:
    """What a hand-over came to."""

    rest: list[list[int]]
    """[enrollment, visit] of the messages that have no final word yet."""
    wait: float
    """After how many seconds they can be tried again."""


@dataclass
class Leftover:
    """A hand-over that is to be gone on with."""

    step: int
    hand_over: HandOver
    at: float


@dataclass
class Places:
    """Where each token goes, or until when it waits."""

    rows: list[list[Any]]
    """[enrollment, visit, step or time, via]"""
