"""A simulation on the terminal: tables, and bars for the days."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from engine.simulating import Simulated, Story, Told
from journeys.tally import MessageRow, Result
from segments.words import said

_BAR_WIDTH = 40
_COLUMNS = 8
_EIGHTHS = " ▏▎▍▌▋▊▉"


def simulated(one: Simulated) -> Iterator[RenderableType]:
    """Everything a simulation over many contacts came to, part by part."""
    result = one.result
    yield f"[bold]{escape(result.journey)}[/]: {_heading(one)}"
    yield from _warned(one.warnings)
    if not result.entered:
        yield "Nobody enters."
        return
    if result.messages:
        yield _messages(result.messages, result.entered)
        yield _days(result)
    else:
        yield "No messages."
    if result.reasons:
        yield _reasons(result)
    if result.standing:
        yield _standing(result)
    yield _outcomes(result)
    if result.seconds_median is not None and result.seconds_p90 is not None:
        half, most = said(round(result.seconds_median)), said(round(result.seconds_p90))
        yield f"Half of those who come to an end do so within {half}, nine in ten within {most}."
    if result.responses:
        yield _responses(result)
    if result.spent_at is not None:
        yield _spent(result, result.spent_at)
    if any(row.price is not None or row.cost or row.currency for row in result.costs):
        yield _costs(result)


def _heading(one: Simulated) -> str:
    result = one.result
    kept = f", {one.not_let_in:,} more are not let in by the entry criteria" if one.not_let_in else ""
    until = f"{result.days} day{'' if result.days == 1 else 's'} from {result.start:%Y-%m-%d %H:%M} UTC"
    return f"{result.entered:,} contacts enter{kept}; {until}, seed {result.seed}. Nothing is sent."


def _warned(warnings: tuple[str, ...]) -> Iterator[RenderableType]:
    for warning in warnings:
        yield f"[yellow]could not be published yet:[/] {escape(warning)}"


def _messages(rows: list[MessageRow], entered: int) -> Table:
    table = _table(
        "Messages", "step", "channel", "template", ">sent", ">of those who entered", ">skipped", ">held back"
    )
    by_step: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts = {"sent": row.sent, "skipped": row.skipped, "delayed": row.delayed}
        by_step[(row.step, row.channel, row.template)].update(counts)
    for names, count in by_step.items():
        share = f"{count['sent'] / entered:.1%}"
        table.add_row(
            *map(escape, names), f"{count['sent']:,}", share, f"{count['skipped']:,}", f"{count['delayed']:,}"
        )
    return table


def _days(result: Result) -> Table:
    """A bar for each day up to the last with a message."""
    sent: dict[int, Counter[str]] = defaultdict(Counter)
    for row in result.messages:
        sent[row.day][row.channel] += row.sent
    most = max((count.total() for count in sent.values()), default=0)
    table = _table("Messages by day", ">day", "", ">messages", "by channel")
    for day in range(1, max(sent) + 1):
        total = sent[day].total()
        channels = ", ".join(f"{name} {number:,}" for name, number in sorted(sent[day].items()) if number)
        table.add_row(str(day), f"[cyan]{bar(total, most)}[/]", f"{total:,}", f"[dim]{escape(channels)}[/]")
    return table


def bar(value: float, most: float, width: int = _BAR_WIDTH) -> str:
    """A bar of block characters; the greatest value fills the width, and what is not nought is seen."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, round(value / most * width * 8))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _reasons(result: Result) -> Table:
    table = _table("Not sent, or later", "step", "channel", "", "reason", ">messages")
    for row in result.reasons:
        action = "skipped" if row.action == "skipped" else "held back"
        table.add_row(escape(row.step), row.channel, action, escape(row.reason.replace("_", " ")), f"{row.messages:,}")
    return table


def _standing(result: Result) -> Table:
    """Who stands where at the end of some of the days."""
    days = _some(sorted({row.day for row in result.standing}))
    table = _table("Where contacts stand when a day ends", "step", *(f">day {day}" for day in days))
    by_step: dict[str, dict[int, int]] = defaultdict(dict)
    for row in result.standing:
        by_step[row.step][row.day] = row.contacts
    for step, counts in by_step.items():
        table.add_row(escape(step), *(f"{counts.get(day, 0):,}" for day in days))
    return table


def _some(days: list[int]) -> list[int]:
    """A few of the days, closer together at the beginning, the last among them."""
    if len(days) <= _COLUMNS:
        return days
    wanted = [1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180, 270, 360]
    early = [day for day in days if day in wanted][: _COLUMNS - 1]
    return sorted({*early, days[-1]})


def _outcomes(result: Result) -> Table:
    table = _table("How it ends", "outcome", ">contacts", ">share")
    for row in result.outcomes:
        table.add_row(f"[bold]{escape(row.outcome)}[/]", f"{row.contacts:,}", f"{row.share:.1%}")
    if result.running:
        table.add_row("[dim]still under way[/]", f"{result.running:,}", f"{result.running / result.entered:.1%}")
    return table


def _responses(result: Result) -> Table:
    table = _table(
        "Answers", "event", ">probability", ">could answer", ">did", ">of those to the goal", ">of the others"
    )
    for row in result.responses:
        silent = row.asked - row.answered
        table.add_row(
            escape(row.event),
            f"{row.probability:.1%}",
            f"{row.asked:,}",
            f"{row.answered:,}",
            f"{row.converted / row.answered:.1%}" if row.answered else "–",
            f"{row.converted_silent / silent:.1%}" if silent else "–",
        )
    return table


def _costs(result: Result) -> Table:
    table = _table("Cost", "channel", "provider", ">messages", ">price", ">without price", ">cost")
    for row in result.costs:
        price = "–" if row.price is None else f"{row.price:g}"
        cost = f"{row.cost:,.2f} {row.currency or ''}".rstrip()
        unpriced = f"{row.unpriced:,}" if row.unpriced else "–"
        table.add_row(row.channel, escape(row.provider or "–"), f"{row.messages:,}", price, unpriced, cost)
    together = "–" if result.cost is None else f"{result.cost:,.2f}"
    table.add_row("[bold]together[/]", "", "", "", "", f"[bold]{together}[/]")
    return table


def _spent(result: Result, at: datetime) -> str:
    day = (at - result.start).days + 1
    over = sum(row.messages for row in result.reasons if row.reason == "over_budget")
    return (
        f"[yellow]The budget is spent on day {day}[/] ({at:%Y-%m-%d %H:%M} UTC; {result.budget:,.2f} were left at the "
        f"start): the journey would pause itself then. Here it goes on, and {over:,} messages are skipped."
    )


def _table(title: str, *columns: str) -> Table:
    """A table; a column whose name begins with > is of numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table


def story(one: Story) -> Iterator[RenderableType]:
    """One contact's way, step by step, with the messages as it would get them."""
    yield from _warned(one.warnings)
    if not one.let_in:
        yield "[yellow]The entry criteria do not let this contact in; what follows is what would come after.[/]"
    tree = Tree(f"[bold]{escape(one.journey)}[/] for contact {one.contact_id}; nothing is sent", guide_style="dim")
    for line in one.lines:
        step = f"[bold cyan]{escape(line.step)}[/] " if line.step else ""
        node = tree.add(f"[dim]{line.at:%Y-%m-%d %H:%M:%S}[/] {step}{escape(line.what)}")
        if line.message is not None:
            node.add(_letter(line))
    yield tree
    if one.result.running:
        yield f"Still under way after {one.result.days} days."


def _letter(line: Told) -> RenderableType:
    message = line.message
    assert message is not None  # noqa: S101 -- asked for by the caller
    if message.problem:
        return f"[yellow]cannot be shown: {escape(message.problem)}[/]"
    body = Group(Text(message.subject, style="bold"), Text(""), Text(message.text))
    return Panel(body, width=90, border_style="dim")
