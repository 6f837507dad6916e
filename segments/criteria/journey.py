"""Runs through journeys: `{journey: welcome}`, `{journey: {name: welcome, outcome: bought, within: 90d}}`."""

from collections.abc import Iterator
from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, exists, func, select

from core.schema import journeys
from core.schema.journeys import enrollment, journey_version, step_visit
from segments.criteria import counting
from segments.criteria.base import Context, Reference, choice_of, known_keys, name_of
from segments.criteria.message import step_id

_KEYS = ("name", "state", "outcome", "step", "visited", "version", "key", *counting.KEYS)
STATES: dict[str, tuple[ColumnElement[bool], ...]] = {
    "entered": (),
    "running": (enrollment.c.finished_at.is_(None),),
    "finished": (enrollment.c.finished_at.is_not(None),),
}


class Journey(counting.Counted):
    """The contact entered a journey, is in it (at a step), or finished it with an outcome; times are of entering."""

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
                    "step": {"type": "string"},
                    "visited": {"type": "string"},
                    "version": {"type": "integer", "minimum": 1},
                    "key": {"type": "string"},
                    **counting.SCHEMAS,
                },
                "required": ["name"],
                "additionalProperties": False,
            },
        ]
    }

    name: str
    state: str = "entered"
    outcome: str | None = None
    step: str | None = None
    """The step at which the contact stands now."""
    visited: str | None = None
    """A step that the contact came to."""
    version: int | None = None
    key: str | None = None
    path: str = ""

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read a name, or the mapping under `journey`."""
        if isinstance(value, str):
            value = {"name": value}
        if not known_keys(value, _KEYS, "name", context):
            return None
        found: dict[str, Any] = {name: name_of(value, name, context) for name in ("outcome", "step", "visited", "key")}
        implied = "running" if "step" in value else "entered"
        found["state"] = choice_of(value, "state", tuple(STATES), implied, context)
        if found["step"] is not None and found["state"] != "running":
            context.problem("who stands at a step is in the journey", "write state: running, or visited", "state")
        version = value.get("version")
        if version is not None and (
            not isinstance(version, int) or isinstance(version, bool) or not 0 < version < 2**31
        ):
            context.problem("version is a whole number from 1", "write version: 2", "version")
            return None
        return cls(
            name=value["name"], version=version, path=context.pointer, **found, **counting.read_counted(value, context)
        )

    def clause(self) -> ColumnElement[bool]:
        """EXISTS or a count over enrollments."""
        number = select(journeys.journey.c.id).where(journeys.journey.c.name == self.name).scalar_subquery()
        conditions = [
            enrollment.c.journey_id == number,
            *STATES[self.state],
            *self.times(enrollment.c.entered_at),
            *self._which(),
        ]
        return self.count.clause(enrollment, *conditions)

    def _which(self) -> Iterator[ColumnElement[bool]]:
        if self.outcome is not None:
            yield enrollment.c.outcome == self.outcome
        if self.key is not None:
            yield enrollment.c.key == self.key
        if self.version is not None:
            yield exists().where(
                journey_version.c.id == enrollment.c.version_id, journey_version.c.number == self.version
            )
        if self.step is not None:
            standing = func.unnest(journeys.STANDING_ON).column_valued("standing")
            yield exists().where(
                journey_version.c.id == enrollment.c.version_id,
                select(standing).where(step_id(journey_version.c.plan, standing) == self.step).exists(),
            )
        if self.visited is not None:
            yield exists().where(
                step_visit.c.enrollment_id == enrollment.c.id,
                journey_version.c.id == step_visit.c.version_id,
                step_id(journey_version.c.plan, step_visit.c.step) == self.visited,
            )

    @property
    def plain(self) -> bool:
        """Whether only the journey, its state, a time and how often are asked about."""
        rest = (self.outcome, self.step, self.visited, self.version, self.key)
        return all(one is None for one in rest) and not self.when

    def words(self) -> str:
        """`finished the journey welcome as bought`."""
        did = {"entered": "entered", "running": "is in", "finished": "finished"}[self.state]
        version = f" (version {self.version})" if self.version is not None else ""
        key = f" for {self.key}" if self.key is not None else ""
        step = f" at the step {self.step}" if self.step is not None else ""
        visited = f" and came to the step {self.visited}" if self.visited is not None else ""
        outcome = f" as {self.outcome}" if self.outcome else ""
        return f"{did} the journey {self.name}{version}{key}{step}{outcome}{visited}{self.often()}"

    def references(self) -> Iterator[Reference]:
        """The journey."""
        yield Reference("journey", self.name, self.path)
