"""What a simulation is given: the journey and the time, the people, and what is known of them."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol

from journeys.plan import Plan, Send
from journeys.responses import Responses
from journeys.tally import DAY, Charge
from segments.supposing import Supposed


class Person(NamedTuple):
    """A contact, as far as the machine is concerned."""

    id: int
    seed: int
    """core.ids.seed of the contact."""
    zone: str | None = None


class Decision(NamedTuple):
    """What the policy says of a message."""

    action: Literal["send", "skip", "delay"]
    reason: str = ""
    until: float = 0.0


class World(Protocol):
    """What is known of the contacts, besides what happens in the simulation."""

    def may_send(self, person: Person, number: int, step: Send, at: float, supposed: Supposed) -> Decision:
        """Ask the policy about a message of step `number` at a time (seconds since 1970)."""

    def charge(self, person: Person, step: Send) -> Charge:
        """What a message of the step costs."""

    def holds(self, criterion: int, person: Person, at: float, supposed: Supposed) -> bool:
        """Whether the criterion of this number in the plan holds for a contact."""

    def words(self, criterion: int) -> str:
        """The criterion in words."""

    def value(self, person: Person, attribute: str) -> Any:
        """What a contact's attribute holds at the start; None if nothing."""


@dataclass(frozen=True)
class Scenario:
    """What is to be simulated."""

    plan: Plan
    start: float
    """In seconds since 1970."""
    days: int
    responses: Responses
    seed: int = 0
    enter_within: float = 0.0
    """Contacts enter evenly over so many seconds; all at once if 0."""
    budget: Decimal | None = None
    """What the journey may still spend at the start; None if it has no budget."""

    @property
    def end(self) -> float:
        """The moment from which on nothing is looked at."""
        return self.start + self.days * DAY


class Note(NamedTuple):
    """One thing that happened to a contact, in words, for its story."""

    at: float
    step: str
    what: str
    template: str | None = None
    """Of a message that was sent."""


Tell = Callable[[Note], None]
