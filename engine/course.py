"""The version that a cohort is on, and how that changes while contacts are under way. A part of the cohort workflow;
pure, like the machine: `journeys.moving` decides where tokens go.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.wire import Carried, CohortStart, News, Order, Shift
from journeys import moving
from journeys.plan import Plan
from journeys.tokens import Branched, Finish, Heard, Input, Tokens, Visit, branched, branches_of, next_end


@dataclass
class Change:
    """What a shift or an order came to."""

    tokens: Tokens
    visits: list[Visit] = field(default_factory=list)
    finished: list[Finish] = field(default_factory=list)
    branched: list[Branched] = field(default_factory=list)
    moved: list[list[Any]] | None = None
    """Everybody, after a shift; as in engine.wire.RecordRequest."""
    orders: list[list[Any]] = field(default_factory=list)
    """[order, why it was refused or None]"""


class Course:
    """Where a cohort's journey leads at present, and what earlier versions called things."""

    def __init__(self, start: CohortStart, carried: Carried) -> None:
        self.version_id = start.version_id
        self.data = start.plan
        self.plan = Plan.model_validate(start.plan)
        self._coming = start.version_id
        self._coming_plan = self.plan
        self._listened = {int(version): numbers for version, numbers in carried.listened.items()}
        self._endings = {int(version): outcomes for version, outcomes in carried.endings.items()}
        self._orders = dict.fromkeys(carried.orders)
        self._landings: moving.Landings = {
            (enrollment, visit): moving.Landing(tuple(exits), stays)
            for enrollment, visit, exits, stays in carried.landings
        }

    def carry(self, carried: Carried) -> None:
        """Write down what has to outlive this run of the workflow; nothing is under way then but what is left over."""
        left = {tuple(member) for leftover in carried.leftovers for member in leftover.hand_over.members}
        left |= {tuple(member) for one in carried.unfinished for member in one.request.members}
        carried.landings = [
            [*key, list(landing.exits), landing.stays] for key, landing in self._landings.items() if key in left
        ]
        carried.listened = {str(version): numbers for version, numbers in self._listened.items()}
        carried.endings = {str(version): outcomes for version, outcomes in self._endings.items()}
        carried.orders = list(self._orders)

    def take(self, news: News) -> list[Shift | Order]:
        """What is new of the news' shift and orders, to be carried out in its place among the inputs."""
        fresh: list[Shift | Order] = []
        shift = news.shift
        if shift is not None and shift.from_version_id == self._coming and shift.version_id != self._coming:
            plan = Plan.model_validate(shift.plan)
            twins = moving.heard_in(self._coming_plan, plan)
            self._listened = {
                version: [sorted({twin for number in numbers for twin in twins[number]}) for numbers in known]
                for version, known in self._listened.items()
            }
            self._listened[self._coming] = twins
            self._endings[self._coming] = [
                one.outcome if one.role in {"goal", "exit"} else None for one in self._coming_plan.subscriptions
            ]
            self._coming, self._coming_plan = shift.version_id, plan
            fresh.append(shift)
        for order in news.orders:
            if order.number not in self._orders:
                self._orders[order.number] = None
                fresh.append(order)
        return fresh

    def hear(self, event: int, enrollment: int, subscription: int, version_id: int) -> list[Input | Shift | Order]:
        """An event, as the version hears it that the cohort is on when its turn comes.

        A goal or an exit of the version that the event was routed by counts, also when this version has it no more:
        the router has closed the enrollment.
        """
        if version_id not in self._listened:
            return [Heard(enrollment, subscription, event)]
        numbers = self._listened[version_id][subscription]
        ending = self._endings[version_id][subscription]
        if ending is not None and not numbers:
            return [Order(0, enrollment, None, ending)]
        return [Heard(enrollment, number, event) for number in numbers]

    def land(self, tokens: Tokens, inputs: Sequence[Input]) -> list[Input]:
        """The inputs, with results of work that was begun before a shift turned into this version's."""
        return moving.land(self.plan, tokens, self._landings, inputs) if self._landings else list(inputs)

    def change(self, what: Shift | Order, tokens: Tokens, now: float) -> Change:
        """Carry out a shift or an order."""
        return self._shift(what, tokens, now) if isinstance(what, Shift) else self._order(what, tokens, now)

    def _shift(self, shift: Shift, tokens: Tokens, now: float) -> Change:
        plan = Plan.model_validate(shift.plan)
        ways = {step: moving.Way(*way) for step, way in shift.steps.items()}
        moved = moving.move(self.plan, plan, ways, tokens, self._landings, now)
        self.version_id, self.data, self.plan = shift.version_id, shift.plan, plan
        self._landings = moved.landings
        return Change(moved.tokens, moved.visits, moved.finished, moved=_places(moved.tokens))

    def _order(self, order: Order, tokens: Tokens, now: float) -> Change:
        number = next((n for n, step in enumerate(self.plan.steps) if step.id == order.step), None)
        if (order.enrollment, 0) not in tokens:
            return Change(tokens, orders=_answer(order, "the enrollment had ended"))
        if order.step is not None and number is None:
            return Change(tokens, orders=_answer(order, f"its version has no step {order.step}"))
        moved = moving.place(self.plan, tokens, order.enrollment, number, order.outcome, self._landings, now)
        self._landings |= moved.landings
        standing = [branched(moved.tokens, order.enrollment)] if (order.enrollment, 0) in moved.tokens else []
        return Change(moved.tokens, moved.visits, moved.finished, standing, orders=_answer(order, None))


def _answer(order: Order, refusal: str | None) -> list[list[Any]]:
    """Nobody waits for an answer to an order that a goal stands behind."""
    return [[order.number, refusal]] if order.number else []


def _places(tokens: Tokens) -> list[list[Any]]:
    """For each enrollment: where its latest branch stands, when the next of its waits ends, and all its branches."""
    places = []
    for enrollment, branch in tokens:
        if branch == 0:
            mine = [tokens[key] for key in branches_of(tokens, enrollment)]
            latest = max((one for one in mine if one.phase != "forked"), key=lambda one: one.visit, default=mine[0])
            _, _, steps, ends = branched(tokens, enrollment)
            places.append([enrollment, latest.step, next_end(tokens, enrollment), steps, ends])
    return places
