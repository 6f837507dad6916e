"""Whether criteria hold for a contact in a simulation: what the database said, changed by what is supposed since.

Each test of a tree of criteria is asked of the database once, for all contacts (`Question.tests`). After that no
database is needed: where something supposed bears on a test, that decides; elsewhere the answer stays as it was.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from contacts import suppressions
from segments.comparison import MISSING, Comparison
from segments.criteria import Criteria, tree
from segments.criteria.attribute import Attribute
from segments.criteria.consent import Consent
from segments.criteria.counting import Count
from segments.criteria.event import Event
from segments.criteria.journey import Journey
from segments.criteria.message import Message
from segments.criteria.score import Score
from segments.criteria.segment import Segment
from segments.criteria.suppression import Suppressed
from segments.criteria.tag import Tag


@dataclass
class SupposedMessage:
    """A message of the simulation."""

    step: int
    channel: str
    template: str
    at: float
    """In seconds since 1970."""
    states: set[str]
    """As in the criterion `message`: accepted, delivered, opened, clicked, bounced, skipped."""


@dataclass
class Supposed:
    """What has happened to one contact in the simulation."""

    journey: str = ""
    entered_at: float = 0.0
    messages: list[SupposedMessage] = field(default_factory=list)
    events: list[tuple[str, float]] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    """Those that were written; None for those that were removed."""
    tags: dict[str, bool] = field(default_factory=dict)
    """Whether added or removed."""
    consents: dict[tuple[str, str], bool] = field(default_factory=dict)
    """(channel, purpose) to granted."""
    suppressions: list[tuple[str, str, bool]] = field(default_factory=list)
    """(channel, reason, suppressed or lifted), in order."""
    lists: dict[str, bool] = field(default_factory=dict)
    """Lists that it was put on or taken off, by the name of the segment."""

    def suppressed(self, channel: str, known: str | None) -> str | None:
        """Why the contact's address for a channel must not be used by now, if it was for the reason `known`."""
        held = known
        for where, reason, added in self.suppressions:
            if where == channel and added:
                held = suppressions.strongest([reason, held] if held else [reason])
            elif where == channel and held == reason:
                held = None
        return held


Holds = Callable[[int, Supposed, float], bool]


@dataclass
class Test:
    """One test of the database, and the contacts who pass it."""

    criteria: Criteria
    passed: set[int] = field(default_factory=set)


class Question:
    """Criteria, ready to be asked many times."""

    def __init__(self, criteria: Criteria) -> None:
        """
        Args:
            criteria: with the segments they name filled in (`segments.resolve`).
        """
        self.tests: list[Test] = []
        """To be filled by whoever has a database."""
        self.words = criteria.words()
        self._holds = self._made(criteria)

    def holds(self, contact: int, supposed: Supposed, at: float) -> bool:
        """Whether the criteria hold for a contact at a time (seconds since 1970)."""
        return self._holds(contact, supposed, at)

    def _made(self, criteria: Criteria) -> Holds:  # noqa: PLR0911, PLR0912 - one line a kind
        match criteria:
            case tree.All():
                parts = [self._made(item) for item in criteria.items]
                return lambda contact, supposed, at: all(part(contact, supposed, at) for part in parts)
            case tree.Any():
                parts = [self._made(item) for item in criteria.items]
                return lambda contact, supposed, at: any(part(contact, supposed, at) for part in parts)
            case tree.Not():
                item = self._made(criteria.item)
                return lambda contact, supposed, at: not item(contact, supposed, at)
            case Segment(criteria=inner) if inner is not None:
                return self._made(inner)
            case Segment():
                return self._listed(criteria)
            case Attribute():
                return self._attribute(criteria)
            case Score():
                return self._score(criteria)
            case Tag():
                tests = [self._tag(test) for test in criteria.tests]
                return lambda contact, supposed, at: all(test(contact, supposed, at) for test in tests)
            case Consent():
                return self._consent(criteria)
            case Suppressed():
                return self._suppressed(criteria)
            case Message():
                return self._message(criteria)
            case Event():
                return self._event(criteria)
            case Journey():
                return self._journey(criteria)
        return self._known(criteria)

    def _asked(self, criteria: Criteria) -> set[int]:
        test = Test(criteria)
        self.tests.append(test)
        return test.passed

    def _known(self, criteria: Criteria) -> Holds:
        passed = self._asked(criteria)
        return lambda contact, _supposed, _at: contact in passed

    def _attribute(self, criteria: Attribute) -> Holds:
        passed, name, tests = self._asked(criteria), criteria.name, criteria.tests

        def holds(contact: int, supposed: Supposed, at: float) -> bool:
            if name not in supposed.attributes:
                return contact in passed
            value = supposed.attributes[name]
            moment = datetime.fromtimestamp(at, UTC)
            return all(test.holds(MISSING if value is None else value, moment) for test in tests)

        return holds

    def _score(self, criteria: Score) -> Holds:
        """Scores of the database and of the simulation do not mix within one criterion that names several."""
        passed = self._asked(criteria)

        def holds(contact: int, supposed: Supposed, at: float) -> bool:
            if not any(name in supposed.attributes for name, _ in criteria.scores):
                return contact in passed
            moment = datetime.fromtimestamp(at, UTC)
            values = {name: supposed.attributes.get(name) or 0 for name, _ in criteria.scores}
            return all(test.holds(values[name], moment) for name, tests in criteria.scores for test in tests)

        return holds

    def _tag(self, test: Comparison) -> Holds:
        if test.operator in {"exists", "empty"}:
            some = self._asked(Tag(tests=(Comparison(operator="exists", operand=True),)))
            wanted = test.operand is (test.operator == "exists")
            return lambda contact, supposed, _at: (contact in some or any(supposed.tags.values())) is wanted
        names = test.operand if isinstance(test.operand, list) else [test.operand]
        having = [(name, self._asked(Tag(tests=(Comparison(operator="eq", operand=name),)))) for name in names]
        expected = test.operator not in {"ne", "not_in", "not_contains"}
        enough = all if test.operator == "contains_all" else any

        def holds(contact: int, supposed: Supposed, _at: float) -> bool:
            return enough(supposed.tags.get(name, contact in known) for name, known in having) is expected

        return holds

    def _listed(self, criteria: Segment) -> Holds:
        passed, name = self._asked(criteria), criteria.name
        return lambda contact, supposed, _at: supposed.lists.get(name, contact in passed)

    def _consent(self, criteria: Consent) -> Holds:
        passed, pair = self._asked(criteria), (criteria.channel, criteria.purpose)

        def holds(contact: int, supposed: Supposed, _at: float) -> bool:
            if pair not in supposed.consents:
                return contact in passed
            return criteria.state == ("granted" if supposed.consents[pair] else "refused")

        return holds

    def _suppressed(self, criteria: Suppressed) -> Holds:
        """The test is divided into one for each channel and reason, so that it is known which reason is lifted."""
        tests = {channel: [(one.reason, self._asked(one)) for one in each] for channel, each in criteria.each().items()}

        def holds(contact: int, supposed: Supposed, _at: float) -> bool:
            return any(
                criteria.is_for(supposed.suppressed(channel, _first(contact, reasons)))
                for channel, reasons in tests.items()
            )

        return holds

    def _message(self, criteria: Message) -> Holds:
        passed = self._asked(criteria)

        def holds(contact: int, supposed: Supposed, at: float) -> bool:
            number = sum(
                criteria.state in one.states
                and criteria.is_about(supposed.journey, one.template, one.channel)
                and _lately(one.at, at, criteria)
                for one in supposed.messages
            )
            return _counted(criteria.count, number, known=contact in passed, at=at)

        return holds

    def _event(self, criteria: Event) -> Holds:
        passed = self._asked(criteria)
        if not _of_entry(criteria.where) or criteria.measures or criteria.one or criteria.when:
            # asks for more than names and times, which are all that is supposed
            return lambda contact, _supposed, _at: contact in passed

        def holds(contact: int, supposed: Supposed, at: float) -> bool:
            number = sum(name in criteria.names and _lately(when, at, criteria) for name, when in supposed.events)
            return _counted(criteria.count, number, known=contact in passed, at=at)

        return holds

    def _journey(self, criteria: Journey) -> Holds:
        passed = self._asked(criteria)

        def holds(contact: int, supposed: Supposed, at: float) -> bool:
            begun = criteria.name == supposed.journey and criteria.state in {"entered", "running"}
            number = int(begun and criteria.plain and _lately(supposed.entered_at, at, criteria))
            return _counted(criteria.count, number, known=contact in passed, at=at)

        return holds


def _of_entry(where: Mapping[str, Any]) -> bool:
    """Whether nothing is asked of the properties but that they are those of the entry (`same`): of a supposed event
    that is taken as met."""
    return all(isinstance(test, Mapping) and set(test) == {"same"} for test in where.values())


def _first(contact: int, reasons: Sequence[tuple[str, set[int]]]) -> str | None:
    """The reason for which a contact passed."""
    return next((reason for reason, passed in reasons if contact in passed), None)


def _lately(when: float, at: float, criteria: Message | Event | Journey) -> bool:
    within: timedelta | None = criteria.within
    return within is None or when > at - within.total_seconds()


def _counted(count: Count, number: int, *, known: bool, at: float) -> bool:
    """A count once something is supposed: what lay before the simulation is then left out, its number is not known."""
    if not number:
        return known
    if not count.tests:
        return True
    moment = datetime.fromtimestamp(at, UTC)
    return all(test.holds(number, moment) for test in count.tests)
