"""Simulations over the contacts of this installation: gathering the facts, without writing anything.

The facts are read in one read-only transaction, of one moment; the simulation itself (`journeys.simulation`) runs
afterwards and needs no database. See docs/simulation.md for what is frozen at the start and what is simulated.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ARRAY, BigInteger, any_, literal, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import previews
from channels.facts import ADDRESS_KINDS
from channels.policy import DelayUntil, Facts, Rules, Skip, decide
from contacts import profiles, suppressions
from core import ids
from core.clock import now
from core.database import Database
from core.errors import InvalidInput, NotFound
from core.schema.events import event
from core.settings import Settings
from engine.activities import rules_of
from engine.simulating_prices import charges
from engine.versions import Version
from journeys import compiler, loader, references, simulation, store
from journeys.plan import Act, Plan, Send, Wait, compared
from journeys.responses import parse
from journeys.scenario import Decision, Note, Person, Scenario
from journeys.steps.known import NO_ABILITIES, Abilities
from journeys.steps.registry import effect_of
from journeys.tally import Charge, Result, priced
from segments import Run, eventfilter, facts, matching, matching_runs, page, resolve
from segments.criteria import Criteria
from segments.criteria import parse as read_criteria
from segments.store import criteria_of
from segments.supposing import Question, Supposed

MOST_DAYS = 366
_CHUNK = 20_000


@dataclass(frozen=True)
class Wanted:
    """What somebody wants to know."""

    plan: Plan
    segment: str | None = None
    """Who enters; if None, the segment that the journey itself names."""
    contact: str | None = None
    """Only this one: a number, or kind:value."""
    days: int = 30
    responses: str = ""
    seed: int = 0
    start: datetime | None = None
    """Now, if None."""
    enter_within: timedelta = timedelta()
    prices: Mapping[str, float] = field(default_factory=dict)
    """Of one message, by channel; the providers' own where none is given."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Of the event by which the contact enters, for its messages and `same`; of its latest such event if empty."""
    most: int | None = None
    """Refuse populations of more."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Simulated:
    """What came of it."""

    result: Result
    not_let_in: int
    """Of the population, those who do not meet the journey's entry criteria."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Message:
    """A message as the contact would get it."""

    subject: str
    text: str
    problem: str = ""
    """Why it could not be rendered."""


@dataclass(frozen=True)
class Told:
    """One line of a contact's story."""

    at: datetime
    step: str
    what: str
    message: Message | None = None


@dataclass(frozen=True)
class Story:
    """One contact's way through the journey."""

    contact_id: int
    journey: str
    let_in: bool
    """Whether it meets the journey's entry criteria; the story is told in any case."""
    lines: list[Told]
    result: Result
    warnings: tuple[str, ...]


@asynccontextmanager
async def read_only(database: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction that sees one moment and in which PostgreSQL refuses every write."""
    async with database.begin() as connection:
        await connection.execute(text("set transaction isolation level repeatable read, read only"))
        yield connection


def source_of(journey: str) -> bytes | None:
    """The content of a YAML file; None if the word is a published journey's name.

    Raises:
        NotFound: it looks like a file, but cannot be read.
    """
    file = Path(journey)
    if file.suffix not in {".yaml", ".yml"} and not file.is_file():
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise NotFound(f"{journey} cannot be read: {error.strerror}") from error


async def plan_of(
    connection: AsyncConnection,
    journey: str,
    source: bytes | str | None = None,
    abilities: Abilities = NO_ABILITIES,
) -> tuple[Plan, tuple[str, ...]]:
    """The plan to be simulated, and what would keep it from being published.

    Args:
        connection: an open transaction.
        journey: the name of a published journey, or of the file.
        source: the YAML, if it is not the published one that is meant.
        abilities: what can be done here, by the settings.

    Raises:
        InvalidInput: the YAML is not a valid journey.
        NotFound: there is no journey of this name.
    """
    if source is None:
        return (await store.find(connection, journey)).plan, ()
    written = loader.load(source, journey)
    problems = await references.problems_of(connection, written, abilities)
    return compiler.compile(written), tuple(str(problem) for problem in problems)


async def simulate(database: Database, wanted: Wanted, progress: Callable[[int, int], None] | None = None) -> Simulated:
    """Simulate a journey over a segment. Blocks while it computes: 100,000 contacts take about half a minute.

    Args:
        database: read only.
        wanted: the journey, who enters, how people answer.
        progress: called with how many contacts are through, and how many there are; may raise to end it.

    Raises:
        InvalidInput: nobody is named, the population is too large, a number is out of bounds.
        NotFound: no such segment.
    """
    ready = await prepare(database, wanted)
    return ready.run(progress)


async def prepare(database: Database, wanted: Wanted) -> "Ready":
    """Gather the facts; the rest needs no database. Raises as `simulate` does."""
    scenario = _scenario(wanted)
    async with read_only(database) as connection:
        contacts = await _population(connection, wanted)
        allowed = await _allowed(connection, wanted.plan, contacts, scenario.start)
        people, world = await _facts(connection, wanted, scenario, [one for one in contacts if one in allowed])
    return Ready(wanted, scenario, people, world, len(contacts) - len(people))


@dataclass(frozen=True)
class Ready:
    """A simulation with all it needs."""

    wanted: Wanted
    scenario: Scenario
    people: list[Person]
    world: "Installation"
    not_let_in: int

    def run(self, progress: Callable[[int, int], None] | None = None) -> Simulated:
        """Compute; pure, and safe to be called in another thread."""
        total = len(self.people)
        step = None if progress is None else lambda done: progress(done, total)
        result = simulation.simulate(self.scenario, self.people, self.world, progress=step)
        return Simulated(priced(result, self.wanted.prices), self.not_let_in, self.wanted.warnings)


async def tell(database: Database, settings: Settings, wanted: Wanted) -> Story:
    """Let one contact go through a journey, and say at each step what is decided and why.

    Raises:
        InvalidInput: a number is out of bounds, or the contact's name is not one.
        NotFound: no such contact.
    """
    scenario = _scenario(wanted)
    async with read_only(database) as connection:
        contact = await profiles.find(connection, wanted.contact or "", settings.phone_region)
        allowed = await _allowed(connection, wanted.plan, [contact], scenario.start)
        people, world = await _facts(connection, wanted, scenario, [contact])
        notes: list[Note] = []
        result = simulation.simulate(scenario, people, world, tell=notes.append)
        properties = (await _entries(connection, wanted, [contact])).get(contact, {})
        lines = []
        for note in notes:
            message = None
            if note.template is not None:
                message = await _rendered(connection, settings, note.template, contact, properties)
            lines.append(Told(datetime.fromtimestamp(note.at, UTC), note.step, note.what, message))
    result = priced(result, wanted.prices)
    return Story(contact, wanted.plan.journey, bool(allowed), lines, result, wanted.warnings)


def _scenario(wanted: Wanted) -> Scenario:
    if not 1 <= wanted.days <= MOST_DAYS:
        raise InvalidInput(f"days: from 1 to {MOST_DAYS}")
    if not timedelta() <= wanted.enter_within <= timedelta(days=wanted.days):
        raise InvalidInput("contacts have to enter within the days that are simulated")
    if any(price < 0 for price in wanted.prices.values()):
        raise InvalidInput("a price is not negative")
    start = (wanted.start or now()).timestamp()
    responses = parse(wanted.responses)
    return Scenario(wanted.plan, start, wanted.days, responses, wanted.seed, wanted.enter_within.total_seconds())


async def _population(connection: AsyncConnection, wanted: Wanted) -> list[int]:
    name = wanted.segment or wanted.plan.entry.segment
    if name is None:
        raise InvalidInput("say who enters: name a segment (`all` is everybody) or a contact")
    data = await criteria_of(connection, name)
    criteria = None if data is None else read_criteria(data)
    limit = (1 << 62) if wanted.most is None else wanted.most + 1
    found = await page(connection, criteria, 0, limit)
    if wanted.most is not None and len(found) > wanted.most:
        raise InvalidInput(f"more than {wanted.most} contacts in {name}; simulate them with `kaskad journey simulate`")
    return found


async def _allowed(connection: AsyncConnection, plan: Plan, contacts: Sequence[int], start: float) -> set[int]:
    if plan.entry.criteria is None:
        return set(contacts)
    return await _matching(connection, read_criteria(plan.entry.criteria), contacts, start)


async def _matching(connection: AsyncConnection, criteria: Criteria, contacts: Sequence[int], start: float) -> set[int]:
    at = datetime.fromtimestamp(start, UTC)
    found: set[int] = set()
    for chunk in _chunks(contacts):
        found |= await matching(connection, criteria, chunk, at)
    return found


async def _matching_runs(
    connection: AsyncConnection, wanted: Wanted, criteria: Criteria, contacts: Sequence[int], start: float
) -> set[int]:
    """As `_matching`, for criteria that compare with the event by which each contact enters."""
    at = datetime.fromtimestamp(start, UTC)
    found: set[int] = set()
    for chunk in _chunks(contacts):
        entries = await _entries(connection, wanted, chunk)
        runs = [Run(contact, contact, entries.get(contact, {})) for contact in chunk]
        found |= await matching_runs(connection, criteria, runs, at)
    return found


def _chunks(whole: Sequence[Any]) -> list[Sequence[Any]]:
    return [whole[first : first + _CHUNK] for first in range(0, len(whole), _CHUNK)]


async def _facts(
    connection: AsyncConnection, wanted: Wanted, scenario: Scenario, contacts: Sequence[int]
) -> tuple[list[Person], "Installation"]:
    people: list[Person] = []
    for chunk in _chunks(contacts):
        rows = await connection.execute(
            text("select id, time_zone from contact where id = any(:ids) order by id"), {"ids": list(chunk)}
        )
        people += [Person(row.id, ids.seed(row.id), row.time_zone) for row in rows]
    world = Installation(scenario.plan)
    for question in world.questions:
        resolved = await _question(connection, question)
        for test in resolved.tests:
            if any(compared(question)):
                test.passed.update(await _matching_runs(connection, wanted, test.criteria, contacts, scenario.start))
            else:
                test.passed.update(await _matching(connection, test.criteria, contacts, scenario.start))
        world.asked.append(resolved)
    for name, values in world.values.items():
        await _values(connection, name, values, contacts)
    for channel, purpose in sorted({(step.channel, step.purpose) for step in _senders(scenario.plan)}):
        await _addresses(connection, world, channel, contacts)
        await _consents(connection, world, channel, purpose, contacts)
        await _ledger(connection, world, channel, contacts, scenario.start)
        begin = datetime.fromtimestamp(scenario.start, UTC)
        zones = {person.id: person.zone for person in people}
        found = await charges(connection, channel, purpose, world.addresses[channel], zones, begin)
        world.charges[(channel, purpose)] = found
    return people, world


async def _question(connection: AsyncConnection, data: dict[str, Any]) -> Question:
    return Question(await resolve(connection, read_criteria(data, in_journey=True)))


def _senders(plan: Plan) -> list[Send]:
    return [step for step in plan.steps if isinstance(step, Send)]


async def _addresses(connection: AsyncConnection, world: "Installation", channel: str, contacts: Sequence[int]) -> None:
    """Each contact's address for a channel (its oldest), and which of them are suppressed."""
    if channel in world.addresses:
        return
    found = world.addresses[channel] = {}
    for chunk in _chunks(contacts):
        rows = await connection.execute(
            text(
                "select distinct on (contact_id) contact_id, value from identity "
                "where contact_id = any(:ids) and kind = :kind order by contact_id, created_at, value"
            ),
            {"ids": list(chunk), "kind": ADDRESS_KINDS.get(channel, "")},
        )
        part = {row.contact_id: row.value for row in rows}
        found.update(part)
        if part:
            world.suppressed.update(
                {
                    (channel, address): reason
                    for address, reason in (
                        await suppressions.suppressed(connection, channel, list(part.values()))
                    ).items()
                }
            )


async def _values(connection: AsyncConnection, attribute: str, found: dict[int, Any], contacts: Sequence[int]) -> None:
    for chunk in _chunks(contacts):
        rows = await connection.execute(
            text(
                "select id, attributes -> cast(:name as text) as value from contact "
                "where id = any(:ids) and attributes ? :name"
            ),
            {"ids": list(chunk), "name": attribute},
        )
        found.update((row.id, row.value) for row in rows)


async def _consents(
    connection: AsyncConnection, world: "Installation", channel: str, purpose: str, contacts: Sequence[int]
) -> None:
    found = world.consents[(channel, purpose)] = {}
    for chunk in _chunks(contacts):
        rows = await connection.execute(
            text(
                "select contact_id, granted from consent "
                "where contact_id = any(:ids) and channel = :channel and purpose = :purpose"
            ),
            {"ids": list(chunk), "channel": channel, "purpose": purpose},
        )
        found.update((row.contact_id, row.granted) for row in rows)


async def _ledger(
    connection: AsyncConnection, world: "Installation", channel: str, contacts: Sequence[int], start: float
) -> None:
    """Messages of before the start that frequency caps still count."""
    if not world.cap_seconds:
        return
    begin = datetime.fromtimestamp(start, UTC)
    for chunk in _chunks(contacts):
        rows = await connection.execute(
            text(
                "select contact_id, created_at from message where contact_id = any(:ids) and channel = :channel "
                "and created_at > :since and created_at <= :start and state <> all('{15,40}')"
            ),
            {
                "ids": list(chunk),
                "channel": channel,
                "since": begin - timedelta(seconds=world.cap_seconds),
                "start": begin,
            },
        )
        for row in rows:
            world.sent_before[(row.contact_id, channel)].append(row.created_at.timestamp())


class Installation:
    """The facts about the contacts at the start; the `World` of a simulation."""

    def __init__(self, plan: Plan) -> None:
        self.questions = plan.criteria
        self.asked: list[Question] = []
        """By the criterion's number."""
        self.rules = {number: _rules(plan, step) for number, step in enumerate(plan.steps) if isinstance(step, Send)}
        """By the number of the step."""
        self.cap_seconds = max((one.cap_seconds for one in self.rules.values() if one.cap is not None), default=0)
        self.addresses: dict[str, dict[int, str]] = {}
        """Channel to contact to address."""
        self.suppressed: dict[tuple[str, str], str] = {}
        """(channel, address) to the reason."""
        self.consents: dict[tuple[str, str], dict[int, bool]] = {}
        """(channel, purpose) to contact to granted."""
        self.charges: dict[tuple[str, str], dict[int, Charge]] = {}
        """(channel, purpose) to contact to what a message costs."""
        self.values: dict[str, dict[int, Any]] = {name: {} for name in _read_attributes(plan)}
        """Attribute to contact to value."""
        self.sent_before: dict[tuple[int, str], list[float]] = defaultdict(list)
        """(contact, channel) to when."""

    def may_send(self, person: Person, number: int, step: Send, at: float, supposed: Supposed) -> Decision:
        """What `channels.policy` says, with the messages of the simulation counted."""
        pair, rules = (step.channel, step.purpose), self.rules[number]
        address = self.addresses[step.channel].get(person.id)
        facts = Facts(
            step.channel,
            step.purpose,
            True,
            address,
            supposed.consents.get(pair, self.consents[pair].get(person.id)),
            supposed.suppressed(step.channel, self.suppressed.get((step.channel, address))) if address else None,
            person.zone,
            _repeated(rules, number, at, supposed),
            self._lately(rules, person.id, step.channel, at, supposed),
        )
        decision = decide(facts, datetime.fromtimestamp(at, UTC), rules)
        if isinstance(decision, Skip):
            return Decision("skip", str(decision))
        if isinstance(decision, DelayUntil):
            return Decision("delay", "quiet hours or send window", decision.at.timestamp())
        return _SEND

    def charge(self, person: Person, step: Send) -> Charge:
        """As routing had it at the start."""
        return self.charges[(step.channel, step.purpose)].get(person.id, _UNPRICED)

    def _lately(self, rules: Rules, contact: int, channel: str, at: float, supposed: Supposed) -> int:
        if rules.cap is None:
            return 0
        since = at - rules.cap_seconds
        before = sum(when > since for when in self.sent_before.get((contact, channel), ()))
        return before + sum(
            one.channel == channel and one.at > since and "skipped" not in one.states for one in supposed.messages
        )

    def holds(self, criterion: int, person: Person, at: float, supposed: Supposed) -> bool:
        """What the database said at the start, changed by what the simulation supposes since."""
        return self.asked[criterion].holds(person.id, supposed, at)

    def words(self, criterion: int) -> str:
        """The criterion in words."""
        return self.asked[criterion].words

    def value(self, person: Person, attribute: str) -> Any:
        """What the attribute held at the start."""
        return self.values[attribute].get(person.id)


_SEND = Decision("send")
_UNPRICED = Charge()


def _repeated(rules: Rules, number: int, at: float, supposed: Supposed) -> bool:
    since = at - rules.duplicate_seconds
    return rules.duplicate_seconds > 0 and any(
        one.step == number and one.at > since and "skipped" not in one.states for one in supposed.messages
    )


def _rules(plan: Plan, step: Send) -> Rules:
    """What the engine gives the policy for messages of this step."""
    return rules_of(Version(0, 0, plan.journey, plan, {}), step)


def _read_attributes(plan: Plan) -> set[str]:
    """The attributes whose values the simulation needs."""
    dates = {step.date.attribute for step in plan.steps if isinstance(step, Wait) and step.date is not None}
    acts = [(effect_of(step), step) for step in plan.steps if isinstance(step, Act)]
    return dates | {name for effect, step in acts for name in effect.reads(effect.read(step))}


async def _entries(connection: AsyncConnection, wanted: Wanted, contacts: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Contact to the properties of the event it enters by: those that are given, or of its latest such event."""
    entry = wanted.plan.entry.event
    if wanted.properties:
        return {contact: dict(wanted.properties) for contact in contacts}
    if entry is None:
        return {}
    rows = await connection.execute(
        select(event.c.contact_id, event.c.properties)
        .ext(distinct_on(event.c.contact_id))
        .where(
            event.c.contact_id == any_(literal(list(contacts), ARRAY(BigInteger))),
            event.c.name_id == facts.event_name(entry.event),
            eventfilter.clause(entry.where, event.c.properties),
        )
        .order_by(event.c.contact_id, event.c.occurred_at.desc(), event.c.id.desc())
    )
    return {row.contact_id: row.properties or {} for row in rows}


async def _rendered(
    connection: AsyncConnection, settings: Settings, template: str, contact: int, properties: dict[str, Any]
) -> Message:
    try:
        letter = await previews.preview(connection, settings, template, str(contact), properties)
    except (InvalidInput, NotFound) as error:
        return Message("", "", str(error))
    return Message(letter.subject, letter.text)


def plain(found: Simulated | Story) -> dict[str, Any]:
    """Everything as dictionaries and lists, for JSON."""
    return asdict(found)
