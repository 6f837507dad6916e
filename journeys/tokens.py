"""Tokens, what happens to them, and what the machine says of them. Plain data; pure like the machine."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Phase = Literal["ready", "asking", "acting", "waiting", "held", "forked"]
Key = tuple[int, int]
"""Enrollment id and branch; branch 0 is the trunk, others have the number of their first visit."""
Tokens = dict[Key, "Token"]


class Token(NamedTuple):
    """Where one branch of an enrollment stands in the plan."""

    step: int
    visit: int
    """The number of the visit, this one's place among all steps visited. The trunk of a forked enrollment counts the
    visits of its branches."""
    phase: Phase
    """ready: just arrived; asking: before it acts it is found out whether criteria hold that end the journey; acting:
    its batch is under way; waiting: until `due` or an event; held: the step is to be tried again at `due`; forked: its
    branches are under way."""
    seed: int
    """Of the contact (core.ids.seed); splits hash it."""
    since: float
    """When it arrived, in seconds since 1970."""
    due: float | None = None
    """When it has to be looked at again."""
    heard: tuple[int, ...] = ()
    """Subscriptions whose event came since the last wait ended. A wait that begins later takes them into account, so
    an answer that is quicker than our own sending is not lost."""
    ends: float | None = None
    """When its present wait ends; until then it may have to be looked at now and then."""
    late: float = 0.0
    """By how many seconds it was held up by a pause since the last wait began."""
    branches: tuple[int, ...] = ()
    """Of a forked token: its branches that are under way."""
    closing: bool = False
    """Whether the criteria it waits for are looked at for the last time: its wait has come to its end."""
    look: float | None = None
    """Of a trunk: when the criteria that end the journey are looked at next; None if the plan has none."""


class Visit(NamedTuple):
    """A token came to a step."""

    enrollment: int
    visit: int
    step: int
    at: float
    via: str
    """next, branch, arm:NAME, parallel:NAME, join, event, criteria, timeout, overdue …"""


class Waiting(NamedTuple):
    """When an enrollment's present waits end; of several branches the earliest. None: only an event ends it."""

    enrollment: int
    visit: int
    due: float | None


class Branched(NamedTuple):
    """Where the branches of an enrollment stand, and when the wait of each ends; nowhere once they have met."""

    enrollment: int
    visit: int
    steps: tuple[int, ...]
    ends: tuple[float | None, ...]


class Finish(NamedTuple):
    """An enrollment is over."""

    enrollment: int
    visit: int
    at: float
    outcome: str
    met: bool = False
    """Whether criteria ended it that are a goal or an exit of the journey."""


class Batch(NamedTuple):
    """Tokens that do the same step together; no enrollment is in it twice."""

    step: int
    members: tuple[tuple[int, int], ...]
    """(enrollment, visit)"""


class Join(NamedTuple):
    """A contact enters."""

    enrollment: int
    seed: int


class Heard(NamedTuple):
    """An event came that the enrollment listens to."""

    enrollment: int
    subscription: int
    event: int = 0
    """Which event it was, so that one event does not end two waits that stand one behind the other. An event's rows
    come in one turn."""


class Went(NamedTuple):
    """An acting step is done; the token goes on to step `to`."""

    enrollment: int
    visit: int
    to: int
    via: str = "next"


class Due(NamedTuple):
    """The time until which a wait lasts has been found, or the time at which to look again (then `at` may be None:
    the wait ends when its own time has come, or never)."""

    enrollment: int
    visit: int
    at: float | None
    again: float | None = None


class Held(NamedTuple):
    """The acting step cannot be done now; try again at `until`."""

    enrollment: int
    visit: int
    until: float


class Ended(NamedTuple):
    """The acting step ended the enrollment."""

    enrollment: int
    visit: int
    outcome: str


class Met(NamedTuple):
    """Criteria that end the journey were found to hold."""

    enrollment: int
    outcome: str


class Unmet(NamedTuple):
    """None of them was found to hold for the token that asked under this visit."""

    enrollment: int
    visit: int


class Stop(NamedTuple):
    """End every enrollment with this outcome."""

    outcome: str


Input = Join | Heard | Went | Due | Held | Ended | Met | Unmet | Stop


@dataclass
class Turn:
    """What `advance` decided."""

    tokens: Tokens
    batches: list[Batch] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    waits: list[Waiting] = field(default_factory=list)
    branched: list[Branched] = field(default_factory=list)
    finished: list[Finish] = field(default_factory=list)
    stirred: dict[int, None] = field(default_factory=dict)
    """Enrollments whose branches have gone on, or have met."""
    spent: dict[Key, int] = field(default_factory=dict)
    """The event that has just ended a wait of the token."""
    looks: list[tuple[int, int]] = field(default_factory=list)
    """(enrollment, visit) of those for whom the criteria that end the journey are to be looked at; visit 0 where no
    token waits for the answer."""
    unmet: set[Key] = field(default_factory=set)
    """Tokens that have just been looked at, and may act."""
    unheard: set[Key] = field(default_factory=set)
    """Tokens whose wait has run out, but an event may have come before that which nobody has told of yet."""

    def next_due(self) -> float | None:
        """The earliest time at which a token has to be looked at again; those in `unheard` wait for no time."""
        return min(self._times(), default=None)

    def _times(self) -> Iterator[float]:
        for key, token in self.tokens.items():
            if token.due is not None and key not in self.unheard:
                yield token.due
            if token.look is not None:
                yield token.look


def branches_of(tokens: Mapping[Key, Token], enrollment: int) -> list[Key]:
    """Every token of an enrollment: the trunk first, then its branches and theirs. Empty if it has finished."""
    found: list[Key] = []
    front = [(enrollment, 0)] if (enrollment, 0) in tokens else []
    while front:
        key = front.pop(0)
        found.append(key)
        front += [(enrollment, branch) for branch in tokens[key].branches]
    return found


def arrive(tokens: Tokens, key: Key, step: int, at: float, via: str, *, forget: bool = False) -> Visit:
    """Put a token on a step, where it is ready; `forget` what it has heard. Gives the visit."""
    enrollment, branch = key
    token, trunk = tokens[key], tokens[enrollment, 0]
    number = trunk.visit + 1
    if branch:
        tokens[enrollment, 0] = trunk._replace(visit=number)
    heard = () if forget else token.heard
    tokens[key] = Token(step, number, "ready", token.seed, at, None, heard, None, token.late, look=token.look)
    return Visit(enrollment, number, step, at, via)


def give_up(tokens: Tokens, key: Key) -> None:
    """Take a branch away, with the branches it has itself."""
    for branch in tokens.pop(key).branches:
        give_up(tokens, (key[0], branch))


def finish(tokens: Tokens, enrollment: int, now: float, outcome: str, *, met: bool = False) -> Finish:
    """Take an enrollment away, with all its branches."""
    visit = tokens[enrollment, 0].visit
    give_up(tokens, (enrollment, 0))
    return Finish(enrollment, visit, now, outcome, met)


def wait_of(token: Token) -> float | None:
    """When the token's present wait ends, if it is in one that time ends."""
    return token.ends or token.due if token.phase in {"waiting", "held"} else None


def next_end(tokens: Mapping[Key, Token], enrollment: int) -> float | None:
    """When the first of an enrollment's present waits ends; None if only an event ends them."""
    ends = (wait_of(tokens[key]) for key in branches_of(tokens, enrollment))
    return min((one for one in ends if one is not None), default=None)


def branched(tokens: Mapping[Key, Token], enrollment: int) -> Branched:
    """Where the branches of an enrollment under way stand."""
    trunk = tokens[enrollment, 0]
    under_way = [tokens[key] for key in branches_of(tokens, enrollment)] if trunk.phase == "forked" else []
    standing = [token for token in under_way if token.phase != "forked"]
    return Branched(
        enrollment, trunk.visit, tuple(token.step for token in standing), tuple(wait_of(token) for token in standing)
    )


def dump(tokens: Mapping[Key, Token]) -> list[list[Any]]:
    """Tokens as plain lists, for a workflow's state."""
    return [[*key, *token] for key, token in tokens.items()]


def restore(rows: Iterable[Sequence[Any]]) -> Tokens:
    """Tokens from what `dump` gave, also after a way through JSON; a field that was not known then has its default."""
    return {(row[0], row[1]): _restored(dict(zip(Token._fields, row[2:], strict=False))) for row in rows}


def _restored(values: dict[str, Any]) -> Token:
    lists = {name: tuple(values[name]) for name in ("heard", "branches")}
    return Token(**{**values, **lists})
