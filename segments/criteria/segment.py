"""Membership: `{contact.segments: loyal}`, `{contact.segments: {not_in: [staff, testers]}}`."""

from collections.abc import Iterator
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, exists

from core.schema.contacts import contact
from core.schema.segments import segment, segment_member
from segments import comparison
from segments.criteria import tree
from segments.criteria.base import Context, Criteria, Leaf, Reference

_OPERATORS = ("eq", "ne", "in", "not_in", "contains_all")
_LIMIT = 50


class Segment(Leaf):
    """The contact is in a segment: on its list or, once `segments.resolve` has filled them in, by its criteria."""

    KEYS: ClassVar[tuple[str, ...]] = ("contact.segments",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            {
                "type": "object",
                "properties": {operator: {"type": ["string", "array"]} for operator in _OPERATORS},
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
            },
        ]
    }

    name: str
    path: str = ""
    criteria: Criteria | None = None

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Criteria | None:
        """Read a name; or a list of names, or `in`, of one of which it is a member; `ne`, `not_in`: of none."""
        operator, operand = ("eq", value)
        if isinstance(value, dict) and len(value) == 1:
            operator, operand = next(iter(value.items()))
        elif isinstance(value, list):
            operator = "in"
        names = operand if isinstance(operand, list) else [operand]
        good = all(isinstance(one, str) and 0 < len(one) <= 200 and comparison.storable(one) for one in names)
        plural = operator in {"in", "not_in", "contains_all"}
        if (
            operator not in _OPERATORS
            or not good
            or isinstance(operand, list) is not plural
            or not 0 < len(names) <= _LIMIT
        ):
            mend = "write contact.segments: name, or {in: [one, another]}, {not_in: [one, another]}"
            context.problem("the name of a segment is expected here", mend)
            return None
        items = tuple(cls(name=name, path=context.pointer) for name in names)
        if operator == "contains_all":
            return tree.All(items=items)
        some = items[0] if len(items) == 1 else tree.Any(items=items)
        return tree.Not(item=some) if operator in {"ne", "not_in"} else some

    def clause(self) -> ColumnElement[bool]:
        """The segment's criteria, or EXISTS over its list."""
        if self.criteria is not None:
            return self.criteria.clause()
        return (
            exists()
            .where(
                segment.c.name == self.name,
                segment_member.c.segment_id == segment.c.id,
                segment_member.c.contact_id == contact.c.id,
            )
            .correlate(contact)
        )

    def words(self) -> str:
        """`in the segment loyal`."""
        return f"in the segment {self.name}"

    def references(self) -> Iterator[Reference]:
        """The segment."""
        yield Reference("segment", self.name, self.path)
