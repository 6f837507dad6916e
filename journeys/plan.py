"""The plan: a journey compiled into a flat graph, ready for the machine.

Steps stand in a list and point at each other by their number (the place in the list). Criteria are numbered as
well; the machine never reads them, the activity that evaluates them does. A plan is plain data: it travels as JSON in
a workflow's input and in `journey_version.plan`. It imports nothing but the standard library and pydantic.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Tag

JSON = dict[str, Any]

ANY_EVENT = "*"
"""The name by which a subscription listens to every event of the contact."""
FINISHED = "journey.finished"
"""The event that tells a journey that another one, which it let the contact into, is over."""
OWN_ENROLLMENT = "@enrollment"
"""`same: @enrollment` in a compiled filter compares with the enrollment's own number."""


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
    if_overdue: Literal["send", "skip"] = "send"
    """What becomes of it when its time passed long ago, because the journey was paused."""
    next: int


class Window(_Frozen):
    """Hours of the week, by the clock in a zone; `start` after `end` spans midnight."""

    start: str = "00:00"
    end: str = "00:00"
    """The same as `start`: the whole day."""
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    holidays: str | None = None
    """A country, or a country and its part (`DE-BY`), whose public holidays are left out."""
    zone: str = "contact"


class AttributeDate(_Frozen):
    """A day or moment that stands in an attribute of the contact."""

    attribute: str
    offset_seconds: float = 0
    time: str | None = None
    """The clock's time on that day; a moment keeps its own if none is given, a day begins at ten."""
    zone: str = "contact"
    yearly: bool = False
    """The next anniversary counts, not the day itself."""


class DateOf(AttributeDate):
    """Such a day, waited for."""

    missing: int
    """Where to go if the contact has no such date."""


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


class Watch(_Frozen):
    """A way out of a wait: criteria hold for the contact."""

    criteria: int
    next: int


class Wait(_Step):
    """Stay until a time, or until one of the events in `until` comes, or criteria hold."""

    kind: Literal["wait"] = "wait"
    seconds: float | None = None
    local: LocalTime | None = None
    window: Window | None = None
    """Until it is open; no time at all if it is."""
    date: DateOf | None = None
    """At most one of `seconds`, `local`, `window`, `date` is given; without any only `until` and `watches` end it. In
    demonstrations `seconds` may stand beside `date`: then that is how long it lasts, if there is such a date."""
    precise: bool = False
    """Do not round the due time up to the grid."""
    until: tuple[Until, ...] = ()
    watches: tuple[Watch, ...] = ()
    watch_subscription: int | None = None
    """The subscription to every event of the contact, upon which `watches` are looked at again."""
    look_seconds: float = 900
    """How often `watches` and `date` are looked at in any case, on an absolute grid."""
    next: int
    """Where to go when the time has come."""

    @property
    def asks(self) -> bool:
        """Whether an activity has to find out how long it lasts."""
        return bool(self.local or self.window or self.date or self.watches)


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


class Winner(_Frozen):
    """When the best arm of a split takes everybody who comes from then on."""

    metric: Literal["opened", "clicked", "goal"]
    sample: int
    """At least so many contacts in each arm."""
    confidence: float = 0.95
    deadline_seconds: float | None = None
    """After so long since the first contact came, the arm that is ahead wins, however little."""


class Split(_Step):
    """Send each contact down one arm, always the same for the same contact."""

    kind: Literal["split"] = "split"
    salt: str
    arms: tuple[Arm, ...]
    winner: Winner | None = None
    holdout: str | None = None
    """The arm that is left alone: it never wins."""


class Branch(_Frozen):
    """One of the ways that are gone at the same time."""

    name: str
    next: int


class Parallel(_Step):
    """Go all branches at once."""

    kind: Literal["parallel"] = "parallel"
    branches: tuple[Branch, ...]


class Join(_Step):
    """Where the branches of a `Parallel` meet."""

    kind: Literal["join"] = "join"
    mode: Literal["all", "first"] = "all"
    """Go on when all have come, or with the first; then the others are given up."""
    next: int


class Notify(_Step):
    """Write to a member of the staff; the subject and the text are templates."""

    kind: Literal["notify"] = "notify"
    channel: Literal["email", "sms", "webhook"] = "email"
    to: str
    subject: str
    text: str
    next: int


class Act(_Step):
    """Do anything else for each contact: what, says the file of this kind in `journeys.steps`."""

    kind: str
    data: JSON = {}
    """What its effect is given; the file of the kind has the model."""
    ways: tuple[Branch, ...] = ()
    """Where else it may lead, by the names that the effect gives."""
    next: int | None = None
    """None: it ends the journey, with `outcome`."""
    outcome: str = ""
    long: bool = False
    """Whether the work on a batch may take minutes; it shows that it is alive."""

    def leads(self, way: str) -> int | None:
        """Where a way leads; that to the next step if there is none of this name."""
        return next((one.next for one in self.ways if one.name == way), self.next)


class End(_Step):
    """The journey is over for this contact."""

    kind: Literal["end"] = "end"
    outcome: str


_OWN = (Send, Wait, Choose, Split, Parallel, Join, Notify, End)
_OWN_KINDS = frozenset(one.model_fields["kind"].default for one in _OWN)


def _kind(step: Any) -> str:
    kind: str = step.get("kind", "") if isinstance(step, dict) else step.kind
    return kind if kind in _OWN_KINDS else "act"


Step = Annotated[
    Annotated[Send, Tag("send")]
    | Annotated[Wait, Tag("wait")]
    | Annotated[Choose, Tag("choose")]
    | Annotated[Split, Tag("split")]
    | Annotated[Parallel, Tag("parallel")]
    | Annotated[Join, Tag("join")]
    | Annotated[Notify, Tag("notify")]
    | Annotated[End, Tag("end")]
    | Annotated[Act, Tag("act")],
    Discriminator(_kind),
]


class EventFilter(_Frozen):
    """Which events of a name count: tests on properties, all of which must hold. See segments.eventfilter."""

    event: str
    where: JSON = {}


class Subscription(_Frozen):
    """An event that a running enrollment listens to."""

    role: Literal["wait", "goal", "exit", "watch"]
    """watch: any event of the contact; the criteria of a wait, or those that end the journey, are to be looked at
    again."""
    filter: EventFilter
    outcome: str = ""
    """How the enrollment ends, for a goal or an exit."""


class Ending(_Frozen):
    """Criteria that end the enrollment of whoever meets them."""

    role: Literal["goal", "exit"]
    criteria: int
    outcome: str


class Endings(_Frozen):
    """The goals and exits that are criteria: who meets one of them leaves, wherever they stand."""

    rules: tuple[Ending, ...]
    """Goals first; the first that holds counts."""
    subscription: int
    """That to every event of the contact, upon which the criteria are looked at soon."""
    look_seconds: float = 900
    """How often they are looked at in any case, on an absolute grid."""


class Entry(_Frozen):
    """How contacts come in. Entering by hand and by API is possible whatever stands here."""

    event: EventFilter | None = None
    criteria: JSON | None = None
    """What must hold for the contact, besides the event."""
    segment: str | None = None
    """Who enters when a schedule fires or a broadcast starts; `all` is everybody."""
    present: bool = False
    """Its members enter once by themselves, when the journey is published."""
    date: AttributeDate | None = None
    """Enter when this day of the contact comes."""
    cron: str | None = None
    rrule: str | None = None
    """A recurrence rule (RFC 5545), instead of `cron`."""
    zone: str = "UTC"
    key: str | None = None
    """The property of the entry event that tells apart two runs of one contact."""
    reenter: Literal["never", "after_exit", "always"] = "never"
    cooldown_seconds: float = 0


class Conversion(_Frozen):
    """The event that a journey is meant to bring about, counted for a time after entering."""

    filter: EventFilter
    within_seconds: float
    value: str | None = None
    """The property that says what it was worth."""


class Rules(_Frozen):
    """What holds for all messages of a journey."""

    quiet: tuple[str, str] | None = None
    """From and to, by the clock of the contact."""
    window: Window | None = None
    cap: int | None = None
    """At most so many messages of a channel to a contact within `cap_seconds`, whoever sent them."""
    cap_seconds: int = 86_400
    per_minute: float | None = None
    """At most so many messages of this journey."""
    budget: float | None = None
    """What its messages may cost together."""


class Plan(_Frozen):
    """A journey, compiled. The first step is number 0."""

    journey: str
    title: str
    entry: Entry
    steps: tuple[Step, ...]
    criteria: tuple[JSON, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    endings: Endings | None = None
    rules: Rules = Rules()
    conversion: Conversion | None = None
    hasten: float = 1.0
    """Waits were divided by this when the plan was compiled; 1 outside demonstrations."""

    def goals(self) -> set[str]:
        """The outcomes of those who reach the goal."""
        found = {one.outcome for one in self.subscriptions if one.role == "goal"}
        return found | {one.outcome for one in (self.endings.rules if self.endings else ()) if one.role == "goal"}

    def correlated(self) -> tuple[str, ...]:
        """The properties of the entry event that events and criteria are compared with (`same:`), sorted."""
        asked: list[Any] = [subscription.filter.where for subscription in self.subscriptions]
        if self.conversion is not None:
            asked.append(self.conversion.filter.where)
        names = {name for one in (*asked, *self.criteria) for name in compared(one)}
        return tuple(sorted(names - {OWN_ENROLLMENT}))


def compared(data: Any) -> Iterator[str]:
    """The properties of the entry event that tests or criteria compare with, as they are written."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            if key == "same" and isinstance(value, str):
                yield value
            else:
                yield from compared(value)
    elif isinstance(data, list | tuple):
        for one in data:
            yield from compared(one)
