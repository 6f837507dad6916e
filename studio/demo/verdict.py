"""Whether what happened is what the story says: pure comparison of the ledger, the mailbox and the outcomes."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from channels.policy import Reason
from core.schema.messages import MessageState
from studio.demo.figures import Facts, Message, Run
from studio.demo.story import CHANGED, HELP, REMINDER, SAVED, SUBMITTED, Expected, Story, Visitor
from studio.demo.visitors import Done

CLICKED = "message.clicked"
_GONE = {MessageState.ACCEPTED, MessageState.DELIVERED}
_SHOWN = 20
FOLLOW_UPS = {REMINDER, HELP}
TAKES_EFFECT = timedelta(seconds=2)
"""How soon what was acknowledged has to keep the next letter from being written."""


@dataclass(frozen=True)
class Line:
    """One comparison of two counts of the same things."""

    what: str
    expected: int
    by: str
    """Where the expected number comes from."""
    found: int
    there: str
    """Where the other one was counted."""

    @property
    def agrees(self) -> bool:
        """Whether both are the same."""
        return self.expected == self.found

    def __str__(self) -> str:
        return f"{self.what}: {self.expected} {self.by}, {self.found} {self.there}"


@dataclass(frozen=True)
class Verdict:
    """The figures side by side, and every single thing that does not fit."""

    lines: list[Line]
    disagreements: list[str]
    figures: dict[str, Any]

    @property
    def agrees(self) -> bool:
        """Whether everything is as it must be."""
        return not self.disagreements and all(line.agrees for line in self.lines)

    def words(self) -> list[str]:
        """What does not agree, one sentence each; a long list is cut."""
        sums = [str(line) for line in self.lines if not line.agrees]
        more = len(self.disagreements) - _SHOWN
        rest = [f"… and {more} more"] if more > 0 else []
        return [*sums, *self.disagreements[:_SHOWN], *rest]


def judge(story: Story, done: Done, facts: Facts) -> Verdict:
    """Compare.

    Args:
        story: what each visitor does, and how it must end.
        done: what the visitors did, as the API acknowledged it.
        facts: what the installation has kept.
    """
    disagreements = [*_outcomes(story, facts.runs), *_sent(story, done, facts.messages), *_mailbox(facts)]
    states = Counter(message.state for message in facts.messages)
    outcomes = Counter(run.outcome or run.state for run in facts.runs)
    figures: dict[str, Any] = {
        "visitors": len(story.visitors),
        "habits": story.habits(),
        "events": dict(facts.events),
        "opened": done.opened,
        "clicked": done.clicked,
        "enrollments": len(facts.runs),
        "outcomes": dict(sorted(outcomes.items())),
        "messages": {state.name.lower(): states[state] for state in sorted(states)},
        "letters": len(facts.letters),
    }
    return Verdict(list(_lines(story, done, facts, outcomes)), disagreements, figures)


def _lines(story: Story, done: Done, facts: Facts, outcomes: Counter[str]) -> Iterator[Line]:
    visitors, events = len(story.visitors), facts.events
    yield Line("drafts saved", visitors, "visitors", events.get(SAVED, 0), "in the event log")
    yield Line("submitted", done.submitted, "acknowledged", events.get(SUBMITTED, 0), "in the event log")
    yield Line("changed", done.changed, "acknowledged", events.get(CHANGED, 0), "in the event log")
    yield Line("links followed", done.clicked, "redirected", events.get(CLICKED, 0), "in the event log")
    yield Line("journeys", visitors, "visitors", len(facts.runs), "enrollments")
    expected = Counter(visitor.expected.outcome for visitor in story.visitors)
    for outcome in sorted(expected | outcomes):
        yield Line(f"ended: {outcome}", expected[outcome], "by the story", outcomes[outcome], "enrollments")
    accepted = sum(message.state in _GONE for message in facts.messages)
    yield Line("letters", accepted, "accepted", len(facts.letters), "in the mailbox")
    withheld = sum(len(visitor.expected.skipped) for visitor in story.visitors)
    skipped = sum(_is_withheld(message) for message in facts.messages)
    yield Line("letters withheld", withheld, "without consent", skipped, "skipped")
    unsettled = sum(message.state not in {*_GONE, MessageState.SKIPPED} for message in facts.messages)
    yield Line("letters unsettled", 0, "wanted", unsettled, "failed or in doubt")


def _outcomes(story: Story, runs: Iterable[Run]) -> Iterator[str]:
    by_contact: dict[str, list[Run]] = {}
    for run in runs:
        by_contact.setdefault(run.contact, []).append(run)
    for visitor in story.visitors:
        mine = by_contact.get(visitor.external_id, [])
        if len(mine) != 1:
            yield f"{_name(visitor)} went through the journey {len(mine)} times instead of once"
            continue
        (run,) = mine
        if run.key != visitor.application_id:
            yield f"{_name(visitor)} entered for application {run.key}, not {visitor.application_id}"
        if (run.state, run.outcome) != ("finished", visitor.expected.outcome):
            ended = run.outcome if run.state == "finished" else f"still {run.state}"
            yield f"{_name(visitor)} must have ended {visitor.expected.outcome}, and is {ended}"


def _sent(story: Story, done: Done, messages: Iterable[Message]) -> Iterator[str]:
    by_contact: dict[str, list[Message]] = {}
    for message in messages:
        by_contact.setdefault(message.contact, []).append(message)
    for visitor in story.visitors:
        mine = by_contact.get(visitor.external_id, [])
        yield from _sent_to(visitor, _excused(visitor, mine, done.acted_at.get(visitor.external_id)), mine)


def _excused(visitor: Visitor, messages: list[Message], acted_at: datetime | None) -> Expected:
    """What has to be sent, given when the visitor really acted: on a busy machine that may be after the wait's end.

    Whatever was decided before that, or within TAKES_EFFECT, could not know of it. Anything later had to.
    """
    expected = visitor.expected
    early = {
        message.step
        for message in messages
        if acted_at is not None and message.created_at < acted_at + TAKES_EFFECT and message.step in FOLLOW_UPS
    } - expected.letters
    needed = expected.letters - FOLLOW_UPS if REMINDER in early else expected.letters
    return replace(expected, letters=needed, possible=expected.possible | expected.letters | early)


def _sent_to(visitor: Visitor, expected: Expected, messages: list[Message]) -> Iterator[str]:
    gone = Counter(message.step for message in messages if message.state in _GONE)
    skipped = Counter(message.step for message in messages if _is_withheld(message))
    for step in sorted(expected.letters - gone.keys()):
        yield f"{_name(visitor)} did not get the {step}"
    for step in sorted(gone.keys() - expected.letters - expected.possible):
        yield f"{_name(visitor)} got the {step}, and must not have"
    for step in sorted(step for step, times in gone.items() if times > 1):
        yield f"{_name(visitor)} got the {step} {gone[step]} times"
    for step in sorted(expected.skipped ^ skipped.keys()):
        verb = "was not withheld" if step in expected.skipped else "was withheld"
        yield f"the {step} to {_name(visitor)} {verb}"
    for message in messages:
        if message.reason == Reason.LEFT_JOURNEY and expected.outcome != "submitted":
            yield f"the {message.step} to {_name(visitor)} was taken back, and they never submitted"
        if message.state is MessageState.SKIPPED and not message.reason:
            yield f"the {message.step} to {_name(visitor)} was withheld without a reason"
        if message.state not in {*_GONE, MessageState.SKIPPED}:
            state = message.state.name.lower().replace("_", " ")
            yield f"the {message.step} to {_name(visitor)} is {state} ({message.reason or 'no reason given'})"


def _is_withheld(message: Message) -> bool:
    """Not one that was taken back because its contact had reached the goal before it could leave."""
    return message.state is MessageState.SKIPPED and message.reason != Reason.LEFT_JOURNEY


def _mailbox(facts: Facts) -> Iterator[str]:
    """Every accepted message is exactly one letter, to the address in the ledger, and no letter comes from nowhere."""
    ledger = {message.id: message for message in facts.messages if message.state in _GONE}
    caught = Counter(letter.message_id for letter in facts.letters)
    recipients = {letter.message_id: letter.recipient for letter in facts.letters}
    for number, message in ledger.items():
        if caught[number] != 1:
            yield f"message {number} ({message.step} to {message.address}) is {caught[number]} letters in the mailbox"
        elif recipients[number] != message.address:
            yield f"message {number} went to {recipients[number]}, and the ledger says {message.address}"
    for stray in caught.keys() - ledger.keys():
        yield f"a letter with the id {stray} is in the mailbox, and no accepted message in the ledger"


def _name(visitor: Visitor) -> str:
    return f"{visitor.external_id} ({visitor.habit})"
