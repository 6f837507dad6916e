"""The facts that a simulation over the contacts of this installation goes by, as of its start.

All of them are read in one transaction that sees one moment; see docs/simulation.md for what is frozen there.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ARRAY, BigInteger, any_, literal, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.facts import ADDRESS_KINDS
from channels.policy import DelayUntil, Facts, Rules, Skip, decide
from contacts import suppressions
from core import ids
from core.schema.events import event
from core.schema.journeys import journey, journey_spending
from engine.activities import rules_of
from engine.simulating_prices import charges
from engine.versions import Version
from journeys.plan import Act, Plan, Send, Wait, compared
from journeys.scenario import Decision, Person, Scenario
from journeys.steps.registry import effect_of
from journeys.tally import Charge
from segments import Run, eventfilter, facts, matching, matching_runs, resolve
from segments.criteria import Criteria
from segments.criteria import parse as read_criteria
from segments.supposing import Question, Supposed

_CHUNK = 20_000


async def allowed(connection: AsyncConnection, plan: Plan, contacts: Sequence[int], start: float) -> set[int]:
    """Those of the contacts who meet the journey's entry criteria at the start (seconds since 1970)."""
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
    connection: AsyncConnection,
    scenario: Scenario,
    properties: Mapping[str, Any],
    criteria: Criteria,
    contacts: Sequence[int],
) -> set[int]:
    """As `_matching`, for criteria that compare with the event by which each contact enters."""
    at = datetime.fromtimestamp(scenario.start, UTC)
    found: set[int] = set()
    for chunk in _chunks(contacts):
        entries = await entries_of(connection, scenario.plan, chunk, properties)
        runs = [Run(contact, contact, entries.get(contact, {})) for contact in chunk]
        found |= await matching_runs(connection, criteria, runs, at)
    return found


def _chunks(whole: Sequence[Any]) -> list[Sequence[Any]]:
    return [whole[first : first + _CHUNK] for first in range(0, len(whole), _CHUNK)]


async def gather(
    connection: AsyncConnection,
    scenario: Scenario,
    contacts: Sequence[int],
    properties: Mapping[str, Any],
    prices: Mapping[str, float],
) -> tuple[list[Person], "Installation"]:
    """What is known of these contacts at the start.

    Args:
        connection: an open transaction, only read.
        scenario: what is to be simulated.
        contacts: who enters.
        properties: of the event they enter by; of each contact's latest such event if empty.
        prices: of one message, by channel, instead of what routing finds.
    """
    people: list[Person] = []
    for chunk in _chunks(contacts):
        rows = await connection.execute(
            text("select id, time_zone from contact where id = any(:ids) order by id"), {"ids": list(chunk)}
        )
        people += [Person(row.id, ids.seed(row.id), row.time_zone) for row in rows]
    world = Installation(scenario.plan, prices)
    for question in world.questions:
        resolved = await _question(connection, question)
        for test in resolved.tests:
            if any(compared(question)):
                test.passed.update(await _matching_runs(connection, scenario, properties, test.criteria, contacts))
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


async def budget_left(connection: AsyncConnection, plan: Plan) -> Decimal | None:
    """What the journey of this name may still spend; None if it has no budget."""
    if plan.rules.budget is None:
        return None
    spent = select(journey_spending.c.spent).join(journey).where(journey.c.name == plan.journey)
    return Decimal(str(plan.rules.budget)) - ((await connection.execute(spent)).scalar() or Decimal())


class Installation:
    """The facts about the contacts at the start; the `World` of a simulation."""

    def __init__(self, plan: Plan, prices: Mapping[str, float]) -> None:
        self._prices = {channel: Charge(amount=Decimal(str(price))) for channel, price in prices.items()}
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
        """The price that was given, or as routing had it at the start."""
        given = self._prices.get(step.channel)
        return given or self.charges[(step.channel, step.purpose)].get(person.id, _UNPRICED)

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


async def entries_of(
    connection: AsyncConnection, plan: Plan, contacts: Sequence[int], properties: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """Contact to the properties of the event it enters by: those that are given, or of its latest such event."""
    entry = plan.entry.event
    if properties:
        return {contact: dict(properties) for contact in contacts}
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
