"""A plan as a tree for the terminal: steps below each other, branches indented, jumps by name."""

from typing import Any

from rich.markup import escape
from rich.tree import Tree

from journeys import wording
from journeys.graph import successors
from journeys.plan import Act, EventFilter, Plan, Step
from journeys.steps.registry import effect_of, told_of


def drawn(plan: Plan) -> Tree:
    """The whole plan, from how contacts enter to how they leave."""
    tree = Tree(f"[bold]{escape(plan.title)}[/] [dim]({escape(plan.journey)})[/]", guide_style="dim")
    for line in (*_entry(plan), *_rules(plan)):
        tree.add(line)
    _Drawing(plan).chain(tree.add("[bold]steps[/]"), 0, stop=None)
    if plan.hasten != 1:
        tree.add(f"[yellow]for demonstration: waits are {plan.hasten:g} times shorter[/]")
    return tree


class _Drawing:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.seen: set[int] = set()

    def chain(self, tree: Tree, number: int | None, stop: int | None) -> None:
        """Draw a step and what follows it, until `stop` or a step that was drawn before."""
        while number is not None and number != stop:
            step = self.plan.steps[number]
            if number in self.seen:
                tree.add(f"[dim]→ {escape(step.id)}[/]")
                return
            self.seen.add(number)
            node = tree.add(f"[bold cyan]{escape(step.id)}[/] {step.kind} {escape(does(self.plan, step))}".rstrip())
            number = self._branches(node, step, stop)

    def _branches(self, node: Tree, step: Step, stop: int | None) -> int | None:
        """Draw the ways out; gives the step to go on with below, if there is one."""
        found = ways(self.plan, step)
        if not found:
            return None
        if len(found) == 1:
            return found[0][1]
        meeting = self._meeting([to for _, to in found])
        for words, to in found:
            branch = node.add(escape(words))
            if to == meeting:
                branch.add("[dim]go on[/]")
            self.chain(branch, to, meeting if meeting is not None else stop)
        return meeting

    def _meeting(self, starts: list[int]) -> int | None:
        """The first step that every way leads to; only ways that go forward are looked at."""
        common: set[int] | None = None
        for start in starts:
            ahead = self._ahead(start)
            common = ahead if common is None else common & ahead
        return min(common) if common else None

    def _ahead(self, start: int) -> set[int]:
        found, front = {start}, [start]
        while front:
            here = front.pop()
            for there in successors(self.plan.steps[here]):
                if there > here and there not in found:
                    found.add(there)
                    front.append(there)
        return found


def ways(plan: Plan, step: Step) -> list[tuple[str, int]]:
    """The ways out of a step in words, each with the step it leads to."""
    if isinstance(step, Act):
        effect = effect_of(step)
        data = effect.read(step)
        said = [(effect.way(data, way.name), way.next) for way in step.ways]
        return said if step.next is None else [*said, (effect.way(data, "next"), step.next)]
    told = told_of(step)
    return told.ways(plan, step) if told.ways else [("", to) for to in successors(step)]


def does(plan: Plan, step: Step) -> str:
    """What a step does, in words that stand behind its kind: `vip, not trial`."""
    if isinstance(step, Act):
        effect = effect_of(step)
        return effect.does(effect.read(step))
    return told_of(step).does(plan, step)


def _entry(plan: Plan) -> list[str]:
    entry = plan.entry
    said = []
    if entry.event:
        said.append(f"enter on {_filter(entry.event)}{', and who is in it already' if entry.present else ''}")
    schedule = entry.cron or entry.rrule
    if schedule:
        said.append(f"enter at [bold]{escape(schedule)}[/] in {escape(entry.zone)}: {escape(entry.segment or '')}")
    elif entry.segment and not entry.event:
        said.append(f"enter by broadcast: {escape(entry.segment)}")
    if entry.date:
        said.append(f"enter {wording.date_of(entry.date)}")
    if entry.criteria:
        said.append(f"only {_criteria(entry.criteria)}")
    if not said:
        said.append("enter by hand or by the API")
    again = {"never": "once", "after_exit": "again after it ended", "always": "any number of times"}[entry.reenter]
    per = f", for each {escape(entry.key)}" if entry.key else ""
    cooldown = f", {wording.span(entry.cooldown_seconds)} apart" if entry.cooldown_seconds else ""
    return [*said, f"[dim]{again}{per}{cooldown}[/]"]


def _rules(plan: Plan) -> list[str]:
    said = [
        f"{one.role} on {_filter(one.filter)}: [bold]{escape(one.outcome)}[/]"
        for one in plan.subscriptions
        if one.role in {"goal", "exit"}
    ]
    said += [
        f"{one.role} when {_criteria(plan.criteria[one.criteria])}: [bold]{escape(one.outcome)}[/]"
        for one in (plan.endings.rules if plan.endings else ())
    ]
    if plan.conversion is not None:
        worth = f", worth its {escape(plan.conversion.value)}" if plan.conversion.value else ""
        within = wording.span(plan.conversion.within_seconds)
        said.append(f"conversion on {_filter(plan.conversion.filter)} within {within}{worth}")
    rules = plan.rules
    if rules.quiet:
        said.append(f"quiet from {rules.quiet[0]} to {rules.quiet[1]}")
    if rules.window:
        said.append(f"sends {wording.window(rules.window)}")
    if rules.cap:
        said.append(f"at most {rules.cap} messages to a contact in {wording.span(rules.cap_seconds)}")
    if rules.per_minute:
        said.append(f"at most {rules.per_minute:g} messages a minute")
    if rules.budget:
        said.append(f"a budget of {rules.budget:g}")
    return said


def _filter(event: EventFilter) -> str:
    return f"[magenta]{escape(event.event)}[/]" + (f" {_criteria(event.where)}" if event.where else "")


def _criteria(data: Any) -> str:
    return escape(wording.as_written(data))
