"""What travels between workflows, activities and the router: small, ids only, plain JSON.

Lists of numbers instead of objects keep a cohort of a thousand well under Temporal's payload limit.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from journeys.tokens import Branched, Finish, Visit, Waiting

ENDINGS = -1
"""In the place of a step's number: the criteria that end the journey are asked, for members at any step."""
MAIN_QUEUE = "kaskad"
LOG_QUEUE = "kaskad-log"
"""The task queue of those who wait for the router; they hold no place that work needs."""


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
    """active, paused, spent (paused because its budget is), finishing or stopped, with `control`."""
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
    leftovers: list["Leftover"] = field(default_factory=list)
    landings: list[list[Any]] = field(default_factory=list)
    """[enrollment, visit, exits, stays] of what is left over and was begun in a version before; see journeys.moving."""
    unfinished: list["Unfinished"] = field(default_factory=list)


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
    patience: float = 900.0
    """So many seconds the workflow waits for work under way before it continues as new and begins that work again;
    longer than a hand-over takes, because one that is broken off leaves its letters in doubt."""


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
    again: bool = False
    """Somebody joined after that was written."""
    moved: list[list[Any]] | None = None
    """[enrollment, step, due or null, steps of its branches, the end of each one's wait or null] of all who came to
    this version together; first of all."""
    orders: list[list[Any]] = field(default_factory=list)
    """[order, why it was refused or null]"""
    branches: list["Branches"] = field(default_factory=list)

    def note(
        self,
        visits: Iterable[Visit],
        waits: Iterable[Waiting],
        finished: Iterable[Finish],
        branched: Iterable[Branched],
    ) -> None:
        """Add what the machine has decided."""
        for (visit, steps, ends), ids in _grouped(branched, lambda row: (row.visit, row.steps, row.ends)):
            self.branches.append(Branches(visit, list(steps), list(ends), ids))
        for (visit, step, at, via), ids in _grouped(visits, lambda row: (row.visit, row.step, row.at, row.via)):
            self.visits.append(Arrivals(visit, step, at, via, ids))
        for (visit, due), ids in _grouped(waits, lambda row: (row.visit, row.due)):
            self.waits.append(Waits(visit, due, ids))
        for (visit, at, outcome, met), ids in _grouped(finished, lambda row: (row.visit, row.at, row.outcome, row.met)):
            self.finished.append(Finishes(visit, at, outcome, ids, met))

    def says_something(self) -> bool:
        """Whether there is anything to write."""
        told = self.visits or self.waits or self.finished or self.branches or self.orders
        return bool(told or self.moved is not None)


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
class Branches:
    """Enrollments whose branches stand on these steps, and when each one's wait ends. No steps: they have met."""

    visit: int
    steps: list[int]
    ends: list[float | None]
    enrollments: list[int]


@dataclass
class Finishes:
    """Enrollments that were over at the same time with the same outcome."""

    visit: int
    at: float
    outcome: str
    enrollments: list[int]
    met: bool = False
    """Whether criteria of a goal or an exit ended them."""


@dataclass
class StepRequest:
    """A batch of tokens at one step."""

    version_id: int
    step: int
    at: float
    """When the batch was made; the same on every retry."""
    members: list[list[int]]
    """[enrollment, visit]; with ENDINGS the visit is 0 where nobody waits for the answer."""


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
class Withdrawal:
    """Prepared messages that are not to leave any more."""

    at: float
    """When their batch was made."""
    members: list[list[int]]
    stopped: bool
    """Whether that is because the journey was stopped; else their contacts have left it."""


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
class HandedOver:
    """What a hand-over came to."""

    rest: list[list[int]]
    """[enrollment, visit] of the messages that have no final word yet."""
    wait: float
    """After how many seconds they can be tried again."""
    moved: dict[str, list[list[int]]] = field(default_factory=dict)
    """[enrollment, visit] of those that another provider is to carry, by its name."""


@dataclass
class Listen:
    """Asks whether the router has told of everything in the log."""

    end: int | None = None
    """How far it has to have come; without it, to where the log ends now."""


@dataclass
class Listened:
    """Whether it has."""

    end: int
    heard: bool


@dataclass
class Leftover:
    """A hand-over that is to be gone on with."""

    next: int
    """Where those go on whose message has its final word, in the version that the hand-over was begun in."""
    priority: int
    hand_over: HandOver
    at: float


@dataclass
class Unfinished:
    """A batch whose step is not done yet, to be begun again. That it may have been done changes nothing."""

    request: StepRequest
    step: dict[str, Any] | None
    """Of the version that the batch was made in; None with ENDINGS."""


@dataclass
class Places:
    """Where each token goes, or until when it waits."""

    rows: list[list[Any]]
    """[enrollment, visit, step or time, via]"""


_Row = TypeVar("_Row", Visit, Waiting, Finish, Branched)
_Key = TypeVar("_Key")


def _grouped(rows: Iterable[_Row], key: Callable[[_Row], _Key]) -> list[tuple[_Key, list[int]]]:
    """The enrollments of rows that are the same in everything else, together."""
    groups: dict[_Key, list[int]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row.enrollment)
    return list(groups.items())
