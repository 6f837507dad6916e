"""Membership: `{contact.segments: loyal}`."""

from collections.abc import Iterator
from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, exists

from core.schema.contacts import contact
from core.schema.segments import segment, segment_member
from segments.criteria.base import Context, Criteria, Leaf, Reference


class Segment(Leaf):
    """The contact is in a segment: on its list or, once `segments.resolve` has filled them in, by its criteria."""

    KEYS: ClassVar[tuple[str, ...]] = ("contact.segments",)
    SCHEMA: ClassVar[dict[str, Any]] = {"type": "string"}

    name: str
    path: str = ""
    criteria: Criteria | None = None

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read the name of one segment."""
        if not isinstance(value, str) or not 0 < len(value) <= 200:
            mend = "write contact.segments: name; put several under any or all"
            context.problem("the name of a segment is expected here", mend)
            return None
        return cls(name=value, path=context.pointer)

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
