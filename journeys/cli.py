"""Commands about journeys as written and published."""

import difflib
import getpass
import json as json_format
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.syntax import Syntax

from core.cli import complain, complaints, connected, console, load_settings, output, plain_errors, run
from core.errors import InvalidInput, Problem
from journeys import bpmn as exchange
from journeys import canonical, compiler, picture, store
from journeys import reference as reference_page
from journeys.edits import Standing, Unplaced, placed
from journeys.language import json_schema
from journeys.loader import load
from journeys.steps.known import Abilities

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
def reference() -> None:
    """Print the reference of the journey language, as Markdown."""
    sys.stdout.write(reference_page.markdown())


@app.command()
def publish(
    files: _Files,
    hasten: Annotated[float, typer.Option(help="Divide waits by this; for demonstrations.")] = 1.0,
    move: Annotated[
        bool, typer.Option("--move", help="Take contacts who are under way along, to the steps of the same ids.")
    ] = False,
    place: Annotated[
        list[str] | None,
        typer.Option(help="With --move: where contacts go from a step that is gone, as old-step=new-step or =end."),
    ] = None,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Let in those, too, who are members of its segment already.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Only show whom --move would move, and where to; publish nothing.")
    ] = False,
    json: _Json = False,
) -> None:
    """Publish journeys; all of them or, if one has a problem, none. Who is under way stays on the version before."""
    with plain_errors():
        placement = placed(place or [])
    if preview:
        output(run(_preview(files, hasten, placement)), json=json, empty="Nobody is under way on an earlier version.")
        return
    try:
        output(run(_publish(files, hasten, move, placement, backfill)), json=json)
    except SystemExit as ended:
        standing = getattr(ended.__cause__, "standing", ())
        if standing:
            output([_stood(one) for one in standing], json=json)
        raise


def _stood(one: Standing) -> dict[str, Any]:
    return {
        "version": one.version,
        "step": one.step,
        "edit": one.edit,
        "contacts": one.contacts,
        "go_to": one.to or ("has to be said" if one.contacts else None),
    }


async def _preview(files: list[Path], hasten: float, placement: dict[str, str]) -> list[dict[str, Any]]:
    async with connected() as database, database.begin() as connection:
        return [
            _stood(one)
            for file in files
            for one in await store.preview(connection, _content(file), str(file), hasten, placement)
        ]


async def _publish(
    files: list[Path], hasten: float, move: bool, placement: dict[str, str], backfill: bool
) -> list[dict[str, Any]]:
    problems: list[Problem] = []
    standing: list[Standing] = []
    done: list[store.Published] = []
    abilities = Abilities.of(load_settings())
    async with connected() as database, database.begin() as connection:
        for file in files:
            try:
                done.append(
                    await store.publish(
                        connection,
                        _content(file),
                        str(file),
                        _user(),
                        hasten,
                        move=move,
                        placement=placement,
                        backfill=backfill,
                        abilities=abilities,
                    )
                )
            except Unplaced as error:
                standing += error.standing
            except InvalidInput as error:
                problems += error.problems
        if problems:
            raise InvalidInput(*problems)
        if standing:
            raise Unplaced(standing)
    return [
        {"journey": one.journey, "version": one.number, "changed": one.changed}
        | ({"moving": one.moving} if move else {})
        for one in done
    ]


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return None


@app.command("diff")
def diff_journeys(
    old: Annotated[Path, typer.Argument(help="A YAML file.")],
    new: Annotated[Path, typer.Argument(help="Another one.")],
    json: _Json = False,
) -> None:
    """Show how two journeys differ in meaning; exits with 1 if they do, with 2 if one cannot be read."""
    try:
        before, after = (compiler.compile(load(_content(file), str(file))) for file in (old, new))
    except InvalidInput as error:
        complain(error)
        raise typer.Exit(2) from error
    texts = canonical.text(before).splitlines(), canonical.text(after).splitlines()
    lines = list(difflib.unified_diff(texts[0], texts[1], str(old), str(new), lineterm=""))
    if json:
        output({"same": before == after, "diff": lines}, json=True)
    else:
        console.print(Syntax("\n".join(lines), "diff", background_color="default", word_wrap=True) if lines else "same")
    if before != after:
        raise typer.Exit(1)


@app.command("list")
def list_journeys(json: _Json = False) -> None:
    """List the published journeys."""
    rows = run(_list())
    empty = "There are no journeys yet; publish one with `kaskad journey publish FILE`."
    output(rows if json else [_line(row) for row in rows], json=json, empty=empty)


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """A journey as a row that fits a terminal of eighty columns."""
    because = f": {row['paused_because']}" if row["paused_because"] else ""
    return {
        "journey": row["name"],
        "state": f"{row['state']}{because}",
        "version": row["version"],
        "published": f"{row['published_at']:%Y-%m-%d}",
        "running": row["running"],
        "finished": row["finished"],
    }


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
def stop(
    name: _Name,
    finish: Annotated[bool, typer.Option("--finish", help="Let those inside go on to their end.")] = False,
    json: _Json = False,
) -> None:
    """Let nobody in any more, and end the journey for everyone in it."""
    output(run(_set_state(name, "finishing" if finish else "stopped")), json=json)


async def _set_state(name: str, state: str) -> dict[str, Any]:
    async with connected() as database, database.begin() as connection:
        before = await store.set_state(connection, name, state)
    return {"journey": name, "before": before, "state": state}


@app.command("export")
def export_journey(
    what: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A YAML file, or the name of a published journey.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write; - is standard output.")],
    bpmn: Annotated[bool, typer.Option("--bpmn", help="As BPMN 2.0, for bpmn.io and Camunda Modeler.")] = False,
) -> None:
    """Write a journey down: as BPMN 2.0 with --bpmn, else as its YAML."""
    with plain_errors():
        source, name = _source(what)
        _write(out, exchange.export(load(source, name)) if bpmn else source.decode("utf-8-sig"))


def _source(what: str) -> tuple[bytes, str]:
    """The YAML of a file, or of the published journey of that name."""
    file = Path(what)
    if file.is_file() or file.suffix in {".yaml", ".yml"}:
        return _content(file), what
    return run(_find(what)).source.encode(), what


@app.command("import")
def import_journey(
    file: Annotated[Path, typer.Argument(help="A BPMN 2.0 file.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the YAML; - is standard output.")],
) -> None:
    """Make a journey from BPMN 2.0; what has no meaning in a journey is refused by element and line."""
    with plain_errors():
        found = exchange.read(_content(file), str(file))
        _write(out, found.text)
    if found.left_out:
        complaints.print(f"left out, since it does nothing: {escape(', '.join(found.left_out))}", highlight=False)


def _write(out: Path, text: str) -> None:
    if str(out) == "-":
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        problem = Problem(f"cannot be written: {error.strerror}", "name another file", str(out), 1, 1)
        raise InvalidInput(problem) from error
