"""What may happen to contacts in a simulation and when: the answers they may give at each step, and local times."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from journeys.calendar import next_local
from journeys.plan import ANY_EVENT, LocalTime, Plan, Step
from journeys.responses import Response
from journeys.scenario import Scenario
from segments import eventfilter

_KNOWN_PROPERTIES = ("journey", "step", "template")


class Events:
    """Which answers can come at which step, and which subscriptions hear them; the same for all contacts."""

    def __init__(self, scenario: Scenario) -> None:
        self._plan = scenario.plan
        responses = [one for one in scenario.responses.values() if one.probability > 0]
        self.of_messages = [one for one in responses if one.of_messages]
        self._others = {one.event: one for one in responses if not one.of_messages}
        self._heard: dict[tuple[str, int], tuple[int, ...]] = {}
        waited = {event for step in self._plan.steps for event in listened(self._plan, step)}
        ending = dict.fromkeys(one.filter.event for one in self._plan.subscriptions if one.role in {"goal", "exit"})
        for rule in self._plan.endings.rules if self._plan.endings is not None else ():
            ending |= dict.fromkeys(_named(self._plan.criteria[rule.criteria]))
        if self._plan.conversion is not None:
            ending[self._plan.conversion.filter.event] = None
        self.at_entry = [self._others[event] for event in ending if event in self._others and event not in waited]
        self._at_step = {
            number: [self._others[event] for event in listened(self._plan, step) if event in self._others]
            for number, step in enumerate(self._plan.steps)
        }

    def at_step(self, number: int) -> list[Response]:
        """The answers that a contact may give while it waits at a step."""
        return self._at_step[number]

    def heard(self, event: str, step: int) -> tuple[int, ...]:
        """The subscriptions that hear an event, as the router finds them: in order, up to one that ends the run."""
        key = (event, step if event.startswith("message.") else -1)
        if key not in self._heard:
            self._heard[key] = tuple(self._hearing(event, step))
        return self._heard[key]

    def _hearing(self, event: str, step: int) -> Iterator[int]:
        sender = self._plan.steps[step]
        known = {"journey": self._plan.journey, "step": sender.id, "template": getattr(sender, "template", None)}
        for number, subscription in enumerate(self._plan.subscriptions):
            where = subscription.filter.where
            if subscription.filter.event not in {event, ANY_EVENT}:
                continue
            # Of a message's event the journey, step and template are known; other properties are taken as fitting.
            tests = {name: where[name] for name in _KNOWN_PROPERTIES if name in where}
            if event.startswith("message.") and not eventfilter.matches(tests, known, {}):
                continue
            yield number
            if subscription.role in {"goal", "exit"}:
                return


def _named(criteria: Any) -> Iterator[str]:
    """The events that criteria ask for, as they are written."""
    if isinstance(criteria, list):
        for one in criteria:
            yield from _named(one)
    if not isinstance(criteria, Mapping):
        return
    for key, value in criteria.items():
        names = value.get("name") if isinstance(value, Mapping) else value
        if key == "event" and names is not None:
            yield from [names] if isinstance(names, str) else names
        else:
            yield from _named(value)


def listened(plan: Plan, step: Step) -> list[str]:
    """The events that a step waits for, each once, in order."""
    return list(dict.fromkeys(plan.subscriptions[way.subscription].filter.event for way in getattr(step, "until", ())))


class Calendar:
    """Local times, each stretch of time computed once."""

    def __init__(self) -> None:
        self._known: dict[tuple[LocalTime, str | None, int], tuple[float, float]] = {}

    def next(self, local: LocalTime, zone: str | None, at: float) -> float:
        """When the clock shows it next; see journeys.calendar."""
        key = (local, zone, int(at // 3600))
        known = self._known.get(key)
        # It is the same for every moment between one for which it was found and the time itself.
        if known is not None and known[0] <= at < known[1]:
            return known[1]
        due = next_local(datetime.fromtimestamp(at, UTC), local, zone).timestamp()
        self._known[key] = (at, due)
        return due
