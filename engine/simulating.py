"""Simulations over the contacts of this installation, without writing anything.

The facts (`engine.simulating_facts`) are read in one read-only transaction, of one moment; the simulation itself
(`journeys.simulation`) runs afterwards and needs no database. See docs/simulation.md for what is frozen at the start
and what is simulated.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import previews
from contacts import profiles
from core.clock import now
from core.database import Database
from core.errors import InvalidInput, NotFound
from core.settings import Settings
from engine import simulating_facts as facts
from journeys import compiler, loader, references, simulation, store
from journeys.plan import Plan
from journeys.responses import parse
from journeys.scenario import Note, Person, Scenario
from journeys.steps.known import NO_ABILITIES, Abilities
from journeys.tally import Result, priced
from segments import page
from segments.criteria import parse as read_criteria
from segments.store import criteria_of

MOST_DAYS = 366


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
        allowed = await facts.allowed(connection, wanted.plan, contacts, scenario.start)
        let_in = [one for one in contacts if one in allowed]
        scenario = replace(scenario, budget=await facts.budget_left(connection, wanted.plan))
        people, world = await facts.gather(connection, scenario, let_in, wanted.properties, wanted.prices)
    return Ready(wanted, scenario, people, world, len(contacts) - len(people))


@dataclass(frozen=True)
class Ready:
    """A simulation with all it needs."""

    wanted: Wanted
    scenario: Scenario
    people: list[Person]
    world: facts.Installation
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
        allowed = await facts.allowed(connection, wanted.plan, [contact], scenario.start)
        scenario = replace(scenario, budget=await facts.budget_left(connection, wanted.plan))
        people, world = await facts.gather(connection, scenario, [contact], wanted.properties, wanted.prices)
        notes: list[Note] = []
        result = simulation.simulate(scenario, people, world, tell=notes.append)
        properties = (await facts.entries_of(connection, wanted.plan, [contact], wanted.properties)).get(contact, {})
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
