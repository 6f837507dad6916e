"""Commands about journeys as written and published."""

import getpass
import json as json_format
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from core.cli import complain, connected, console, output, run
from core.errors import InvalidInput, Problem
from journeys import compiler, picture, store
from journeys.language import json_schema
from journeys.loader import load

app = typer.Typer(no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Name = Annotated[str, typer.Argument(help="The journey's name.")]
_Files = Annotated[list[Path], typer.Argument(help="YAML files.")]


@app.command()
def validate(files: _Files, json: _Json = False) -> None:
    """Check journeys without publishing them; needs no database."""
    problems: list[Problem] = []
    good = []
    for file in files:
        try:
            plan = compiler.compile(load(_content(file), str(file)))
            good.append({"file": str(file), "journey": plan.journey, "steps": len(plan.steps)})
        except InvalidInput as error:
            problems += error.problems
    if json:
        output({"journeys": good, "problems": [asdict(one) for one in problems]}, json=True)
    else:
        for one in good:
            console.print(f"[green]good[/] {escape(str(one['file']))}: {one['journey']}, {one['steps']} steps")
        if problems:
            complain(InvalidInput(*problems))
    if problems:
        raise typer.Exit(1)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(Problem(f"cannot be read: {error.strerror}", "name a file", str(file), 1, 1)) from error


@app.command()
def schema() -> None:
    """Print the JSON Schema of the journey language, for editors."""
    sys.stdout.write(json_format.dumps(json_schema(), indent=2) + "\n")


@app.command()
def publish(
    files: _Files,
    hasten: Annotated[float, typer.Option(help="Divide waits by this; for demonstrations.")] = 1.0,
    json: _Json = False,
) -> None:
    """Publish journeys; all of them or, if one has a problem, none."""
    output(run(_publish(files, hasten)), json=json)


async def _publish(files: list[Path], hasten: float) -> list[dict[str, Any]]:
    problems: list[Problem] = []
    done: list[store.Published] = []
    async with connected() as database, database.begin() as connection:
        for file in files:
            try:
                done.append(await store.publish(connection, _content(file), str(file), _user(), hasten))
            except InvalidInput as error:
                problems += error.problems
        if problems:
            raise InvalidInput(*problems)
    return [{"journey": one.journey, "version": one.number, "changed": one.changed} for one in done]


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return None


@app.command("list")
def list_journeys(json: _Json = False) -> None:
    """List the published journeys."""
    output(run(_list()), json=json, empty="There are no journeys yet; publish one with `kaskad journey publish FILE`.")


async def _list() -> list[dict[str, Any]]:
    async with connected() as database, database.begin() as connection:
        return await store.listing(connection)


@app.command()
def show(name: _Name, json: _Json = False) -> None:
    """Draw a journey: how contacts enter, its steps and branches, how they leave."""
    found = run(_find(name))
    if json:
        output(asdict(found) | {"plan": found.plan.model_dump(mode="json")}, json=True)
        return
    console.print(f"version {found.number}, {found.state}, published {found.published_at:%Y-%m-%d %H:%M} UTC")
    console.print(picture.drawn(found.plan))


async def _find(name: str) -> store.Found:
    async with connected() as database, database.begin() as connection:
        return await store.find(connection, name)


@app.command()
def pause(name: _Name, json: _Json = False) -> None:
    """Hold everyone where they are, and newcomers at the door, until the journey is resumed."""
    output(run(_set_state(name, "paused")), json=json)


@app.command()
def resume(name: _Name, json: _Json = False) -> None:
    """Let a paused or stopped journey go on."""
    output(run(_set_state(name, "active")), json=json)


@app.command()
def stop(name: _Name, json: _Json = False) -> None:
    """End the journey for everyone in it and let nobody in."""
    output(run(_set_state(name, "stopped")), json=json)


async def _set_state(name: str, state: str) -> dict[str, Any]:
    async with connected() as database, database.begin() as connection:
        before = await store.set_state(connection, name, state)
    return {"journey": name, "before": before, "state": state}
