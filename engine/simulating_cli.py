"""`kaskad journey simulate`."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from core.cli import complaints, connected, console, load_settings, output, run
from core.errors import InvalidInput, Problem
from engine import simulating, simulating_screen
from journeys.steps.known import Abilities
from segments import words

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def simulate(
    journey: Annotated[str, typer.Argument(help="A YAML file, or the name of a published journey.")],
    segment: Annotated[
        str | None, typer.Option(help="Who enters; `all` is every contact. The journey's own segment if not given.")
    ] = None,
    contact: Annotated[
        str | None, typer.Option(help="Tell the story of one contact: its number, or email:…, external_id:…")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=simulating.MOST_DAYS, help="How long.")] = 30,
    response: Annotated[
        str, typer.Option(help="How people answer: opened=0.3,clicked=0.05,order.paid=0.2@3h (half of them within 3 h)")
    ] = "",
    seed: Annotated[int, typer.Option(help="Another seed, other people answer.")] = 0,
    price: Annotated[list[str] | None, typer.Option(help="Of one message: email=0.0004; may be repeated.")] = None,
    start: Annotated[datetime | None, typer.Option(help="When it begins, in UTC; now if not given.")] = None,
    enter_over: Annotated[str | None, typer.Option(help="Contacts enter evenly over so long, such as 7d.")] = None,
    event_property: Annotated[
        list[str] | None,
        typer.Option("--property", help="With --contact: a property of the entry event, application_id=42."),
    ] = None,
    json: _Json = False,
) -> None:
    """Let contacts go through a journey under a virtual clock. Nothing is sent and nothing is written."""
    if contact is not None and segment is not None:
        raise typer.BadParameter("give either --segment or --contact")
    options: dict[str, Any] = {
        "segment": segment,
        "contact": contact,
        "days": days,
        "responses": response,
        "seed": seed,
    }
    if start is not None:
        options["start"] = start.replace(tzinfo=UTC) if start.tzinfo is None else start
    run(_simulate(journey, options, price or [], enter_over, event_property or [], json))


async def _simulate(
    journey: str, options: dict[str, Any], prices: list[str], enter_over: str | None, properties: list[str], json: bool
) -> None:
    source = simulating.source_of(journey)
    options["prices"] = {name: _price(name, value) for name, value in map(_pair, prices)}
    options["properties"] = dict(map(_pair, properties))
    options["enter_within"] = _length(enter_over) if enter_over else timedelta()
    async with connected() as database:
        async with simulating.read_only(database) as connection:
            plan, warnings = await simulating.plan_of(connection, journey, source, Abilities.of(load_settings()))
        wanted = simulating.Wanted(plan, warnings=warnings, **options)
        if wanted.contact is not None:
            story = await simulating.tell(database, load_settings(), wanted)
            shown = simulating_screen.story(story)
            found: simulating.Story | simulating.Simulated = story
        else:
            ready = await simulating.prepare(database, wanted)
            done = await asyncio.to_thread(_with_progress, ready)
            shown = simulating_screen.simulated(done)
            found = done
    if json:
        output(simulating.plain(found), json=True)
        return
    for part in shown:
        console.print(part)
        console.print()


def _with_progress(ready: simulating.Ready) -> simulating.Simulated:
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=complaints, transient=True) as progress:
        task = progress.add_task("", total=len(ready.people))
        return ready.run(lambda done, _total: progress.update(task, completed=done))


def _pair(entry: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not name or not equals:
        raise InvalidInput(Problem(f"{entry!r} is not NAME=VALUE", "write email=0.0004"))
    return name, value


def _price(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InvalidInput(Problem(f"{value!r} is not the price of one message by {name}", "write 0.0004")) from None


def _length(value: str) -> timedelta:
    length = words.duration(value)
    if length is None:
        raise InvalidInput(Problem(f"{value!r} is not a duration", "write 7d or 12h"))
    return length
