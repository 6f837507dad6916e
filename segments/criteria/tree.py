"""Criteria over criteria: `all`, `any`, `not`."""

from collections.abc import Callable, Iterator

from sqlalchemy import ColumnElement, and_, false, not_, or_, true

from segments.criteria.base import Criteria, Reference


class All(Criteria):
    """Every one holds; with none given, it holds."""

    items: tuple[Criteria, ...]

    def clause(self) -> ColumnElement[bool]:
        """AND."""
        return and_(true(), *(item.clause() for item in self.items))

    def words(self) -> str:
        """Joined by `and`."""
        return " and ".join(_part(item) for item in self.items) or "always"

    def references(self) -> Iterator[Reference]:
        """What the parts name."""
        for item in self.items:
            yield from item.references()

    def size(self) -> int:
        """That of the parts."""
        return sum(item.size() for item in self.items)

    def rebuilt(self, change: Callable[[Criteria], Criteria]) -> Criteria:
        """The same over changed parts."""
        return change(All(items=tuple(item.rebuilt(change) for item in self.items)))


class Any(Criteria):
    """At least one holds."""

    items: tuple[Criteria, ...]

    def clause(self) -> ColumnElement[bool]:
        """OR."""
        return or_(false(), *(item.clause() for item in self.items))

    def words(self) -> str:
        """Joined by `or`."""
        return " or ".join(_part(item) for item in self.items) or "never"

    def references(self) -> Iterator[Reference]:
        """What the parts name."""
        for item in self.items:
            yield from item.references()

    def size(self) -> int:
        """That of the parts."""
        return sum(item.size() for item in self.items)

    def rebuilt(self, change: Callable[[Criteria], Criteria]) -> Criteria:
        """The same over changed parts."""
        return change(Any(items=tuple(item.rebuilt(change) for item in self.items)))


class Not(Criteria):
    """It does not hold. Clauses are never null, so this is the exact contrary."""

    item: Criteria

    def clause(self) -> ColumnElement[bool]:
        """NOT; over correlated criteria, NOT EXISTS."""
        return not_(self.item.clause())

    def words(self) -> str:
        """With `not`."""
        return f"not {_part(self.item)}"

    def references(self) -> Iterator[Reference]:
        """What the part names."""
        return self.item.references()

    def size(self) -> int:
        """That of the part."""
        return self.item.size()

    def rebuilt(self, change: Callable[[Criteria], Criteria]) -> Criteria:
        """The same over the changed part."""
        return change(Not(item=self.item.rebuilt(change)))


def _part(item: Criteria) -> str:
    """A part within a whole; what has parts itself is put in brackets."""
    return f"({item.words()})" if isinstance(item, All | Any) and len(item.items) > 1 else item.words()
