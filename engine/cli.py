"""Commands that put contacts into journeys and say what became of them."""

from dataclasses import asdict
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.tree import Tree

from channels import keys
from contacts.profiles import find
from core.cli import connected, console, load_settings, output, run
from core.clock import now
from engine import broadcasts, entering, history
from engine.simulating_cli import simulate
from tracker.wire import Limits

app = typer.Typer(no_args_is_help=True)
app.command()(simulate)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def enter(
    journey: Annotated[str, typer.Argument(help="The journey's name.")],
    contact: Annotated[
        list[str] | None, typer.Option(help="A contact: its number, or email:…, external_id:…; may be repeated.")
    ] = None,
    segment: Annotated[str | None, typer.Option(help="Everybody in this segment; `all` is every contact.")] = None,
    key: Annotated[str, typer.Option(help="Tells apart two runs of one contact.")] = "",
    properties: Annotated[
        str, typer.Option(help="A JSON object: what templates and `same:` find as event.…; with --contact.")
    ] = "{}",
    json: _Json = False,
) -> None:
    """Let contacts into a journey by hand."""
    if bool(contact) == bool(segment):
        raise typer.BadParameter("give either --contact (once or more) or --segment")
    given = _read(properties)
    if given and segment:
        raise typer.BadParameter("properties belong to contacts that are named, not to a segment")
    output(run(_enter(journey, contact or [], segment, key, given)), json=json)


def _read(properties: str) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(properties, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise typer.BadParameter(f'properties are a JSON object, such as {{"cart": 42}}: {error}') from error
    return given


async def _enter(
    journey: str, contacts: list[str], segment: str | None, key: str, properties: dict[str, Any]
) -> dict[str, Any]:
    entering.check(properties, Limits.of(load_settings()))
    async with connected() as database, database.begin() as connection:
        if segment is None:
            ids = [await find(connection, reference) for reference in contacts]
            return {"journey": journey, "contacts": await entering.enter(connection, journey, ids, key, properties)}
        occasion = f"hand:{journey}:{now().isoformat()}"
        number = await broadcasts.start(connection, journey, occasion=occasion, segment=segment)
        return {"journey": journey, "segment": segment, "broadcast": number}


@app.command("history")
def show_history(
    who: Annotated[str, typer.Argument(help="An enrollment's number, or a contact as email:…, external_id:…")],
    journey: Annotated[str | None, typer.Option(help="Only this journey.")] = None,
    json: _Json = False,
) -> None:
    """Say what happened to a contact in its journeys, and why."""
    found = run(_history(who, journey))
    if json:
        output([asdict(one) for one in found], json=True)
        return
    if not found:
        console.print("This contact has not been in a journey.")
    for one in found:
        console.print(_drawn(one))


async def _history(who: str, journey: str | None) -> list[history.History]:
    async with connected() as database, database.begin() as connection:
        if who.isdigit():
            return [await history.of_enrollment(connection, int(who))]
        return await history.of_contact(connection, await find(connection, who), journey)


def _drawn(one: history.History) -> Tree:
    title = f"[bold]{escape(one.journey)}[/] version {one.version}, enrollment {one.enrollment_id}"
    tree = Tree(f"{title}{f', {escape(one.key)}' if one.key else ''}: {escape(one.outcome or one.state)}")
    for moment in one.moments:
        step = f"[bold]{escape(moment.step)}[/] " if moment.step else ""
        tree.add(f"[dim]{moment.at:%Y-%m-%d %H:%M:%S}[/] {step}{escape(moment.what)}")
    for wait in one.waits:
        until = f" (until {wait.until:%Y-%m-%d %H:%M:%S})" if wait.until else ""
        tree.add(f"[yellow]now[/] [bold]{escape(wait.step)}[/] [yellow]{escape(wait.what)}{until}[/]")
    if one.waits and one.ends_upon:
        tree.add(f"[dim]ends at once upon {escape(one.ends_upon)}[/]")
    return tree


@app.command("webhook-key")
def webhook_key() -> None:
    """Print the key that `call` steps sign with, for those who check the header Kaskad-Signature."""
    settings = load_settings()
    output({"key": keys.webhook_key(settings).decode()}, json=False)
