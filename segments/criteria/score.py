"""Scores, the numbers that journeys count up and down: `{score: {points: {gte: 10}}}`; none counts as 0."""

from collections.abc import Iterator
from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, and_, func
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.contacts import contact
from segments import sqltests
from segments.comparison import Comparison, phrase
from segments.criteria import counting
from segments.criteria.attribute import NAME
from segments.criteria.base import Context, Leaf, Reference


class Score(Leaf):
    """Number attributes pass every comparison; one that a contact does not have is 0."""

    KEYS: ClassVar[tuple[str, ...]] = ("score",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"$ref": "#/$defs/Test"},
    }

    scores: tuple[tuple[str, tuple[Comparison, ...]], ...]
    path: str = ""

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read names of scores with their tests."""
        if not isinstance(value, dict) or not value:
            context.problem("the names of scores are expected here", "write {score: {points: {gte: 10}}}")
            return None
        for name in value:
            if not NAME.fullmatch(str(name)):
                context.problem(f"{name!r} cannot be the name of a score", "use letters, digits and _", name)
        scores = [(str(name), counting.read_numbers(test, context.under(name))) for name, test in value.items()]
        return cls(scores=tuple(scores), path=context.pointer)

    def clause(self) -> ColumnElement[bool]:
        """Comparisons of numbers."""
        return and_(*(test.on_number(_score(name)) for name, tests in self.scores for test in tests))

    def words(self) -> str:
        """`points is at least 10`."""
        return " and ".join(phrase(name, tests) for name, tests in self.scores)

    def references(self) -> Iterator[Reference]:
        """The attributes."""
        for name, tests in self.scores:
            yield Reference("attribute", name, f"{self.path}/{name}", tests)


def _score(name: str) -> ColumnElement[Any]:
    element = contact.c.attributes.op("->", return_type=JSONB())(name)
    return func.coalesce(sqltests.number_of(element), 0)
