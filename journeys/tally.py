"""Counting in a simulation, and the figures it comes to. Every count is a sum: the order does not matter."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from journeys.plan import Plan
from journeys.responses import Responses
from journeys.tokens import Finish, Visit

DAY = 86_400.0
MONEY_DIGITS = 6


@dataclass(frozen=True)
class MessageRow:
    """Messages of a step on a day; the first day is 1."""

    day: int
    step: str
    channel: str
    template: str
    sent: int
    skipped: int
    delayed: int
    """How often a message was held back for later; one message may be held back several times."""


@dataclass(frozen=True)
class ReasonRow:
    """Why messages of a step were not sent, or not at once."""

    step: str
    channel: str
    action: Literal["skipped", "delayed"]
    reason: str
    messages: int


@dataclass(frozen=True)
class StandingRow:
    """How many contacts stand at a step when a day ends."""

    day: int
    step: str
    contacts: int


@dataclass(frozen=True)
class WayRow:
    """How many times contacts came to a step, and how."""

    step: str
    via: str
    visits: int


@dataclass(frozen=True)
class OutcomeRow:
    """How many runs ended so."""

    outcome: str
    contacts: int
    share: float
    """Of those who entered."""


@dataclass(frozen=True)
class ResponseRow:
    """How people answered, and how many of them reached the goal."""

    event: str
    probability: float
    asked: int
    """Contacts who had an occasion to answer so, at least one."""
    answered: int
    converted: int
    """Of those who answered."""
    converted_silent: int
    """Of those who had an occasion and did not answer."""


class Charge(NamedTuple):
    """What one message costs, and with whom."""

    provider: str | None = None
    amount: Decimal | None = None
    """None where nobody said."""
    currency: str | None = None


@dataclass(frozen=True)
class CostRow:
    """What the messages of a channel cost, with one provider where prices are kept."""

    channel: str
    messages: int
    price: float | None
    """Of one message; None where it was not given, but follows from each contact's provider and place."""
    cost: float
    provider: str | None = None
    """None where a price was given, or where no provider has prices."""
    currency: str | None = None
    unpriced: int = 0
    """Of the messages, those that no price fits."""


@dataclass(frozen=True)
class Result:
    """What a simulation came to."""

    journey: str
    start: datetime
    days: int
    seed: int
    contacts: int
    entered: int
    """Fewer than `contacts` if they enter over more days than were simulated."""
    finished: int
    running: int
    messages: list[MessageRow]
    reasons: list[ReasonRow]
    costs: list[CostRow]
    cost: float | None
    """Of all messages; None where that would add different currencies."""
    standing: list[StandingRow]
    ways: list[WayRow]
    outcomes: list[OutcomeRow]
    seconds_median: float | None
    """From entering to the end, of those who came to an end."""
    seconds_p90: float | None
    converted: int
    """Who reached a goal."""
    responses: list[ResponseRow]
    budget: float | None = None
    """What the journey could still spend at the start."""
    spent_at: datetime | None = None
    """When a message came that the budget did not pay for: the journey would pause itself then."""

    def sent(self) -> dict[str, int]:
        """Messages sent, by step."""
        total: Counter[str] = Counter()
        for row in self.messages:
            total[row.step] += row.sent
        return {step: number for step, number in total.items() if number}


@dataclass
class Tally:
    """The counts while a simulation runs."""

    entered: int = 0
    converted: int = 0
    messages: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    """(day, step, sent, skipped or delayed)"""
    reasons: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    standing: Counter[tuple[int, int]] = field(default_factory=Counter)
    ways: Counter[tuple[int, str]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    lengths: Counter[float] = field(default_factory=Counter)
    answered: Counter[tuple[str, bool, bool]] = field(default_factory=Counter)
    """(event, answered, converted)"""
    charges: Counter[tuple[str, Charge]] = field(default_factory=Counter)
    """(channel, what a message of it costs)"""

    def visit(self, visit: Visit) -> None:
        """A contact comes to a step."""
        self.ways[(visit.step, visit.via)] += 1

    def message(self, day: int, step: int, action: str, reason: str) -> None:
        """A message is sent, skipped or delayed."""
        self.messages[(day, step, action)] += 1
        if reason:
            self.reasons[(step, action, reason)] += 1

    def charge(self, channel: str, charge: Charge) -> None:
        """A message costs that much."""
        self.charges[(channel, charge)] += 1

    def finish(self, finish: Finish, seconds: float) -> None:
        """A run ends."""
        self.outcomes[finish.outcome] += 1
        self.lengths[round(seconds, 3)] += 1

    def stand(self, day: int, tokens: Mapping[Any, Any]) -> None:
        """These tokens are under way when a day ends."""
        for token in tokens.values():
            if token.phase != "forked":  # its branches count instead
                self.standing[(day, token.step)] += 1

    def answers(self, asked: Iterable[str], answered: set[str], converted: bool) -> None:
        """What a contact answered, of what it had an occasion to."""
        for event in asked:
            self.answered[(event, event in answered, converted)] += 1

    def result(self, plan: Plan, responses: Responses, start: float, days: int, seed: int, contacts: int) -> Result:
        """The figures, in the order of days and of the plan's steps."""
        finished = sum(self.outcomes.values())
        return Result(
            journey=plan.journey,
            start=datetime.fromtimestamp(start, UTC),
            days=days,
            seed=seed,
            contacts=contacts,
            entered=self.entered,
            finished=finished,
            running=self.entered - finished,
            messages=self._messages(plan),
            reasons=self._reasons(plan),
            costs=(costs := self._costs()),
            cost=_together(costs),
            standing=[
                StandingRow(day + 1, plan.steps[step].id, number)
                for (day, step), number in sorted(self.standing.items())
            ],
            ways=[WayRow(plan.steps[step].id, via, number) for (step, via), number in sorted(self.ways.items())],
            outcomes=[
                OutcomeRow(outcome, number, number / self.entered)
                for outcome, number in sorted(self.outcomes.items(), key=lambda one: (-one[1], one[0]))
            ],
            seconds_median=_quantile(self.lengths, 0.5),
            seconds_p90=_quantile(self.lengths, 0.9),
            converted=self.converted,
            responses=[self._response(event, responses[event].probability) for event in responses],
        )

    def _costs(self) -> list[CostRow]:
        """By channel and provider."""
        rows: dict[tuple[str, str, str], list[tuple[Charge, int]]] = {}
        for (channel, charge), number in self.charges.items():
            rows.setdefault((channel, charge.provider or "", charge.currency or ""), []).append((charge, number))
        return [
            CostRow(
                channel=channel,
                messages=sum(number for _, number in charged),
                price=None,
                # Exact, so that the order in which contacts were simulated changes nothing.
                cost=round(float(sum((one.amount or Decimal()) * number for one, number in charged)), MONEY_DIGITS),
                provider=provider or None,
                currency=currency or None,
                unpriced=sum(number for one, number in charged if one.amount is None),
            )
            for (channel, provider, currency), charged in sorted(rows.items())
        ]

    def _messages(self, plan: Plan) -> list[MessageRow]:
        rows = []
        for day, step in sorted({(day, step) for day, step, _ in self.messages}):
            sender: Any = plan.steps[step]
            counts = {action: self.messages[(day, step, action)] for action in ("sent", "skipped", "delayed")}
            rows.append(
                MessageRow(day=day + 1, step=sender.id, channel=sender.channel, template=sender.template, **counts)
            )
        return rows

    def _reasons(self, plan: Plan) -> list[ReasonRow]:
        rows = []
        for (step, action, reason), number in sorted(self.reasons.items()):
            sender: Any = plan.steps[step]
            said: Any = action
            rows.append(ReasonRow(sender.id, sender.channel, said, reason, number))
        return rows

    def _response(self, event: str, probability: float) -> ResponseRow:
        count = self.answered
        answered = {converted: count[(event, True, converted)] for converted in (True, False)}
        silent = {converted: count[(event, False, converted)] for converted in (True, False)}
        return ResponseRow(
            event=event,
            probability=probability,
            asked=sum(answered.values()) + sum(silent.values()),
            answered=sum(answered.values()),
            converted=answered[True],
            converted_silent=silent[True],
        )


def priced(result: Result, prices: Mapping[str, float]) -> Result:
    """The result with other prices for some channels than those of the providers.

    Args:
        result: of a simulation.
        prices: of one message, by channel.
    """
    sent: Counter[str] = Counter()
    for row in result.messages:
        sent[row.channel] += row.sent
    given = [
        CostRow(channel, number, prices[channel], round(number * prices[channel], MONEY_DIGITS))
        for channel, number in sent.items()
        if channel in prices
    ]
    kept = [row for row in result.costs if row.channel not in prices]
    costs = sorted(given + kept, key=lambda row: (row.channel, row.provider or "", row.currency or ""))
    return replace(result, costs=costs, cost=_together(costs))


def _together(costs: Sequence[CostRow]) -> float | None:
    """The sum, where there is one: prices that were given are in the currency of the others."""
    if len({row.currency for row in costs if row.currency is not None}) > 1:
        return None
    return round(sum(row.cost for row in costs), MONEY_DIGITS)


def _quantile(lengths: Counter[float], share: float) -> float | None:
    """The shortest length that at least this share of all does not exceed (nearest rank)."""
    total = sum(lengths.values())
    reached = 0
    for length in sorted(lengths):
        reached += lengths[length]
        if reached >= share * total:
            return length
    return None
