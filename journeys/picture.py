"""A plan as a tree for the terminal: steps below each other, branches indented, jumps by name."""

from datetime import timedelta
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from journeys.graph import successors
from journeys.plan import (
    AttributeDate,
    Call,
    Choose,
    Delete,
    End,
    Enroll,
    EventFilter,
    Join,
    LocalTime,
    Notify,
    Parallel,
    Plan,
    Send,
    Show,
    Split,
    Step,
    Update,
    Wait,
    Window,
)

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY_WORDS = {(0, 1, 2, 3, 4, 5, 6): "", (0, 1, 2, 3, 4): " on weekdays", (5, 6): " on weekends"}
_UNITS = (("week", 604_800), ("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


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
            node = tree.add(f"[bold cyan]{escape(step.id)}[/] {_said(step)}")
            number = self._branches(node, step, stop)

    def _branches(self, node: Tree, step: Step, stop: int | None) -> int | None:
        """Draw the ways out; gives the step to go on with below, if there is one."""
        ways = _ways(self.plan, step)
        if not ways:
            return None
        if len(ways) == 1:
            return ways[0][1]
        meeting = self._meeting([to for _, to in ways])
        for words, to in ways:
            branch = node.add(words)
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


def _ways(plan: Plan, step: Step) -> list[tuple[str, int]]:  # noqa: PLR0911 - one line a kind
    match step:
        case Choose():
            ways = [(f"if {_criteria(plan.criteria[number])}", to) for number, to in step.branches]
            return [*ways, ("else", step.otherwise)]
        case Split():
            total = sum(arm.weight for arm in step.arms)
            return [(f"{escape(arm.name)} [dim]({arm.weight / total:.0%})[/]", arm.next) for arm in step.arms]
        case Wait() if step.until or step.watches or step.date:
            ways = [(f"on {_filter(plan.subscriptions[way.subscription].filter)}", way.next) for way in step.until]
            ways += [(f"when {_criteria(plan.criteria[way.criteria])}", way.next) for way in step.watches]
            if step.date is not None and step.date.missing != step.next:
                ways.append(("without such a date", step.date.missing))
            endless = step.seconds is None and not step.local and not step.window and not step.date
            return ways if endless else [*ways, ("in time", step.next)]
        case Parallel():
            return [(escape(branch.name), branch.next) for branch in step.branches]
        case Call():
            ways = [(f"if {_criteria(answer.where)}", answer.next) for answer in step.answers]
            return [*ways, ("answered", step.next), ("failed", step.failed)]
        case End() | Delete():
            return []
    return [("", to) for to in successors(step)]


def _said(step: Step) -> str:  # noqa: PLR0911, PLR0912 - one line a kind
    match step:
        case Send():
            more = "" if step.purpose == "marketing" else f" [dim]({escape(step.purpose)})[/]"
            return f"send {step.channel} [green]{escape(step.template)}[/]{more}"
        case Wait():
            return _wait(step)
        case Choose():
            return "choose"
        case Split():
            return "split" + (f" until {step.winner.metric} tells the better arm" if step.winner else "")
        case Parallel():
            return "at the same time"
        case Join():
            return "when all have come" if step.mode == "all" else "when the first has come"
        case Update():
            return _update(step)
        case Notify():
            return f"notify {escape(step.to)} by {step.channel}"
        case Call():
            return f"call {step.method} [green]{escape(step.url)}[/]"
        case Enroll():
            return f"enroll into [green]{escape(step.journey)}[/]"
        case Show():
            return f"show [green]{escape(step.template)}[/] in {step.slot}" if step.template else f"hide {step.slot}"
        case Delete():
            return f"delete the contact: [bold]{escape(step.outcome)}[/]"
        case End():
            return f"end: [bold]{escape(step.outcome)}[/]"
    raise TypeError(f"no such step: {step!r}")


def _wait(step: Wait) -> str:
    if step.seconds is not None:
        return f"wait {span(step.seconds)}"
    if step.date is not None:
        return f"wait until {date_of(step.date)}"
    if step.window is not None:
        return f"wait until it is {window(step.window)}"
    return f"wait until {local_time(step.local)}" if step.local else "wait for an event"


def date_of(date: AttributeDate) -> str:
    """A date of the contact's in words: `3 days before the contract_ends`."""
    name = f"the contact's {date.attribute}" + (" comes round" if date.yearly else "")
    if not date.offset_seconds:
        return name
    return f"{span(abs(date.offset_seconds))} {'after' if date.offset_seconds > 0 else 'before'} {name}"


def window(hours: Window) -> str:
    """Hours of the week in words."""
    clock = "" if hours.start == hours.end else f"between {hours.start} and {hours.end}"
    days = _DAY_WORDS.get(hours.weekdays, " on " + ", ".join(_DAYS[day] for day in hours.weekdays))
    holidays = f" but not on holidays of {hours.holidays}" if hours.holidays else ""
    zone = "the contact's time zone" if hours.zone == "contact" else hours.zone
    return f"{clock}{days}{holidays}, in {zone}".strip()


def span(seconds: float) -> str:
    """A length of time in words: `1 day 4 hours`."""
    left, said = timedelta(seconds=seconds).total_seconds(), []
    for name, unit in _UNITS:
        number, left = divmod(left, unit)
        if number:
            said.append(f"{number:.0f} {name}{'' if number == 1 else 's'}")
    if left and not said:
        return f"{left:.3g} seconds"
    return " ".join(said)


def local_time(local: LocalTime) -> str:
    """A time of day in words."""
    named = _DAY_WORDS.get(local.weekdays, " on " + ", ".join(_DAYS[day] for day in local.weekdays))
    zone = "the contact's time zone" if local.zone == "contact" else local.zone
    return f"{local.time}{named}, in {zone}"


def _update(step: Update) -> str:
    return "update: " + escape(written(step))


def written(step: Update) -> str:
    """What an update writes, in words: `tag vip, city = Moscow`."""
    said = [f"{name} = {value}" if value is not None else f"remove {name}" for name, value in step.attributes.items()]
    said += [f"tag {tag}" for tag in step.add_tags] + [f"untag {tag}" for tag in step.remove_tags]
    for channel, purpose, granted in step.consents:
        said.append(f"{'consent' if granted else 'no consent'} to {purpose} by {channel}")
    said += [f"{name} {amount:+g}" for name, amount in step.scores]
    return ", ".join(said)


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
        said.append(f"enter {date_of(entry.date)}")
    if entry.criteria:
        said.append(f"only {_criteria(entry.criteria)}")
    if not said:
        said.append("enter by hand or by the API")
    again = {"never": "once", "after_exit": "again after it ended", "always": "any number of times"}[entry.reenter]
    per = f", for each {escape(entry.key)}" if entry.key else ""
    cooldown = f", {span(entry.cooldown_seconds)} apart" if entry.cooldown_seconds else ""
    return [*said, f"[dim]{again}{per}{cooldown}[/]"]


def _rules(plan: Plan) -> list[str]:
    said = [
        f"{one.role} on {_filter(one.filter)}: [bold]{escape(one.outcome)}[/]"
        for one in plan.subscriptions
        if one.role in {"goal", "exit"}
    ]
    if plan.conversion is not None:
        worth = f", worth its {escape(plan.conversion.value)}" if plan.conversion.value else ""
        within = span(plan.conversion.within_seconds)
        said.append(f"conversion on {_filter(plan.conversion.filter)} within {within}{worth}")
    rules = plan.rules
    if rules.quiet:
        said.append(f"quiet from {rules.quiet[0]} to {rules.quiet[1]}")
    if rules.window:
        said.append(f"sends {window(rules.window)}")
    if rules.cap:
        said.append(f"at most {rules.cap} messages to a contact in {span(rules.cap_seconds)}")
    if rules.per_minute:
        said.append(f"at most {rules.per_minute:g} messages a minute")
    return said


def _filter(event: EventFilter) -> str:
    return f"[magenta]{escape(event.event)}[/]" + (f" {_criteria(event.where)}" if event.where else "")


def _criteria(data: Any) -> str:
    return escape(_words(data))


def _words(data: Any) -> str:
    if isinstance(data, dict):
        return ", ".join(f"{key}: {_words(value)}" for key, value in data.items())
    if isinstance(data, list):
        return "[" + "; ".join(_words(one) for one in data) + "]"
    return str(data).lower() if isinstance(data, bool) else str(data)
