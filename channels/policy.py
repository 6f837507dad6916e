"""Whether a message may be sent to a contact at a moment: a pure decision over facts.

It is asked when the ledger row is made and again when the letter leaves: what holds is the moment of sending. The first
rule that objects gives the answer; rules that say "never" come before rules that say "later", so a contact without
consent does not wait for the morning to be skipped.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import structs

from contacts import consents, suppressions
from core import hours

_EMAIL = re.compile(r"[^\s@<>\"(),:;\\\[\]]{1,64}@[^\s@<>\"(),:;\\\[\]]{1,253}")
_PHONE = re.compile(r"\+[1-9]\d{6,14}")


class Reason(StrEnum):
    """Why a message was not sent. Stored on the message row, so reports show it."""

    CONTACT_GONE = "contact_gone"  # erased, or merged away
    NO_ADDRESS = "no_address"  # the contact has none for the channel
    INVALID_ADDRESS = "invalid_address"  # it has one that cannot be written to
    NO_CONSENT = "no_consent"  # for this channel and purpose
    SUPPRESSED = "suppressed"  # the address must not be used
    DUPLICATE = "duplicate"  # the address got this step's message a moment ago
    FREQUENCY_CAP = "frequency_cap"  # the contact got enough lately
    SENDER_BARRED = "sender_barred"  # the template's sender may not be used there, or for that
    OVER_BUDGET = "over_budget"  # the journey has spent what it may
    NO_ROUTE = "no_route"  # no provider carries messages to such an address
    NEVER_OPEN = "never_open"  # the journey's send window does not open within a year
    MISSING_VALUE = "missing_value"  # the letter needs a value that the contact or event lacks
    CANNOT_RENDER = "cannot_render"  # the template failed on this contact's values
    JOURNEY_STOPPED = "journey_stopped"  # before the message could leave
    LEFT_JOURNEY = "left_journey"  # the contact did, before the message could leave


@dataclass(frozen=True)
class Rules:
    """What a journey or the installation asks of its messages; nothing by default. Plain data, travels as JSON."""

    quiet_from: str | None = None
    """`HH:MM` in the contact's zone; with `quiet_to` the hours in which marketing waits. May span midnight."""
    quiet_to: str | None = None
    cap: int | None = None
    """At most so many messages of the channel to a contact in `cap_seconds`."""
    cap_seconds: int = 86_400
    duplicate_seconds: int = 0
    """The same address does not get the same step's message twice within so many seconds; 0 is off."""
    window: "Hours | None" = None
    """When messages may leave; others wait for it."""


@dataclass(frozen=True)
class Hours:
    """Hours of the week; see core.hours.opens."""

    start: str
    end: str
    weekdays: tuple[int, ...]
    holidays: str | None = None
    zone: str | None = None
    """None is the contact's."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What is known about one message at the moment of sending."""

    channel: str
    purpose: str
    known: bool
    """Whether the contact still exists."""
    address: str | None
    consent: bool | None
    """None where nobody was asked."""
    suppressed: str | None = None
    """The reason of the suppression."""
    time_zone: str | None = None
    duplicate: bool = False
    sent_lately: int = 0
    """Messages of the channel within the cap's period."""
    per_week: int | None = None
    """The most messages of the channel in seven days that the contact wants, by its own word."""
    sent_this_week: int = 0
    """Messages of the channel in the last seven days, transactional ones aside; counted only with `per_week`."""
    sender_barred: str | None = None
    """Why the sender may not be used for this message; see channels.senders."""


@dataclass(frozen=True, slots=True)
class Send:
    """It may leave now."""


@dataclass(frozen=True, slots=True)
class Skip:
    """It must not be sent."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)


@dataclass(frozen=True, slots=True)
class DelayUntil:
    """It may leave then, if the policy still says so."""

    at: datetime


Decision = Send | Skip | DelayUntil
SEND = Send()
NO_RULES = Rules()


def decide(facts: Facts, at: datetime, rules: Rules = NO_RULES) -> Decision:
    """Send, skip with a reason, or delay until a time.

    Args:
        facts: what is known about the message.
        at: the moment of sending, aware.
        rules: quiet hours, caps and the like.
    """
    never = _never(facts, rules)
    if never is not None:
        return never
    if consents.needed(facts.purpose) and rules.quiet_from and rules.quiet_to:
        until = quiet_until(at, rules.quiet_from, rules.quiet_to, facts.time_zone)
        if until is not None:
            return DelayUntil(until)
    return _in_window(facts, at, rules.window) if rules.window else SEND


def decide_all(members: Iterable[tuple[int, Facts]], at: datetime, rules: Rules = NO_RULES) -> Iterator[Decision]:
    """Decide on the messages of a batch: of several to one contact, the later ones count those before them that may
    leave.

    Args:
        members: contact and facts of each message.
        at: the moment of sending, aware.
        rules: quiet hours, caps and the like.
    """
    before: Counter[int] = Counter()
    for contact, facts in members:
        if more := before[contact]:
            sent, this_week = facts.sent_lately + more, facts.sent_this_week + more
            facts = structs.replace(facts, sent_lately=sent, sent_this_week=this_week)  # noqa: PLW2901
        decision = decide(facts, at, rules)
        before[contact] += decision is SEND
        yield decision


def _in_window(facts: Facts, at: datetime, window: Hours) -> Decision:
    zone = window.zone or facts.time_zone
    opened = hours.opens(at, window.start, window.end, window.weekdays, window.holidays, zone)
    if opened is None:
        return Skip(Reason.NEVER_OPEN)
    return DelayUntil(opened) if opened > at else SEND


def _never(facts: Facts, rules: Rules) -> Skip | None:
    barred = Skip(Reason.SENDER_BARRED, facts.sender_barred) if facts.sender_barred else None
    return _unreachable(facts) or _unwelcome(facts) or barred or _too_much(facts, rules)


def _unreachable(facts: Facts) -> Skip | None:
    if not facts.known:
        return Skip(Reason.CONTACT_GONE)
    if not facts.address:
        return Skip(Reason.NO_ADDRESS)
    if not valid_address(facts.channel, facts.address):
        return Skip(Reason.INVALID_ADDRESS)
    return None


def _unwelcome(facts: Facts) -> Skip | None:
    if facts.suppressed and suppressions.blocks(facts.suppressed, facts.purpose):
        return Skip(Reason.SUPPRESSED, facts.suppressed)
    # What needs no consent can still be refused.
    if facts.consent is False or (consents.needed(facts.purpose) and not facts.consent):
        return Skip(Reason.NO_CONSENT)
    return None


def _too_much(facts: Facts, rules: Rules) -> Skip | None:
    if facts.duplicate:
        return Skip(Reason.DUPLICATE)
    if consents.needed(facts.purpose) and rules.cap is not None and facts.sent_lately >= rules.cap:
        return Skip(Reason.FREQUENCY_CAP, f"{rules.cap} in {timedelta(seconds=rules.cap_seconds)}")
    if consents.needed(facts.purpose) and facts.per_week is not None and facts.sent_this_week >= facts.per_week:
        return Skip(Reason.FREQUENCY_CAP, f"the contact wants {facts.per_week} in 7 days")
    return None


def _email(address: str) -> bool:
    return len(address) <= 254 and address.isprintable() and _EMAIL.fullmatch(address) is not None


_ADDRESS: dict[str, Callable[[str], bool]] = {
    "email": _email,
    "sms": lambda address: _PHONE.fullmatch(address) is not None,
    "voice": lambda address: _PHONE.fullmatch(address) is not None,
}


def valid_address(channel: str, address: str) -> bool:
    """Whether a message could be addressed to it; the channel's form, not whether anybody is there."""
    check = _ADDRESS.get(channel)
    return check is None or check(address)


def quiet_until(at: datetime, quiet_from: str, quiet_to: str, zone: str | None) -> datetime | None:
    """When the quiet hours that `at` lies in end, in UTC; None if it lies in none.

    A contact without a zone, or with one that nobody knows, lives in UTC. Where the clocks change within the quiet
    hours, their end is still the wall clock's.
    """
    begin, end = _time(quiet_from), _time(quiet_to)
    local = at.astimezone(_zone(zone))
    clock = local.time()
    inside = begin <= clock < end if begin <= end else clock >= begin or clock < end
    if not inside:
        return None
    day = local.date() if clock < end else local.date() + timedelta(days=1)
    # Where the wall clock jumps over the end, the time computed may not lie ahead; the policy then asks again.
    until = datetime.combine(day, end, local.tzinfo).astimezone(UTC)
    return max(until, at.astimezone(UTC) + timedelta(seconds=1))


@lru_cache(maxsize=256)
def _time(value: str) -> time:
    return time.fromisoformat(value)


@lru_cache(maxsize=1024)
def _zone(name: str | None) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
