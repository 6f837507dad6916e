"""What a kind of step tells the rest of Kaskad about itself; each file of this folder ends with one or two of these."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection

from core.documents import Path
from core.errors import Problem
from journeys.plan import Act, Branch, Plan
from journeys.steps.grammar import StepNode
from journeys.steps.known import Known
from journeys.steps.place import Draft, Place
from segments.supposing import Supposed


class Data(BaseModel):
    """What a compiled step keeps in the plan for its effect. Plans are stored: fields may be added with a default,
    never renamed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


D = TypeVar("D", bound=Data)


@dataclass(frozen=True)
class Doing:
    """The contacts of a batch, as an effect is given them."""

    journey: str
    step: str
    at: datetime
    """When the batch was made; the same however often it is tried."""
    members: Sequence[Sequence[int]]
    """(enrollment, visit)"""
    contact_of: Mapping[int, int]
    """Enrollment to contact, for those who still exist."""

    @property
    def contacts(self) -> list[int]:
        """Their ids, sorted; each once."""
        return sorted(set(self.contact_of.values()))


Perform = Callable[[AsyncConnection, Doing, D], Awaitable[Mapping[int, str] | None]]
"""Does it within the transaction, possibly again after it was done: that must change nothing. Gives the way that an
enrollment leaves by, where that is not the next step."""
Suppose = Callable[[Supposed, D, Callable[[str], Any]], None]
"""Does it in a simulation, to what is supposed of one contact; the function gives the present value of an attribute."""


@dataclass(frozen=True)
class Effect(Generic[D]):
    """What the steps of a kind do that neither send, wait nor choose."""

    data: type[D]
    does: Callable[[D], str]
    """In the picture and on status pages, behind the kind: `vip, not trial`."""
    done: Callable[[D], str]
    """In histories: `was tagged vip`."""
    perform: Perform[D] | None = None
    """None: it takes more than a connection, and stands in `engine.acting`."""
    suppose: Suppose[D] | None = None
    """None: simulations leave it out and go on."""
    reads: Callable[[D], Iterable[str]] = lambda _data: ()
    """The attributes whose present values `suppose` asks for."""
    way: Callable[[D, str], str] = lambda _data, name: name
    """A way out in words, by its name; `next` is that to the next step."""

    def read(self, step: Act) -> D:
        """A plan step's data."""
        return self.data.model_validate(step.data)


@dataclass(frozen=True)
class Told:
    """The words of a step that the plan has a class of its own for."""

    does: Callable[[Plan, Any], str]
    """In the picture and on status pages, behind the name of the plan step."""
    done: Callable[[Plan, Any], str]
    """In histories."""
    ways: Callable[[Plan, Any], list[tuple[str, int]]] | None = None
    """The ways out in words, if it has several."""


async def _nothing(_step: Any, _known: Known, _path: Path) -> list[Problem]:
    return []


@dataclass(frozen=True)
class Kind:
    """One kind of step."""

    key: str
    """The key of the YAML that names it."""
    model: type[StepNode]
    """How it is written."""
    compile: Callable[[Any, Place], Draft] | None
    """Puts a step into the plan; None if it only leads to another."""
    element: str
    """The BPMN element that carries it; `journeys.bpmn.drawing` draws each of them."""
    drawn: str
    """How it is drawn, for the documentation."""
    example: str
    """YAML of steps in a journey that is entered by an event; a test loads and compiles it."""
    goes_on: bool = True
    """Whether it leads to the next step by itself, and not by its branches only."""
    bare: bool = False
    """Whether the kind alone may stand for the step."""
    check: Callable[[Any, Known, Path], Awaitable[list[Problem]]] = _nothing
    """What it names that has to exist when the journey is published."""
    unbuilt: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Values of its key that cannot be published yet, with the reason and the mend; `*` is any."""
    effect: Effect[Any] | None = None
    """What it does, for steps that act."""
    told: Mapping[str, Told] = field(default_factory=dict)
    """By plan step: the words of those that this file compiles to."""


def act(
    key: str,
    written: str | None,
    data: Data,
    place: Place,
    *,
    ways: Mapping[str, str] | None = None,
    long: bool = False,
) -> Draft:
    """The draft of a step that acts and then goes on.

    Args:
        key: the kind.
        written: the id as written, or a name that `place` gave.
        data: what the effect is given.
        place: where the step stands; contacts go on to what follows there.
        ways: other ways out: name to label.
        long: whether a batch may take minutes.
    """
    name = place.name(key, written)
    return lambda: Act(
        id=name,
        kind=key,
        data=data.model_dump(mode="json", exclude_defaults=True),
        ways=tuple(Branch(name=way, next=place.number(to)) for way, to in (ways or {}).items()),
        next=place.number(place.follower),
        long=long,
    )
