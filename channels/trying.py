"""A dry run of policy and routing: which provider each contact would get now, and what it would cost. Nothing is
written, nothing leaves.

The policy is asked as it would be: consent, suppression, the sender, the journey's hours and caps, the contact's own
limit; then routes, prices, the quotas of warm-ups and the journey's budget. Only what a letter says is left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from channels import carriers, facts, pacing, providers, spending, templates
from channels.batches import Batch
from channels.carriers import Wanted
from channels.policy import NO_RULES, DelayUntil, Reason, Rules, Skip, decide_all
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


@dataclass(frozen=True, slots=True)
class Tried:
    """What would become of one contact's message."""

    contact: int
    provider: str | None
    """Nobody, with the reason."""
    then: tuple[str, ...]
    """Who would have it after that one, in their order."""
    cost: Decimal | None
    """Of one part; None where nobody said."""
    currency: str | None
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

    @classmethod
    async def begin(cls, connection: AsyncConnection, settings: Settings, trial: Trial, at: datetime) -> "Run":
        """Read what all pages need.

        Raises:
            InvalidInput: there is no such channel, or its address stands in a template that was not named.
            NotFound: the template was never published.
            Misconfigured: nobody carries the channel.
        """
        batch = await _batch(connection, trial, at)
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
        return [self._tried(one, decided[one], ranked, ids[one]) for one in there]

    def _tried(self, contact: int, decision: object, ranked: Mapping[UUID, list[Choice]], number: UUID) -> Tried:
        if isinstance(decision, Skip):
            return _nobody(contact, str(decision))
        if isinstance(decision, DelayUntil):
            return _nobody(contact, LATER, decision.at)
        choices = ranked[number]
        if not choices:
            return _nobody(contact, str(Reason.NO_ROUTE))
        if self.left is not None and self.left < (choices[0].price or 0):
            self.left = Decimal(-1)  # who comes after it gets nothing either, however cheap
            return _nobody(contact, str(Reason.OVER_BUDGET))
        carried = self._within_quota(choices)
        if carried is None:
            return _nobody(contact, TOMORROW, pacing.tomorrow(self.at))
        self.left = None if self.left is None else self.left - (carried.price or Decimal())
        then = tuple(one.name for one in choices if one is not carried)
        return Tried(contact, carried.name, then, carried.price, carried.currency)

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
    return Tried(contact, None, (), None, None, reason, until)


async def _batch(connection: AsyncConnection, trial: Trial, at: datetime) -> Batch:
    address = sender = None
    if trial.template is not None:
        compiled = (await templates.find(connection, trial.template)).compiled
        call, sender = compiled.get("call"), compiled.get("sender")
        address = webhook.host(call) if call else None
    elif trial.channel == "webhook":
        raise InvalidInput(Problem("the address of a webhook stands in its template", "name it: --template NAME"))
    elif trial.channel not in facts.ADDRESS_KINDS:
        there_are = ", ".join([*facts.ADDRESS_KINDS, "webhook"])
        raise InvalidInput(Problem(f"there is no channel {trial.channel}", f"there are {there_are}"))
    return Batch(trial.channel, trial.purpose, trial.version_id, trial.step, at, address, sender)


class Summary:
    """Counts and costs by provider and reason."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str | None, str | None]] = Counter()
        self._costs: dict[str, Decimal] = {}
        self._currencies: dict[str, str] = {}
        self._unpriced: Counter[str] = Counter()

    def add(self, tried: Iterable[Tried]) -> None:
        """Count these, too."""
        for one in tried:
            self._counts[one.provider, one.reason] += 1
            if one.provider is None:
                continue
            if one.cost is None or one.currency is None:
                self._unpriced[one.provider] += 1
            else:
                self._costs[one.provider] = self._costs.get(one.provider, Decimal()) + one.cost
                self._currencies[one.provider] = one.currency

    def rows(self) -> list[dict[str, Any]]:
        """Providers with most messages first, then why the others would get none."""
        ordered = sorted(self._counts.items(), key=lambda item: (item[0][0] is None, -item[1], item[0]))
        return [
            {
                "provider": provider,
                "reason": reason,
                "messages": count,
                "cost": self._costs.get(provider or ""),
                "currency": self._currencies.get(provider or ""),
                "without_price": self._unpriced[provider or ""],
            }
            for (provider, reason), count in ordered
        ]
