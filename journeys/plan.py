"""The plan: a journey compiled into a flat graph, ready for the machine.

Steps stand in a list and point at each other by their number (the place in the list). Criteria are numbered as
well; the machine never reads them, the activity that evaluates them does. A plan is plain data: it travels as JSON in
a workflow's input and in `journey_version.plan`. It imports nothing but the standard library and pydantic.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JSON = dict[str, Any]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Step(_Frozen):
    id: str
    """The name in the YAML, or one made from the kind and the place; unique in the plan."""


class Send(_Step):
    """Hand one message to each contact, then go on, whatever became of it."""

    kind: Literal["send"] = "send"
    channel: str
    template: str
    purpose: str = "marketing"
    priority: Literal["alert", "triggered", "broadcast"] = "triggered"
    repeat_in_doubt: bool = False
    """Whether a message that a crash left in doubt is sent again; alerts are."""
    next: int


class LocalTime(_Frozen):
    """The next time that the clock in a zone shows `time` on one of `weekdays` (0 is Monday)."""

    time: str
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    zone: str
    """An IANA name, or `contact` for each contact's own."""


class Until(_Frozen):
    """A way out of a wait: the event of this subscription came."""

    subscription: int
    next: int


class Wait(_Step):
    """Stay until a time, or until one of the events in `until` comes."""

    kind: Literal["wait"] = "wait"
    seconds: float | None = None
    local: LocalTime | None = None
    """Exactly one of `seconds` and `local` is given, unless the wait has no end but its events."""
    precise: bool = False
    """Do not round the due time up to the grid."""
    until: tuple[Until, ...] = ()
    next: int
    """Where to go when the time has come."""


class Choose(_Step):
    """Take the first branch whose criteria hold for the contact."""

    kind: Literal["choose"] = "choose"
    branches: tuple[tuple[int, int], ...]
    """(criteria number, step number), in order."""
    otherwise: int


class Arm(_Frozen):
    """One variant of a split."""

    name: str
    weight: float
    next: int


class Split(_Step):
    """Send each contact down one arm, always the same for the same contact."""

    kind: Literal["split"] = "split"
    salt: str
    arms: tuple[Arm, ...]


class Update(_Step):
    """Write on the contact."""

    kind: Literal["update"] = "update"
    attributes: JSON = {}
    """Attribute name to value; null removes it."""
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    consents: tuple[tuple[str, str, bool], ...] = ()
    """(channel, purpose, granted)"""
    next: int


class End(_Step):
    """The journey is over for this contact."""

    kind: Literal["end"] = "end"
    outcome: str


Step = Annotated[Send | Wait | Choose | Split | Update | End, Field(discriminator="kind")]


class EventFilter(_Frozen):
    """Which events of a name count: tests on properties, all of which must hold. See segments.eventfilter."""

    event: str
    where: JSON = {}


class Subscription(_Frozen):
    """An event that a running enrollment listens to."""

    role: Literal["wait", "goal", "exit"]
    filter: EventFilter
    outcome: str = ""
    """How the enrollment ends, for a goal or an exit."""


class Entry(_Frozen):
    """How contacts come in. Entering by hand and by API is possible whatever stands here."""

    event: EventFilter | None = None
    criteria: JSON | None = None
    """What must hold for the contact, besides the event."""
    segment: str | None = None
    """Who enters when a schedule fires or a broadcast starts; `all` is everybody."""
    cron: str | None = None
    zone: str = "UTC"
    key: str | None = None
    """The property of the entry event that tells apart two runs of one contact."""
    reenter: Literal["never", "after_exit", "always"] = "never"
    cooldown_seconds: float = 0


class Plan(_Frozen):
    """A journey, compiled. The first step is number 0."""

    journey: str
    title: str
    entry: Entry
    steps: tuple[Step, ...]
    criteria: tuple[JSON, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    hasten: float = 1.0
    """Waits were divided by this when the plan was compiled; 1 outside demonstrations."""

    def correlated(self) -> tuple[str, ...]:
        """The properties of the entry event that subscriptions compare with (`same:`), sorted."""
        names = {
            test["same"]
            for subscription in self.subscriptions
            for test in subscription.filter.where.values()
            if isinstance(test, dict) and "same" in test
        }
        return tuple(sorted(names))
