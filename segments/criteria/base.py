"""What all criteria share."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement

from core.documents import Path, did_you_mean, pointer
from core.errors import Problem
from segments import comparison
from segments.comparison import Comparison


@dataclass(frozen=True)
class Reference:
    """A thing that criteria name and that has to exist: checked when they are published."""

    kind: Literal["attribute", "company attribute", "segment", "template", "journey", "provider"]
    name: str
    path: str
    comparisons: tuple[Comparison, ...] = ()
    """How an attribute is compared; its type has to fit."""


class Criteria(BaseModel):
    """One criterion, or a tree of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def clause(self) -> ColumnElement[bool]:
        """A condition over `core.schema.contacts.contact`; never null, so that it can be negated."""

    @abstractmethod
    def words(self) -> str:
        """The same as a person would say it of a contact: `city is Moscow`."""

    def references(self) -> Iterator[Reference]:
        """What this names that has to exist."""
        return iter(())

    def size(self) -> int:
        """Of how many criteria it is made up."""
        return 1

    def rebuilt(self, change: Callable[["Criteria"], "Criteria"]) -> "Criteria":
        """The same with `change` applied to each criterion of the tree."""
        return change(self)


@dataclass(frozen=True)
class Context:
    """Where parsing stands: the path for messages, the problems so far, and how to read criteria inside criteria."""

    path: Path
    problems: list[Problem]
    depth: int = 0
    in_journey: bool = False
    """Whether there is an event that began a run, for `same` to compare with."""

    def problem(self, message: str, mend: str = "", *more: str | int) -> None:
        """Note that something is wrong here, or further in."""
        self.problems.append(Problem(message, mend, path=pointer((*self.path, *more))))

    def under(self, *more: str | int) -> "Context":
        """The context of a part."""
        return replace(self, path=(*self.path, *more))

    def deeper(self) -> "Context":
        """The same place, one level of nesting further in."""
        return replace(self, depth=self.depth + 1)

    def tests(self, value: Any) -> tuple[Comparison, ...]:
        """Read the right side of a comparison that stands here."""
        return comparison.parse(value, self.path, self.problems)

    @property
    def pointer(self) -> str:
        """The path as a JSON Pointer."""
        return pointer(self.path)


class Leaf(Criteria):
    """A criterion without criteria inside it. The class says which keys it answers to and reads what is behind them."""

    KEYS: ClassVar[tuple[str, ...]] = ()
    """The keys of a criteria mapping that are this family's; attributes, which have free names, give none."""
    SCHEMA: ClassVar[dict[str, Any]] = {}
    """JSON Schema of what stands behind each key."""

    @classmethod
    @abstractmethod
    def read(cls, key: str, value: Any, context: Context) -> Criteria | None:
        """Read what stands behind the key; None when problems were noted."""


def options_of(value: Any, allowed: tuple[str, ...], context: Context, example: str) -> dict[str, Any] | None:
    """A mapping of options with no unknown keys; None when problems were noted."""
    if not isinstance(value, dict) or not value:
        context.problem("a mapping is expected here", f"write {example}")
        return None
    unknown = [key for key in value if key not in allowed]
    for key in unknown:
        context.problem(f"unknown key {key}", did_you_mean(str(key), allowed), key)
    return None if unknown else value


def name_of(value: Any, key: str, context: Context) -> str | None:
    """A name under a key; None when it is not given, or is no name, which is noted."""
    if key not in value:
        return None
    named = value[key]
    if not isinstance(named, str) or not 0 < len(named) <= 200 or not comparison.storable(named):
        context.problem(f"{key} is not a name", f"write {key}: name, in quotes if need be", key)
        return None
    return named


def choice_of(value: Any, key: str, choices: tuple[str, ...], default: str, context: Context) -> str:
    """One of some words under a key; anything else is noted."""
    chosen = value.get(key, default)
    if not isinstance(chosen, str) or chosen not in choices:
        context.problem(f"unknown {key} {chosen}", did_you_mean(str(chosen), choices), key)
        return default
    return chosen


def known_keys(value: Any, allowed: tuple[str, ...], required: str, context: Context) -> bool:
    """Check a mapping of options: no unknown keys, the required one there and a text."""
    if not isinstance(value, dict):
        context.problem(f"a mapping with {required} is expected here", f"write {{{required}: …}}")
        return False
    before = len(context.problems)
    for key in value:
        if key not in allowed:
            context.problem(f"unknown key {key}", did_you_mean(str(key), allowed), key)
    named = value.get(required)
    if not isinstance(named, str) or not 0 < len(named) <= 200 or not comparison.storable(named):
        context.problem(f"{required} is missing or is not a name", f"add {required}: …")
    return len(context.problems) == before
