"""What a journey's budget pays for in a simulation: messages in the order of time, whoever gets them. Pure.

Contacts are simulated one after another, but share the budget. So all go through the journey twice: first as if there
was no end to it, which tells the message at which it ends; up to that one nobody's way depends on the budget, so
the second time nothing has to be guessed.
"""

from decimal import Decimal
from typing import NamedTuple


class Place(NamedTuple):
    """A message's place among all that are to be paid for."""

    at: float
    visit: int
    contact: int


class Purse:
    """Pays for messages up to a place; without one for all, and remembers what they cost."""

    def __init__(self, end: Place | None = None) -> None:
        self.end = end
        """The first message that is not paid for."""
        self._costs: list[tuple[Place, Decimal]] = []

    def pays(self, place: Place, cost: Decimal) -> bool:
        """Whether this message is paid for."""
        if self.end is None:
            self._costs.append((place, cost))
            return True
        return place < self.end

    def end_of(self, budget: Decimal) -> Place | None:
        """The first message that a budget would not pay for; None if it pays for all."""
        left = budget
        for place, cost in sorted(self._costs):
            left -= cost
            if left < 0:
                return place
        return None
