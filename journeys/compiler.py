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
    ChooseStep,
    EndStep,
    Enter,
    GotoStep,
    IfStep,
    Journey,
    Rule,
    SendStep,
    SplitStep,
    StepNode,
    UntilRule,
    UpdateStep,
    WaitStep,
    split_where,
)
from journeys.plan import (
    Arm,
    Choose,
    End,
    Entry,
    EventFilter,
    LocalTime,
    Plan,
    Send,
    Split,
    Step,
    Subscription,
    Until,
    Update,
    Wait,
)
from segments import eventfilter

Label = str
Draft = Callable[[], Step]

DEFAULT_PURPOSE = "marketing"
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
        self.priority = "broadcast" if journey.enter.segment else "triggered"
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
                self._subscribe(role, rule, rule.outcome or role)
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

    def _draft(self, step: StepNode, path: Path, follower: Label) -> Draft:  # noqa: PLR0911 - one line a kind
        match step:
            case SendStep():
                return self._send(step, follower)
            case WaitStep():
                return self._wait(step, path, follower)
            case IfStep():
                return self._if(step, path, follower)
            case ChooseStep():
                return self._choose(step, path, follower)
            case SplitStep():
                return self._split(step, path, follower)
            case UpdateStep():
                return self._update(step, follower)
            case EndStep():
                name = self._name("end", step.id)
                return lambda: End(id=name, outcome=step.end or DEFAULT_OUTCOME)
        raise TypeError(f"no way to compile {type(step).__name__}")

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
            next=self._number(follower),
        )

    def _wait(self, step: WaitStep, path: Path, follower: Label) -> Draft:
        name = self._name("wait", step.id)
        seconds, local = self._length(timing.length(step.wait))
        ways = []
        then = self._branch(step.then, (*path, "then"), follower)
        for index, rule in enumerate(step.until):
            number = self._subscribe("wait", rule)
            own = self._branch(rule.then, (*path, "until", index, "then"), then)
            ways.append((number, own))
        return lambda: Wait(
            id=name,
            seconds=seconds,
            local=local,
            precise=step.precise,
            until=tuple(Until(subscription=number, next=self._number(to)) for number, to in ways),
            next=self._number(follower),
        )

    def _length(self, length: timing.Length) -> tuple[float | None, LocalTime | None]:
        if length.duration is not None:
            return length.duration.total_seconds() / self.hasten, None
        if length.local is not None and self.hasten != 1:
            return HASTENED_LOCAL_SECONDS / self.hasten, None
        return None, length.local

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
        return lambda: Split(
            id=name,
            salt=f"{self.journey.journey}:{name}",
            arms=tuple(Arm(name=arm, weight=weight, next=self._number(to)) for arm, weight, to in arms),
        )

    def _update(self, step: UpdateStep, follower: Label) -> Draft:
        name = self._name("update", step.id)
        changes = step.update
        consents = [
            (channel, purpose, granted)
            for channel, given in changes.consents.items()
            for purpose, granted in (given if isinstance(given, dict) else {DEFAULT_PURPOSE: given}).items()
        ]
        return lambda: Update(
            id=name,
            attributes=dict(changes.attributes),
            add_tags=changes.tags.add,
            remove_tags=changes.tags.remove,
            consents=tuple(consents),
            next=self._number(follower),
        )

    def _branch(self, branch: Any, path: Path, follower: Label) -> Label:
        if branch is None:
            return follower
        return _id(branch) if isinstance(branch, str) else self._block(branch, path, follower)

    def _criterion(self, data: dict[str, Any]) -> int:
        if data not in self.criteria:
            self.criteria.append(data)
        return self.criteria.index(data)

    def _subscribe(self, role: Any, rule: Rule | UntilRule, outcome: str = "") -> int:
        self.subscriptions.append(Subscription(role=role, filter=_filter(rule.event, rule.where), outcome=outcome))
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


def _entry(enter: Enter, hasten: float) -> Entry:
    about_event, about_contact = split_where(enter.where or {})
    reenter = enter.reenter or ("after_exit" if enter.schedule else "never")
    cooldown = timing.duration(enter.cooldown).total_seconds() / hasten if enter.cooldown else 0
    return Entry(
        event=_filter(enter.event, about_event) if enter.event else None,
        criteria=about_contact or None,
        segment=enter.segment,
        cron=timing.cron(enter.schedule) if enter.schedule else None,
        zone=timing.zone(enter.zone) if enter.zone else "UTC",
        key=enter.key.removeprefix(eventfilter.PREFIX) if enter.key else None,
        reenter=reenter,
        cooldown_seconds=cooldown,
    )
