"""What a journey would do: the machine of the engine under a virtual clock.

Pure: a plan, the contacts' facts (behind `World`), how people answer, and a seed go in; a result comes out, always the
same. Nothing is sent and nothing is written. `engine.simulating` gets the facts.

Contacts never influence each other (invariant 1), so they are simulated in small groups: what `advance` costs then
grows with the visits, not with the contacts times the moments at which something happens to any of them.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from core.errors import InvalidInput, Problem
from journeys import wording
from journeys.calendar import date_due, window_opens
from journeys.expecting import Calendar, Events, listened
from journeys.machine import advance, choose_arm
from journeys.plan import Act, Choose, Ending, Notify, Plan, Send, Split, Step, Wait
from journeys.purse import Place, Purse
from journeys.responses import Response, chance
from journeys.scenario import Decision, Note, Person, Scenario, Tell, World
from journeys.steps.registry import effect_of
from journeys.tally import DAY, Charge, Result, Tally
from journeys.tokens import (
    Batch,
    Due,
    Ended,
    Finish,
    Heard,
    Held,
    Input,
    Join,
    Met,
    Token,
    Tokens,
    Turn,
    Unmet,
    Went,
)
from segments.supposing import Supposed, SupposedMessage
from segments.words import said

GROUP = 8
"""Contacts that go through the machine together; measured with `benchmarks.simulate`."""

MOST_VISITS = 50_000
"""Of one contact. A loop with a wait of a second would go on for millions."""

_LOOK = DAY
"""Criteria that end a wait or the journey are looked at again after each event of the contact, and this often. (The
engine looks more often, but what it would find changed is frozen here.)"""

_OVER_BUDGET = Decision("skip", "over_budget")

_TOGETHER = ("message.opened", "message.clicked")


def simulate(
    scenario: Scenario,
    people: Sequence[Person],
    world: World,
    *,
    group: int = GROUP,
    progress: Callable[[int], None] | None = None,
    tell: Tell | None = None,
) -> Result:
    """Let contacts go through a journey.

    Args:
        scenario: the journey, the time, how people answer.
        people: who enters; each once.
        world: what is known of them.
        group: how many go through the machine together; has no influence on the result.
        progress: called with the number of contacts who are through; may raise to end it. When a budget comes to its
            end they go through once more.
        tell: called with each thing that happens, contact by contact; for a few contacts.

    Raises:
        InvalidInput: a loop that goes round too often.
    """
    events, calendar = Events(scenario), Calendar()

    def play(purse: Purse | None, tell: Tell | None) -> Result:
        tally = Tally()
        for first in range(0, len(people), group):
            members = people[first : first + group]
            _Group(scenario, members, world, tally, events, calendar, purse, tell).run()
            if progress is not None:
                progress(first + len(members))
        return tally.result(
            scenario.plan, scenario.responses, scenario.start, scenario.days, scenario.seed, len(people)
        )

    if scenario.budget is None:
        return play(None, tell)
    purse = Purse()
    result = play(purse, None)
    end = purse.end_of(scenario.budget)
    if end is not None or tell is not None:
        result = play(Purse(end), tell)
    spent_at = None if end is None else datetime.fromtimestamp(end.at, UTC)
    return replace(result, budget=float(scenario.budget), spent_at=spent_at)


class _Group:
    """A few contacts on their way; an enrollment has the number of its contact."""

    def __init__(
        self,
        scenario: Scenario,
        people: Sequence[Person],
        world: World,
        tally: Tally,
        events: Events,
        calendar: Calendar,
        purse: Purse | None,
        tell: Tell | None,
    ) -> None:
        self._scenario, self._plan = scenario, _looked_at_daily(scenario.plan)
        self._people = {person.id: person for person in people}
        self._world, self._tally, self._events, self._calendar, self._tell = world, tally, events, calendar, tell
        self._purse = purse
        self._event_numbers = itertools.count(1)
        self._supposed: dict[int, Supposed] = {}
        self._asked: dict[int, set[str]] = {}
        self._converted: set[int] = set()
        self._tokens: Tokens = {}
        self._queue: list[tuple[float, int, int, str, SupposedMessage | None, int]] = []
        self._order = itertools.count()
        self._next_day = scenario.start + DAY
        self._told: set[tuple[int, int, float | None]] = set()

    def run(self) -> None:
        """From the first entry to the end of the time."""
        for person in self._people.values():
            self._expect(self._entry_time(person), person.id, "", None, 0)
        turn: Turn | None = None
        while True:
            due = turn.next_due() if turn is not None else None
            coming = self._queue[0][0] if self._queue else None
            now = min((time for time in (due, coming) if time is not None), default=None)
            if now is None or now >= self._scenario.end:
                break
            self._count_days(now)
            turn = self._step(now)
        self._count_days(self._scenario.end)
        for contact, asked in self._asked.items():
            answered = {name for name, _ in self._supposed[contact].events}
            self._tally.answers(asked, answered, contact in self._converted)
        self._tally.converted += len(self._converted)

    def _entry_time(self, person: Person) -> float:
        if not self._scenario.enter_within:
            return self._scenario.start
        point, _ = chance(self._scenario.seed, person.id, -1, 0, "entry")
        return self._scenario.start + point * self._scenario.enter_within

    def _expect(self, at: float, contact: int, event: str, message: SupposedMessage | None, step: int) -> None:
        if at < self._scenario.end:
            heapq.heappush(self._queue, (at, next(self._order), contact, event, message, step))

    def _count_days(self, until: float) -> None:
        """Count who stands where at each midnight (of the simulation) up to a time."""
        while self._next_day <= until:
            day = round((self._next_day - self._scenario.start) / DAY) - 1
            self._tally.stand(day, self._tokens)
            self._next_day += DAY

    def _step(self, now: float) -> Turn:
        """One moment: what comes, and all that follows from it at once."""
        inputs = self._coming(now)
        while True:
            turn = advance(self._plan, self._tokens, now, inputs)
            self._tokens = turn.tokens
            self._note(turn)
            inputs = [one for batch in turn.batches for one in self._act(batch, now)]
            inputs += self._endings(turn.looks, now)
            if not inputs:
                return turn

    def _coming(self, now: float) -> list[Input]:
        inputs: list[Input] = []
        while self._queue and self._queue[0][0] <= now:
            at, _, contact, event, message, step = heapq.heappop(self._queue)
            if not event:
                inputs.append(self._enter(contact, at))
            elif (contact, 0) in self._tokens:
                inputs += self._happened(contact, at, event, message, step)
            else:
                self._convert(contact, at, event)
        return inputs

    def _enter(self, contact: int, at: float) -> Join:
        self._supposed[contact] = Supposed(self._plan.journey, at)
        self._asked[contact] = set()
        self._tally.entered += 1
        self._draw(contact, -1, 0, at, self._events.at_entry)
        return Join(contact, self._people[contact].seed)

    def _happened(self, contact: int, at: float, event: str, message: SupposedMessage | None, step: int) -> list[Input]:
        supposed = self._supposed[contact]
        supposed.events.append((event, at))
        if message is not None:
            message.states.add(event.removeprefix("message."))
            if event == "message.unsubscribed":
                purpose = getattr(self._plan.steps[step], "purpose", "")
                supposed.consents[(message.channel, purpose)] = False
        self._say(contact, at, -1, f"the event {event} comes")
        numbers = self._events.heard(event, step)
        if any(self._plan.subscriptions[number].role == "goal" for number in numbers):
            self._converted.add(contact)
        self._convert(contact, at, event)
        happening = next(self._event_numbers)
        return [Heard(contact, number, happening) for number in numbers]

    def _convert(self, contact: int, at: float, event: str) -> None:
        """Count the event that the journey is meant to bring about, also after its end."""
        wanted = self._plan.conversion
        if wanted is None or wanted.filter.event != event:
            return
        if at - self._supposed[contact].entered_at <= wanted.within_seconds:
            self._converted.add(contact)

    def _draw(
        self,
        contact: int,
        step: int,
        visit: int,
        at: float,
        responses: Sequence[Response],
        message: SupposedMessage | None = None,
    ) -> None:
        """Decide by the hash which of these answers the contact gives, and when."""
        opened_at = at
        for response in responses:
            # Who clicks has opened: both look at the same point.
            what = "message" if response.event in _TOGETHER else response.event
            whether, _ = chance(self._scenario.seed, contact, step, visit, what)
            self._asked[contact].add(response.event)
            if whether >= response.probability:
                if self._tell is not None:
                    share = f"{response.probability:.0%} answer so"
                    self._say(contact, at, step, f"{response.event} does not come ({share})")
                continue
            _, when = chance(self._scenario.seed, contact, step, visit, "when " + response.event)
            moment = at + response.delay(when)
            if response.event == "message.opened":
                opened_at = moment
            elif response.event == "message.clicked":
                moment = max(moment, opened_at)
            self._expect(moment, contact, response.event, message, max(step, 0))
            if self._tell is not None:
                how = f"{response.probability:.0%} answer so, {response.words()}"
                self._say(contact, at, step, f"{response.event} will come after {said(moment - at)} ({how})")

    # --- what the machine decided

    def _note(self, turn: Turn) -> None:
        for visit in turn.visits:
            self._tally.visit(visit)
            if visit.visit > MOST_VISITS:
                step = self._plan.steps[visit.step].id
                message = f"a contact visits more than {MOST_VISITS} steps, among them {step}"
                raise InvalidInput(Problem(message, "lengthen the wait in the loop, or simulate fewer days"))
            if self._tell is not None:
                self._say(visit.enrollment, visit.at, visit.step, wording.way(visit.via))
            answers = self._events.at_step(visit.step)
            if answers:
                self._draw(visit.enrollment, visit.step, visit.visit, visit.at, answers)
        for finish in turn.finished:
            self._finished(finish)
        if self._tell is not None:
            for key, token in turn.tokens.items():
                self._tell_wait(key[0], token)

    def _finished(self, finish: Finish) -> None:
        entered = self._supposed[finish.enrollment].entered_at
        self._tally.finish(finish, finish.at - entered)
        self._say(finish.enrollment, finish.at, -1, f"the journey ends: {finish.outcome}")

    def _tell_wait(self, contact: int, token: Token) -> None:
        place = (contact, token.visit, token.ends)
        if token.phase != "waiting" or place in self._told:
            return
        self._told.add(place)
        events = " or ".join(listened(self._plan, self._plan.steps[token.step]))
        until = "as long as it takes" if token.ends is None else f"until {_shown(token.ends)}"
        self._say(contact, token.since, token.step, f"waits {until}" + (f", or for {events}" if events else ""))

    def _endings(self, looks: Sequence[tuple[int, int]], now: float) -> Iterator[Input]:
        """Whether those who are looked at meet criteria that end the journey."""
        met = {contact: self._met(contact, now) for contact in dict.fromkeys(contact for contact, _ in looks)}
        for contact, visit in looks:
            rule = met[contact]
            yield Unmet(contact, visit) if rule is None else Met(contact, rule.outcome)

    def _met(self, contact: int, now: float) -> Ending | None:
        """The first rule of those that end the journey whose criteria hold for a contact."""
        supposed, person = self._supposed[contact], self._people[contact]
        for rule in self._plan.endings.rules if self._plan.endings is not None else ():
            if self._world.holds(rule.criteria, person, now, supposed):
                self._say(contact, now, -1, f"{self._world.words(rule.criteria)}: holds")
                if rule.role == "goal":
                    self._converted.add(contact)
                return rule
        return None

    def _act(self, batch: Batch, now: float) -> Iterator[Input]:
        step = self._plan.steps[batch.step]
        for contact, visit in batch.members:
            yield self._acted(self._people[contact], batch.step, step, visit, now)

    def _acted(self, person: Person, number: int, step: Step, visit: int, now: float) -> Input:
        """What the activity of the engine would come to."""
        match step:
            case Send():
                return self._send(person, number, step, visit, now)
            case Choose():
                return self._choose(person, number, step, visit, now)
            case Wait():
                return self._wait(person, number, step, visit, now)
            case Split():
                # Who wins depends on all contacts together; here everybody is given the arm that is theirs by chance.
                name, to = choose_arm(step, person.seed)
                return Went(person.id, visit, to, f"arm:{name}")
            case Act():
                return self._effect(person, number, step, visit, now)
            case Notify():
                self._say(person.id, now, number, "notify: done in earnest only; goes on")
                return Went(person.id, visit, step.next)
        raise TypeError(f"step {step.id} cannot be simulated")

    def _wait(self, person: Person, number: int, step: Wait, visit: int, now: float) -> Due | Went:
        """How long a wait lasts that depends on criteria, a date or a clock."""
        supposed = self._supposed[person.id]
        for watch in step.watches:
            if self._world.holds(watch.criteria, person, now, supposed):
                self._say(person.id, now, number, f"{self._world.words(watch.criteria)}: holds")
                return Went(person.id, visit, watch.next, "criteria")
        at = datetime.fromtimestamp(now, UTC)
        if step.date is not None:
            due = date_due(self._value(person, step.date.attribute), step.date, person.zone, at)
            if due is None:
                return Went(person.id, visit, step.date.missing, "missing")
            late = due <= at and not step.date.yearly
            return Went(person.id, visit, step.next, "timeout") if late else Due(person.id, visit, due.timestamp())
        if step.window is not None:
            opened = window_opens(at, step.window, person.zone)
            shut = opened is not None and opened > at
            return (
                Due(person.id, visit, opened.timestamp())
                if opened is not None and shut
                else Went(person.id, visit, step.next, "timeout")
            )
        if step.local is not None:
            return Due(person.id, visit, self._calendar.next(step.local, person.zone, now))
        return Due(person.id, visit, None, (now // _LOOK + 1) * _LOOK)

    def _value(self, person: Person, attribute: str) -> Any:
        written = self._supposed[person.id].attributes
        return written[attribute] if attribute in written else self._world.value(person, attribute)

    def _send(self, person: Person, number: int, step: Send, visit: int, now: float) -> Went | Held:
        supposed = self._supposed[person.id]
        decision = self._world.may_send(person, number, step, now, supposed)
        charge = self._world.charge(person, step)
        if decision.action == "send" and not self._is_paid(person, step, visit, now, charge):
            decision = _OVER_BUDGET
        day = int((now - self._scenario.start) // DAY)
        if decision.action == "delay":
            self._tally.message(day, number, "delayed", decision.reason)
            self._say(person.id, now, number, f"held until {_shown(decision.until)}: {decision.reason}")
            return Held(person.id, visit, decision.until)
        message = SupposedMessage(number, step.channel, step.template, now, set())
        supposed.messages.append(message)
        if decision.action == "skip":
            message.states.add("skipped")
            self._tally.message(day, number, "skipped", decision.reason)
            self._say(person.id, now, number, f"{step.channel} {step.template} is not sent: {decision.reason}")
        else:
            message.states |= {"accepted", "delivered"}
            self._tally.message(day, number, "sent", "")
            self._tally.charge(step.channel, charge)
            if self._tell is not None:
                self._tell(Note(now, step.id, f"{step.channel} {step.template} is sent", step.template))
            self._draw(person.id, number, visit, now, self._events.of_messages, message)
        return Went(person.id, visit, step.next)

    def _is_paid(self, person: Person, step: Send, visit: int, now: float, charge: Charge) -> bool:
        """Whether the journey's budget pays for a message. Alerts are neither counted nor stopped."""
        if self._purse is None or step.priority == "alert":
            return True
        return self._purse.pays(Place(now, visit, person.id), charge.amount or Decimal())

    def _choose(self, person: Person, number: int, step: Choose, visit: int, now: float) -> Went:
        supposed = self._supposed[person.id]
        for place, (criterion, to) in enumerate(step.branches):
            holds = self._world.holds(criterion, person, now, supposed)
            if self._tell is not None:
                words = self._world.words(criterion)
                self._say(person.id, now, number, f"{words}: {'holds' if holds else 'does not hold'}")
            if holds:
                return Went(person.id, visit, to, f"branch:{place + 1}")
        return Went(person.id, visit, step.otherwise, "otherwise")

    def _effect(self, person: Person, number: int, step: Act, visit: int, now: float) -> Went | Ended:
        """What the file of the kind supposes of it; without that, contacts only go on."""
        effect = effect_of(step)
        if effect.suppose is not None:
            effect.suppose(self._supposed[person.id], effect.read(step), lambda name: self._value(person, name))
        elif step.next is not None:
            self._say(person.id, now, number, f"{step.kind}: done in earnest only; goes on")
        if step.next is None:
            return Ended(person.id, visit, step.outcome)
        return Went(person.id, visit, step.next)

    def _say(self, contact: int, at: float, number: int, what: str) -> None:
        if self._tell is not None:
            self._tell(Note(at, self._plan.steps[number].id if number >= 0 else "", what))


def _looked_at_daily(plan: Plan) -> Plan:
    if plan.endings is None:
        return plan
    return plan.model_copy(update={"endings": plan.endings.model_copy(update={"look_seconds": _LOOK})})


def _shown(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
