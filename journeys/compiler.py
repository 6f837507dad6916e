"""From a journey as written to the plan that the machine runs.

Steps are numbered in the order they are written, branches right behind the step they belong to. While they are put
together they point at each other by labels; `goto` is only another label for its target and leaves no step.
"""

from collections.abc import Callable
from typing import Any

from core.documents import Path
from core.errors import InvalidInput, Problem
from journeys import timing
from journeys.language import (
    DEFAULT_OUTCOME,
    AskStep,
    CallStep,
    ChooseStep,
    ConsentStep,
    DateNode,
    DeleteStep,
    EndStep,
    EnrollStep,
    Enter,
    GotoStep,
    HideStep,
    IfStep,
    Journey,
    NotifyStep,
    ParallelStep,
    ScoreStep,
    SendStep,
    ShowStep,
    SplitStep,
    StepNode,
    TagStep,
    UpdateStep,
    WaitStep,
    WindowNode,
    split_where,
)
from journeys.plan import (
    ANY_EVENT,
    FINISHED,
    OWN_ENROLLMENT,
    Answer,
    Arm,
    AttributeDate,
    Branch,
    Call,
    Choose,
    Conversion,
    DateOf,
    Delete,
    End,
    Enroll,
    Entry,
    EventFilter,
    Join,
    Notify,
    Parallel,
    Plan,
    Rules,
    Send,
    Show,
    Split,
    Step,
    Subscription,
    Until,
    Update,
    Wait,
    Watch,
    Window,
    Winner,
)
from segments import eventfilter
from segments.tracking import ENTERED, LEFT

Label = str
Draft = Callable[[], Step]

DEFAULT_PURPOSE = "marketing"
LOOK_SECONDS = 900
"""How often criteria that a wait waits for are looked at, besides on every event of the contact."""
LOOK_AT_DATES_SECONDS = 86_400
"""How often a date that a wait waits for is read again: it may have been changed."""
CALL_TIMEOUT_SECONDS = 10
CALL_RETRY_SECONDS = 3600
HASTENED_LOCAL_SECONDS = 12 * 3600
"""A wait for a time of day lasts half a day on average; that is what is shortened in demonstrations."""

_END: Label = "the end of the journey"


def compile(journey: Journey, hasten: float = 1.0) -> Plan:  # noqa: A001 - callers write journeys.compile
    """Compile a journey.

    Args:
        journey: as `journeys.load` gives it.
        hasten: waits and cooldowns are divided by this, for demonstrations. A wait for a time of day becomes half a
            day divided by it.

    Raises:
        InvalidInput: `hasten` is not a positive number, or a target does not exist.
    """
    return assemble(journey, hasten).plan


class Assembly:
    """A plan with the places in the YAML that its steps come from."""

    def __init__(self, plan: Plan, paths: tuple[Path, ...], idle: tuple[Path, ...]) -> None:
        self.plan = plan
        self.paths = paths
        """By step number."""
        self.idle = idle
        """Of `goto`s that nothing leads to; they left no step."""


def assemble(journey: Journey, hasten: float = 1.0) -> Assembly:
    """Compile a journey, keeping track of where steps come from; see `compile`."""
    if not 0 < hasten < float("inf"):
        raise InvalidInput("hasten is a positive number")
    return _Assembler(journey, hasten).assemble()


class _Assembler:
    def __init__(self, journey: Journey, hasten: float) -> None:
        self.journey, self.hasten = journey, hasten
        self.priority = journey.priority or (
            "broadcast" if journey.enter.segment and not journey.enter.on else "triggered"
        )
        self.drafts: list[Draft] = []
        self.paths: list[Path] = []
        self.numbers: dict[Label, int] = {}
        self.aliases: dict[Label, Label] = {}
        self.gotos: dict[Label, Path] = {}
        self.used: set[Label] = set()
        self.criteria: list[dict[str, Any]] = []
        self.subscriptions: list[Subscription] = []
        self.kinds: dict[str, int] = {}
        self.taken = _ids(journey.steps)

    def assemble(self) -> Assembly:
        first = self._block(journey_steps := self.journey.steps, ("steps",), _END)
        if isinstance(journey_steps[0], GotoStep):
            problem = self.journey.document.problem(("steps", 0), "a journey cannot begin with goto", "begin there")
            raise InvalidInput(problem)
        self.used.add(first)
        for role, rules in (("goal", self.journey.goal), ("exit", self.journey.exit)):
            for rule in rules:
                self._subscribe(role, _filter(rule.event, rule.where), rule.outcome or role)
        steps = [draft() for draft in self.drafts]
        if _END in self.used:
            steps.append(End(id=self._name("end", None), outcome=DEFAULT_OUTCOME))
            self.paths.append(("steps",))
        plan = Plan(
            journey=self.journey.journey,
            title=self.journey.name or self.journey.journey,
            entry=_entry(self.journey.enter, self.hasten),
            steps=tuple(steps),
            criteria=tuple(self.criteria),
            subscriptions=tuple(self.subscriptions),
            rules=_rules(self.journey, self.hasten),
            conversion=_conversion(self.journey, self.hasten),
            hasten=self.hasten,
        )
        return Assembly(plan, tuple(self.paths), tuple(p for label, p in self.gotos.items() if label not in self.used))

    def _block(self, steps: tuple[StepNode, ...], path: Path, after: Label) -> Label:
        """Put a list of steps together; what it leads to is `after`. Gives the label of its first step."""
        labels = ["/".join(map(str, (*path, index))) for index in range(len(steps))]
        for index, step in enumerate(steps):
            follower = labels[index + 1] if index + 1 < len(steps) else after
            if step.id:
                self.aliases[_id(step.id)] = labels[index]
            if isinstance(step, GotoStep):
                self.aliases[labels[index]] = _id(step.goto)
                self.gotos[labels[index]] = (*path, index)
            else:
                self._place(step, labels[index], (*path, index), follower)
        return labels[0]

    def _place(self, step: StepNode, label: Label, path: Path, follower: Label) -> None:
        self.numbers[label] = number = len(self.drafts)
        self.paths.append(path)
        self.drafts.append(_never)  # keeps the number while branches are put behind it
        self.drafts[number] = self._draft(step, path, follower)

    def _draft(self, step: StepNode, path: Path, follower: Label) -> Draft:
        name, arguments = _WAYS[type(step)]
        given = {"step": step, "path": path, "follower": follower}
        draft: Draft = getattr(self, name)(*(given[one] for one in arguments))
        return draft

    def _extra(self, make: Callable[[], Step], path: Path) -> Label:
        """Put a step behind what was placed so far that is not written, but belongs to one that is."""
        label = f"extra {len(self.drafts)}"
        self.numbers[label] = len(self.drafts)
        self.paths.append(path)
        self.drafts.append(make)
        return label

    def _send(self, step: SendStep, follower: Label) -> Draft:
        name = self._name("send", step.id)
        priority: Any = step.priority or self.priority
        in_doubt = priority == "alert" if step.repeat_in_doubt is None else step.repeat_in_doubt
        return lambda: Send(
            id=name,
            channel=step.send,
            template=step.template,
            purpose=step.purpose,
            priority=priority,
            repeat_in_doubt=in_doubt,
            if_overdue=step.if_overdue,
            next=self._number(follower),
        )

    def _wait(self, step: WaitStep, path: Path, follower: Label) -> Draft:
        name = self._name("wait", step.id)
        ways: list[tuple[int, Label]] = []
        watches: list[tuple[int, Label]] = []
        then = self._branch(step.then, (*path, "then"), follower)
        for index, rule in enumerate(step.until):
            own = self._branch(rule.then, (*path, "until", index, "then"), then)
            if rule.when is not None:
                watches.append((self._criterion(rule.when), own))
            else:
                ways.append((self._subscribe("wait", _filter(str(rule.event), rule.where)), own))
        watching = self._subscribe("watch", EventFilter(event=ANY_EVENT)) if watches else None
        missing = self._branch(step.missing, (*path, "missing"), follower)
        length = self._length(step.wait)
        return lambda: Wait(
            id=name,
            **length,
            date=self._date(step.wait, missing),
            precise=step.precise,
            until=tuple(Until(subscription=number, next=self._number(to)) for number, to in ways),
            watches=tuple(Watch(criteria=number, next=self._number(to)) for number, to in watches),
            watch_subscription=watching,
            look_seconds=max(1.0, (LOOK_SECONDS if watches else LOOK_AT_DATES_SECONDS) / self.hasten),
            next=self._number(follower),
        )

    def _length(self, wait: str | DateNode | WindowNode) -> dict[str, Any]:
        """The part of a wait that says how long it lasts; in demonstrations half a day for whatever needs a clock."""
        if isinstance(wait, str):
            length = timing.length(wait)
            if length.duration is not None:
                return {"seconds": length.duration.total_seconds() / self.hasten}
            if length.local is None:
                return {}
            clock: dict[str, Any] = {"local": length.local}
        else:
            clock = {"window": window_of(wait)} if isinstance(wait, WindowNode) else {}
        return {"seconds": HASTENED_LOCAL_SECONDS / self.hasten} if self.hasten != 1 else clock

    def _date(self, wait: Any, missing: Label) -> DateOf | None:
        to = self._number(missing)
        if not isinstance(wait, DateNode):
            return None
        before = timing.duration(wait.minus).total_seconds() if wait.minus else 0
        after = timing.duration(wait.plus).total_seconds() if wait.plus else 0
        return DateOf(
            attribute=wait.date.removeprefix("contact."),
            offset_seconds=after - before,
            time=timing.clock(wait.at) if wait.at else None,
            zone=timing.zone(wait.zone) if wait.zone else "contact",
            yearly=wait.yearly,
            missing=to,
        )

    def _if(self, step: IfStep, path: Path, follower: Label) -> Draft:
        name = self._name("if", step.id)
        number = self._criterion(step.criteria)
        then = self._branch(step.then, (*path, "then"), follower)
        otherwise = self._branch(step.otherwise, (*path, "else"), follower)
        return lambda: Choose(id=name, branches=((number, self._number(then)),), otherwise=self._number(otherwise))

    def _choose(self, step: ChooseStep, path: Path, follower: Label) -> Draft:
        name = self._name("choose", step.id)
        branches = [
            (self._criterion(case.when), self._branch(case.then, (*path, "choose", index, "then"), follower))
            for index, case in enumerate(step.choose)
        ]
        otherwise = self._branch(step.otherwise, (*path, "else"), follower)
        return lambda: Choose(
            id=name,
            branches=tuple((number, self._number(to)) for number, to in branches),
            otherwise=self._number(otherwise),
        )

    def _split(self, step: SplitStep, path: Path, follower: Label) -> Draft:
        name = self._name("split", step.id)
        arms = [
            (arm, node.weight, self._branch(node.then, (*path, "split", arm, "then"), follower))
            for arm, node in step.split.items()
        ]
        if step.holdout is not None:
            total = sum(weight for _, weight, _ in arms)
            label = self._extra(self._ending("holdout"), path)
            arms.append(("holdout", total * step.holdout / (100 - step.holdout), label))
        return lambda: Split(
            id=name,
            salt=f"{self.journey.journey}:{name}",
            arms=tuple(Arm(name=arm, weight=weight, next=self._number(to)) for arm, weight, to in arms),
            winner=self._winner(step),
            holdout="holdout" if step.holdout is not None else None,
        )

    def _winner(self, step: SplitStep) -> Winner | None:
        if step.winner is None:
            return None
        deadline = step.winner.deadline
        return Winner(
            metric=step.winner.metric,
            sample=step.winner.sample,
            confidence=step.winner.confidence / 100,
            deadline_seconds=timing.duration(deadline).total_seconds() / self.hasten if deadline else None,
        )

    def _ending(self, outcome: str) -> Draft:
        name = self._name("end", None)
        return lambda: End(id=name, outcome=outcome)

    def _parallel(self, step: ParallelStep, path: Path, follower: Label) -> Draft:
        name = self._name("parallel", step.id)
        meeting = f"{'/'.join(map(str, path))}/join"
        ways = [
            (branch, self._block(steps, (*path, "parallel", branch), meeting))
            for branch, steps in step.parallel.items()
        ]
        joined = self._name("join", None)
        self.numbers[meeting] = len(self.drafts)
        self.paths.append(path)
        self.drafts.append(lambda: Join(id=joined, mode=step.join, next=self._number(follower)))
        return lambda: Parallel(
            id=name, branches=tuple(Branch(name=branch, next=self._number(to)) for branch, to in ways)
        )

    def _update(self, step: UpdateStep, follower: Label) -> Draft:
        changes = step.update
        return self._writing(
            self._name("update", step.id),
            follower,
            attributes=dict(changes.attributes),
            add_tags=changes.tags.add,
            remove_tags=changes.tags.remove,
            consents=_consents(changes.consents),
        )

    def _tag(self, step: TagStep, follower: Label) -> Draft:
        name = self._name("tag", step.id)
        return self._writing(name, follower, add_tags=step.tag.add, remove_tags=step.tag.remove)

    def _consent(self, step: ConsentStep, follower: Label) -> Draft:
        return self._writing(self._name("consent", step.id), follower, consents=_consents(step.consent))

    def _score(self, step: ScoreStep, follower: Label) -> Draft:
        return self._writing(self._name("score", step.id), follower, scores=tuple(step.score.items()))

    def _writing(self, name: str, follower: Label, **changes: Any) -> Draft:
        return lambda: Update(id=name, **changes, next=self._number(follower))

    def _notify(self, step: NotifyStep, path: Path, follower: Label) -> Draft:
        """One step for each address, so that every letter has a visit of its own and thus its own id."""
        names = [self._name("notify", step.id), *(self._name("notify", None) for _ in step.to[1:])]

        def letter(place: int, after: Label) -> Draft:
            return lambda: Notify(
                id=names[place],
                channel=step.notify,
                to=step.to[place],
                subject=step.subject or "",
                text=step.text,
                next=self._number(after),
            )

        after = follower
        for place in range(len(step.to) - 1, 0, -1):
            after = self._extra(letter(place, after), path)
        return letter(0, after)

    def _call(self, step: CallStep, path: Path, follower: Label) -> Draft:
        name = self._name("call", step.id)
        answers = [
            (case.when, self._branch(case.then, (*path, "answers", index, "then"), follower))
            for index, case in enumerate(step.answers)
        ]
        failed = self._branch(step.failed, (*path, "failed"), follower)
        retry = timing.duration(step.retry).total_seconds() if step.retry else CALL_RETRY_SECONDS
        return lambda: Call(
            id=name,
            method=step.method,
            url=step.call,
            headers=tuple(step.headers.items()),
            body=step.body,
            timeout_seconds=timing.duration(step.timeout).total_seconds() if step.timeout else CALL_TIMEOUT_SECONDS,
            retry_seconds=retry / self.hasten,
            save=tuple(step.save.items()),
            answers=tuple(Answer(where=where, next=self._number(to)) for where, to in answers),
            failed=self._number(failed),
            next=self._number(follower),
        )

    def _enroll(self, step: EnrollStep, path: Path, follower: Label) -> Draft:
        name = self._name("enroll", step.id)
        entering: dict[str, Any] = {"journey": step.enroll, "key": step.key or "", "awaited": bool(step.awaited)}
        if not step.awaited:
            return lambda: Enroll(id=name, **entering, next=self._number(follower))
        own: dict[str, Any] = {"journey": step.enroll, "parent": {"same": OWN_ENROLLMENT}}
        ways = [
            (
                self._subscribe("wait", EventFilter(event=FINISHED, where={**own, "outcome": outcome})),
                self._branch(branch, (*path, "outcomes", outcome), follower),
            )
            for outcome, branch in step.outcomes.items()
        ]
        ways.append((self._subscribe("wait", EventFilter(event=FINISHED, where=own)), follower))
        late = self._branch(step.late, (*path, "late"), follower)
        return self._then_wait(Enroll, {"id": name, **entering}, step.awaited, ways, late, path)

    def _then_wait(
        self,
        kind: Any,
        given: dict[str, Any],
        at_most: str | bool,
        ways: list[tuple[int, Label]],
        late: Label,
        path: Path,
    ) -> Draft:
        waiting = self._name("wait", None)
        seconds = timing.duration(at_most).total_seconds() / self.hasten if isinstance(at_most, str) else None
        label = self._extra(
            lambda: Wait(
                id=waiting,
                seconds=seconds,
                until=tuple(Until(subscription=number, next=self._number(to)) for number, to in ways),
                next=self._number(late),
            ),
            path,
        )
        return lambda: kind(**given, next=self._number(label))

    def _ask(self, step: AskStep, path: Path, follower: Label) -> Draft:
        name = self._name("ask", step.id)
        ways = [
            (
                self._subscribe("wait", answer_filter(self.journey.journey, step, answer)),
                self._branch(branch, (*path, "answers", answer), follower),
            )
            for answer, branch in step.answers.items()
        ]
        otherwise = self._branch(step.otherwise, (*path, "else"), follower)
        return lambda: Wait(
            id=name,
            seconds=timing.duration(step.within).total_seconds() / self.hasten,
            until=tuple(Until(subscription=number, next=self._number(to)) for number, to in ways),
            next=self._number(otherwise),
        )

    def _show(self, step: ShowStep, follower: Label) -> Draft:
        name = self._name("show", step.id)
        return lambda: Show(id=name, slot=step.show, template=step.template, next=self._number(follower))

    def _hide(self, step: HideStep, follower: Label) -> Draft:
        name = self._name("hide", step.id)
        return lambda: Show(id=name, slot=step.hide, template=None, next=self._number(follower))

    def _delete(self, step: DeleteStep) -> Draft:
        name = self._name("delete", step.id)
        return lambda: Delete(id=name, outcome=step.outcome)

    def _end(self, step: EndStep) -> Draft:
        name = self._name("end", step.id)
        return lambda: End(id=name, outcome=step.end or DEFAULT_OUTCOME)

    def _branch(self, branch: Any, path: Path, follower: Label) -> Label:
        if branch is None:
            return follower
        return _id(branch) if isinstance(branch, str) else self._block(branch, path, follower)

    def _criterion(self, data: dict[str, Any]) -> int:
        if data not in self.criteria:
            self.criteria.append(data)
        return self.criteria.index(data)

    def _subscribe(self, role: Any, events: EventFilter, outcome: str = "") -> int:
        self.subscriptions.append(Subscription(role=role, filter=events, outcome=outcome))
        return len(self.subscriptions) - 1

    def _name(self, kind: str, written: str | None) -> str:
        """The id as written, or the kind with its place among the steps of that kind."""
        if written:
            return written
        while True:
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            name = f"{kind}-{self.kinds[kind]}"
            if name not in self.taken:
                return name

    def _number(self, label: Label) -> int:
        seen: list[Label] = []
        while label in self.aliases and label not in seen:
            seen.append(label)
            label = self.aliases[label]
        self.used.update(seen, [label])
        if label == _END:
            return len(self.drafts)
        if label not in self.numbers:
            raise InvalidInput(self._lost(label, seen))
        return self.numbers[label]

    def _lost(self, label: Label, seen: list[Label]) -> Problem:
        document = self.journey.document
        path = next((self.gotos[one] for one in seen if one in self.gotos), ("steps",))
        if label in seen:
            return document.problem(path, "these gotos only lead to each other", "let one lead to a step")
        return document.problem(path, f"there is no step {label.removeprefix('id ')}", "give a step this id")


def _never() -> Step:
    raise AssertionError("a step was asked for before it was put together")


def _id(name: str) -> Label:
    return f"id {name}"


def _ids(steps: Any) -> set[str]:
    """Every id that a journey's steps name, at any depth."""
    found: set[str] = set()
    waiting = [steps]
    while waiting:
        one = waiting.pop()
        if isinstance(one, tuple):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif hasattr(one, "model_fields_set"):
            if isinstance(one, StepNode) and one.id:
                found.add(one.id)
            waiting.extend(value for _, value in one if not isinstance(value, str))
    return found


def _filter(event: str, where: dict[str, Any] | None) -> EventFilter:
    problems: list[Problem] = []
    tests = eventfilter.parse(where, ("where",), problems, correlated=True) if where else {}
    if problems:
        raise InvalidInput(*problems)
    return EventFilter(event=event, where=tests)


_WAYS: dict[type[StepNode], tuple[str, tuple[str, ...]]] = {
    SendStep: ("_send", ("step", "follower")),
    WaitStep: ("_wait", ("step", "path", "follower")),
    IfStep: ("_if", ("step", "path", "follower")),
    ChooseStep: ("_choose", ("step", "path", "follower")),
    SplitStep: ("_split", ("step", "path", "follower")),
    ParallelStep: ("_parallel", ("step", "path", "follower")),
    UpdateStep: ("_update", ("step", "follower")),
    TagStep: ("_tag", ("step", "follower")),
    ConsentStep: ("_consent", ("step", "follower")),
    ScoreStep: ("_score", ("step", "follower")),
    NotifyStep: ("_notify", ("step", "path", "follower")),
    CallStep: ("_call", ("step", "path", "follower")),
    EnrollStep: ("_enroll", ("step", "path", "follower")),
    AskStep: ("_ask", ("step", "path", "follower")),
    ShowStep: ("_show", ("step", "follower")),
    HideStep: ("_hide", ("step", "follower")),
    DeleteStep: ("_delete", ("step",)),
    EndStep: ("_end", ("step",)),
}
"""The method that compiles each kind, and what it is given."""


def answer_filter(journey: str, step: AskStep, answer: str) -> EventFilter:
    """The event that is this answer."""
    if step.ask == "form":
        return EventFilter(event="form.submitted", where={"form": step.of, "answer": answer})
    event, key = {
        "link": ("message.clicked", "url"),
        "reply": ("message.replied", "text"),
        "keypad": ("voice.pressed", "key"),
    }[step.ask]
    asked = {"journey": journey, **({"step": step.of} if step.of else {})}
    return EventFilter(event=event, where={**asked, key: answer})


def _consents(given: dict[str, Any]) -> tuple[tuple[str, str, bool], ...]:
    return tuple(
        (channel, purpose, granted)
        for channel, said in given.items()
        for purpose, granted in (said if isinstance(said, dict) else {DEFAULT_PURPOSE: said}).items()
    )


def window_of(node: WindowNode) -> Window:
    """The hours of the week that are written."""
    start, end = timing.span(node.hours) if node.hours else ("00:00", "00:00")
    days: dict[str, Any] = {"weekdays": timing.weekdays(node.days)} if node.days else {}
    zone = timing.zone(node.zone) if node.zone else "contact"
    return Window(start=start, end=end, **days, holidays=node.holidays, zone=zone)


def _rules(journey: Journey, hasten: float) -> Rules:
    limits = journey.limits
    within = timing.duration(limits.within).total_seconds() if limits and limits.within else 86_400
    real = hasten == 1  # nobody waits for the morning in a demonstration
    return Rules(
        quiet=timing.span(journey.quiet_hours) if journey.quiet_hours and real else None,
        window=window_of(journey.send_window) if journey.send_window and real else None,
        cap=limits.messages if limits else None,
        cap_seconds=max(1, int(within / hasten)),
        per_minute=limits.per_minute if limits else None,
    )


def _conversion(journey: Journey, hasten: float) -> Conversion | None:
    wanted = journey.conversion
    if wanted is None:
        return None
    return Conversion(
        filter=_filter(wanted.event, wanted.where),
        within_seconds=timing.duration(wanted.within).total_seconds() / hasten,
        value=wanted.value.removeprefix(eventfilter.PREFIX) if wanted.value else None,
    )


def _entry_event(enter: Enter, where: dict[str, Any]) -> EventFilter | None:
    if enter.on and enter.segment:
        name = LEFT if enter.on == "left" else ENTERED
        return EventFilter(event=name, where={"segment": enter.segment})
    return _filter(enter.event, where) if enter.event else None


def _entry_date(enter: Enter) -> AttributeDate | None:
    if enter.date is None:
        return None
    offset = timing.duration(enter.plus).total_seconds() if enter.plus else 0.0
    offset -= timing.duration(enter.minus).total_seconds() if enter.minus else 0.0
    return AttributeDate(
        attribute=enter.date.removeprefix("contact."),
        offset_seconds=offset,
        time=timing.clock(enter.at) if enter.at else None,
        zone=timing.zone(enter.zone) if enter.zone else "contact",
        yearly=enter.yearly,
    )


def _entry(enter: Enter, hasten: float) -> Entry:
    about_event, about_contact = split_where(enter.where or {})
    reenter = enter.reenter or ("after_exit" if enter.schedule or enter.yearly else "never")
    cooldown = timing.duration(enter.cooldown).total_seconds() / hasten if enter.cooldown else 0
    return Entry(
        event=_entry_event(enter, about_event),
        criteria=about_contact or None,
        segment=enter.segment,
        present=enter.on == "in",
        date=_entry_date(enter),
        cron=enter.schedule and timing.schedule(enter.schedule).cron,
        rrule=enter.schedule and timing.schedule(enter.schedule).rrule,
        zone=timing.zone(enter.zone) if enter.zone else "UTC",
        key=enter.key.removeprefix(eventfilter.PREFIX) if enter.key else None,
        reenter=reenter,
        cooldown_seconds=cooldown,
    )
