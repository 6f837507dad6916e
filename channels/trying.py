"""A dry run of policy and routing: which provider each contact would get now, and what it would cost. Nothing is
written, nothing leaves.

The policy is asked as it would be: consent, suppression, the sender, the journey's hours and caps, the contact's own
limit; then routes, prices, the quotas of warm-ups and the journey's budget. What a message says is looked at only where
its parts are counted; values that a template lacks for somebody go unnoticed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import carriers, facts, pacing, parts, previews, providers, spending, templates
from channels.batches import Batch
from channels.carriers import Wanted
from channels.policy import NO_RULES, DelayUntil, Reason, Rules, Skip, decide_all
from channels.rendering import Compiled, render, scopes
from channels.routing import Carrier, Choice
from channels.spending import Budget
from channels.webhook import call as webhook
from core.errors import InvalidInput, Misconfigured, Problem
from core.ids import derived_uuid
from core.settings import Settings

PAGE = 5000
"""How many contacts are looked at together."""
LATER = "later"
"""The reason of those whose hours have not come."""
TOMORROW = "tomorrow"
"""The reason of those who are too many for a warm-up today."""
WHOLE, PER_PART = "whole", "per part"


@dataclass(frozen=True, slots=True)
class Trial:
    """The message that would be sent."""

    channel: str
    purpose: str = "marketing"
    template: str | None = None
    version_id: int = 0
    step: int = 0
    rules: Rules = NO_RULES
    budget: Budget | None = None
    event: Mapping[str, Any] = field(default_factory=dict)
    """Properties of an entry event, for a text that says them."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What would become of one contact's message."""

    contact: int
    provider: str | None
    """Nobody, with the reason."""
    then: tuple[str, ...]
    """Who would have it after that one, in their order."""
    parts: int | None
    """None where its text is not known: no template was named, or it lacks a value."""
    price: Decimal | None
    """Of one part; None where nobody said."""
    cost: Decimal | None
    """Of all parts; of one where they are not known."""
    currency: str | None
    priced: str | None
    """WHOLE or PER_PART: what the cost is of."""
    reason: str | None = None
    until: datetime | None = None
    """When it would be asked about again."""


@dataclass
class Run:
    """A dry run, page by page: quotas and the budget go down as it goes on."""

    trial: Trial
    batch: Batch
    among: Sequence[Carrier]
    at: datetime
    quotas: dict[int, int] = field(default_factory=dict)
    """What is left of the day, by provider, where it is limited."""
    left: Decimal | None = None
    """Of the budget."""
    wording: "_Wording | None" = None
    """Where parts are counted and a template was named."""

    @classmethod
    async def begin(cls, connection: AsyncConnection, settings: Settings, trial: Trial, at: datetime) -> "Run":
        """Read what all pages need.

        Raises:
            InvalidInput: there is no such channel, or its address stands in a template that was not named.
            NotFound: the template was never published.
            Misconfigured: nobody carries the channel.
        """
        template = None if trial.template is None else (await templates.find(connection, trial.template)).compiled
        batch = _batch(trial, at, template)
        among = await carriers.load(connection, trial.channel)
        if not among:
            raise Misconfigured(carriers.nobody(trial.channel))
        run = cls(trial, batch, among, at)
        for provider in await providers.listing(connection, settings):
            quota = await pacing.left_today(connection, provider, at)
            if quota is not None:
                run.quotas[provider.id] = quota
        if trial.budget is not None:
            run.left = await spending.left(connection, trial.budget)
        if template is not None and trial.channel in parts.COUNTED:
            run.wording = await _Wording.of(connection, settings, trial, template)
        return run

    async def page(self, connection: AsyncConnection, contacts: Sequence[int]) -> list[Tried]:
        """What would become of each contact's message; contacts that do not exist are left out. Which provider chance
        gives by weight is the same each time one asks, but not the one that a real message would get."""
        ids = {contact: derived_uuid("route try", str(contact)) for contact in contacts}
        known = await facts.suppose(connection, self.batch, ids, self.trial.rules, self.at)
        there = [contact for contact in contacts if contact in known]
        decided = dict(
            zip(there, decide_all([(one, known[one].facts) for one in there], self.at, self.trial.rules), strict=True)
        )
        wanted = [
            Wanted(ids[one], fact.address, self.trial.purpose, fact.time_zone)
            for one in there
            if not isinstance(decided[one], Skip | DelayUntil) and (fact := known[one].facts).address is not None
        ]
        ranked = await carriers.choices(connection, self.among, wanted, self.at)
        counted = await self._parts(connection, [one for one in there if ids[one] in ranked])
        return [self._tried(one, decided[one], ranked.get(ids[one], []), counted.get(one)) for one in there]

    async def _parts(self, connection: AsyncConnection, contacts: Sequence[int]) -> dict[int, int | None]:
        """Of each contact's message, where they can be known."""
        if self.trial.channel not in parts.COUNTED:
            return dict.fromkeys(contacts, 1)
        if self.wording is None:
            return dict.fromkeys(contacts)
        return await self.wording.parts(connection, contacts)

    def _tried(self, contact: int, decision: object, choices: Sequence[Choice], counted: int | None) -> Tried:
        if isinstance(decision, Skip):
            return _nobody(contact, str(decision))
        if isinstance(decision, DelayUntil):
            return _nobody(contact, LATER, decision.at)
        if not choices:
            return _nobody(contact, str(Reason.NO_ROUTE))
        if self.left is not None and self.left < (choices[0].price or 0):
            self.left = Decimal(-1)  # who comes after it gets nothing either, however cheap
            return _nobody(contact, str(Reason.OVER_BUDGET))
        carried = self._within_quota(choices)
        if carried is None:
            return _nobody(contact, TOMORROW, pacing.tomorrow(self.at))
        cost = None if carried.price is None else carried.price * (counted or 1)
        self.left = None if self.left is None else self.left - (cost or Decimal())
        then = tuple(one.name for one in choices if one is not carried)
        priced = WHOLE if counted else PER_PART
        return Tried(contact, carried.name, then, counted, carried.price, cost, carried.currency, priced)

    def _within_quota(self, choices: Sequence[Choice]) -> Choice | None:
        """The first whose day is not full: the first of all, or another one that can carry it now."""
        able = {carrier.id for carrier in self.among if carrier.active and carrier.healthy}
        for place, choice in enumerate(choices):
            if self.quotas.get(choice.provider_id, 1) > 0 and (place == 0 or choice.provider_id in able):
                if choice.provider_id in self.quotas:
                    self.quotas[choice.provider_id] -= 1
                return choice
        return None


def _nobody(contact: int, reason: str, until: datetime | None = None) -> Tried:
    return Tried(contact, None, (), None, None, None, None, None, reason, until)


def _batch(trial: Trial, at: datetime, template: Mapping[str, Any] | None) -> Batch:
    address = sender = None
    if template is not None:
        call, sender = template.get("call"), template.get("sender")
        address = webhook.host(call) if call else None
    elif trial.channel == "webhook":
        raise InvalidInput(Problem("the address of a webhook stands in its template", "name it: --template NAME"))
    elif trial.channel not in facts.ADDRESS_KINDS:
        there_are = ", ".join([*facts.ADDRESS_KINDS, "webhook"])
        raise InvalidInput(Problem(f"there is no channel {trial.channel}", f"there are {there_are}"))
    return Batch(trial.channel, trial.purpose, trial.version_id, trial.step, at, address, sender)


@dataclass(frozen=True)
class _Wording:
    """What the messages say."""

    channel: str
    template: Compiled
    journey: Mapping[str, Any]
    event: Mapping[str, Any]
    links: dict[str, Any]

    @classmethod
    async def of(
        cls, connection: AsyncConnection, settings: Settings, trial: Trial, template: Mapping[str, Any]
    ) -> "_Wording":
        statement = text(
            "select j.name, j.title from journey j join journey_version v on v.journey_id = j.id where v.id = :version"
        )
        rows = (await connection.execute(statement, {"version": trial.version_id})).mappings()
        journey = rows.one_or_none() or previews.NO_JOURNEY
        return cls(trial.channel, Compiled(template), dict(journey), trial.event, previews.dead_links(settings))

    async def parts(self, connection: AsyncConnection, contacts: Sequence[int]) -> dict[int, int | None]:
        """Of each contact's message; None where its text lacks a value."""
        values = await previews.values_of(connection, contacts)
        return {one: self._of_one(values[one]) for one in contacts if one in values}  # erased meanwhile

    def _of_one(self, contact: Mapping[str, Any]) -> int | None:
        content = render(self.template, scopes(contact, self.event, self.journey) | self.links)
        return None if isinstance(content, Skip) else parts.count(self.channel, content.text)


_Row = tuple[str | None, str | None, str | None]
"""Provider, reason, and what the cost is of."""


class Summary:
    """Counts and costs by provider and reason."""

    def __init__(self) -> None:
        self._counts: Counter[_Row] = Counter()
        self._parts: Counter[_Row] = Counter()
        self._costs: dict[_Row, Decimal] = {}
        self._currencies: dict[_Row, str] = {}
        self._unpriced: Counter[_Row] = Counter()

    def add(self, tried: Iterable[Tried]) -> None:
        """Count these, too."""
        for one in tried:
            row = (one.provider, one.reason, one.priced)
            self._counts[row] += 1
            if one.provider is None:
                continue
            self._parts[row] += one.parts or 0
            if one.cost is None or one.currency is None:
                self._unpriced[row] += 1
            else:
                self._costs[row] = self._costs.get(row, Decimal()) + one.cost
                self._currencies[row] = one.currency

    def rows(self) -> list[dict[str, Any]]:
        """Providers with most messages first, then why the others would get none."""
        ordered = sorted(self._counts.items(), key=lambda item: (item[0][0] is None, -item[1], item[0]))
        return [
            {
                "provider": row[0],
                "reason": row[1],
                "messages": count,
                "parts": self._parts[row] or None,
                "cost": self._costs.get(row),
                "currency": self._currencies.get(row),
                "priced": row[2],
                "without_price": self._unpriced[row],
            }
            for row, count in ordered
        ]
