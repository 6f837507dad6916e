"""Runs through journeys: `{journey: welcome}`, `{journey: {name: welcome, outcome: bought, within: 90d}}`."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement

from core.documents import did_you_mean
from core.schema import journeys
from core.schema.contacts import contact
from core.schema.journeys import enrollment
from segments.criteria import counting
from segments.criteria.base import Context, Leaf, Reference, known_keys

_KEYS = ("name", "state", "outcome", "within")
STATES: dict[str, tuple[ColumnElement[bool], ...]] = {
    "entered": (),
    "running": (enrollment.c.finished_at.is_(None),),
    "finished": (enrollment.c.finished_at.is_not(None),),
}


class Journey(Leaf):
    """The contact entered a journey, is in it, or finished it with an outcome; `within` counts from entering."""

    KEYS: ClassVar[tuple[str, ...]] = ("journey",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "state": {"enum": list(STATES)},
                    "outcome": {"type": "string"},
                    "within": {"type": "string"},
                },
                "required": ["name"],
                "additionalProperties": False,
            },
        ]
    }

    name: str
    state: str = "entered"
    outcome: str | None = None
    within: timedelta | None = None
    path: str = ""

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read a name, or the mapping under `journey`."""
        if isinstance(value, str):
            value = {"name": value}
        if not known_keys(value, _KEYS, "name", context):
            return None
        state, outcome = value.get("state", "entered"), value.get("outcome")
        if not isinstance(state, str) or state not in STATES:
            context.problem(f"unknown state {state}", did_you_mean(str(state), tuple(STATES)), "state")
            return None
        if outcome is not None and not isinstance(outcome, str):
            context.problem("outcome is a name", "put it in quotes", "outcome")
            return None
        within = counting.read_within(value["within"], context.under("within")) if "within" in value else None
        return cls(name=value["name"], state=state, outcome=outcome, within=within, path=context.pointer)

    def clause(self) -> ColumnElement[bool]:
        """EXISTS over enrollments."""
        conditions = [
            enrollment.c.contact_id == contact.c.id,
            enrollment.c.journey_id == journeys.journey.c.id,
            journeys.journey.c.name == self.name,
            *STATES[self.state],
            *counting.since(enrollment.c.entered_at, self.within),
        ]
        if self.outcome is not None:
            conditions.append(enrollment.c.outcome == self.outcome)
        return counting.Count().clause(enrollment.join(journeys.journey, conditions[1]), *conditions)

    def words(self) -> str:
        """`finished the journey welcome as bought`."""
        did = {"entered": "entered", "running": "is in", "finished": "finished"}[self.state]
        outcome = f" as {self.outcome}" if self.outcome else ""
        return f"{did} the journey {self.name}{outcome}{counting.lately(self.within)}"

    def references(self) -> Iterator[Reference]:
        """The journey."""
        yield Reference("journey", self.name, self.path)
