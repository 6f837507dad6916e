"""`kaskad push`: publish a folder of templates, segments and journeys, all or nothing."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import templates
from core import documents
from core.cli import connected, load_settings, output, run
from core.errors import Conflict, InvalidInput, KaskadError, Problem
from core.settings import Settings
from journeys import store as journey_store
from journeys.steps.known import Abilities
from segments import criteria
from segments import store as segment_store

app = typer.Typer()

_KINDS = {
    "templates": (".mjml", ".html", ".txt", ".md"),
    "segments": (".yaml", ".yml"),
    "journeys": (".yaml", ".yml"),
}
_FILES_LIMIT = 5000


@dataclass(frozen=True)
class Pushed:
    """What became of one file."""

    kind: str
    name: str
    file: str
    state: str
    """new, changed or unchanged"""
    version: int | None = None


async def push(
    connection: AsyncConnection,
    settings: Settings,
    folder: Path,
    by: str | None = None,
    hasten: float = 1.0,
) -> list[Pushed]:
    """Publish `templates/`, `segments/` and `journeys/` of a folder, in that order; segments that name journeys last.

    Args:
        connection: an open transaction; nothing must be committed if this raises.
        settings: of the installation.
        folder: with at least one of the three folders in it.
        by: who publishes.
        hasten: waits of journeys are divided by this; for demonstrations.

    Raises:
        InvalidInput: every problem of every file.
    """
    files = files_of(folder)
    problems: list[Problem] = []
    pushed: list[Pushed] = []

    async def publish_template(content: bytes, file: str) -> Pushed:
        done = await templates.publish(connection, content, file)
        return Pushed("template", done.name, file, _state(done.changed, done.number), done.number)

    async def publish_journey(content: bytes, file: str) -> Pushed:
        done = await journey_store.publish(connection, content, file, by, hasten, abilities=Abilities.of(settings))
        return Pushed("journey", done.journey, file, _state(done.changed, done.number), done.number)

    early, late = _by_need(files["segments"])
    before = {row["name"] for row in await segment_store.listing(connection)}

    async def publish_segment(content: bytes, file: str) -> Pushed:
        done = await segment_store.publish(connection, content, file)
        state = ("changed" if done.name in before else "new") if done.changed else "unchanged"
        return Pushed("segment", done.name, file, state)

    for names, publish in (
        (files["templates"], publish_template),
        (early, publish_segment),
        (files["journeys"], publish_journey),
        (late, publish_segment),
    ):
        for file in names:
            await _one(connection, file, publish, pushed, problems)
    if problems:
        raise InvalidInput(*problems)
    return pushed


def _state(changed: bool, number: int) -> str:
    if not changed:
        return "unchanged"
    return "new" if number == 1 else "changed"


async def _one(
    connection: AsyncConnection,
    file: Path,
    publish: Callable[[bytes, str], Awaitable[Pushed]],
    pushed: list[Pushed],
    problems: list[Problem],
) -> None:
    """Publish one file inside a savepoint, so that its failure leaves the others to be checked."""
    try:
        async with connection.begin_nested():
            pushed.append(await publish(_content(file), str(file)))
    except InvalidInput as error:
        problems += error.problems
    except Conflict as error:
        problems.append(Problem(str(error), file=str(file), line=1, column=1))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(Problem(f"cannot be read: {error.strerror}", "", str(file), 1, 1)) from error


def files_of(folder: Path) -> Mapping[str, list[Path]]:
    """The files of a folder by kind (templates, segments, journeys), in the order of their paths.

    Raises:
        InvalidInput: there is no such folder, or nothing in it, or too much.
    """
    if not folder.is_dir():
        raise InvalidInput(Problem("there is no such folder", "name a folder", str(folder), 1, 1))
    found = contents(folder)
    number = sum(map(len, found.values()))
    if not number:
        message = "nothing to publish: there are no files in templates/, segments/ or journeys/"
        raise InvalidInput(Problem(message, "name the folder that holds these", str(folder), 1, 1))
    if number > _FILES_LIMIT:
        raise InvalidInput(Problem(f"{number} files, more than {_FILES_LIMIT}", "push its parts", str(folder), 1, 1))
    return found


def contents(folder: Path) -> dict[str, list[Path]]:
    """Like `files_of`, also when there are none."""
    return {
        kind: sorted(file for file in (folder / kind).rglob("*") if file.is_file() and file.suffix in endings)
        for kind, endings in _KINDS.items()
    }


def _by_need(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Segments before those that name them, in two lists: those for before the journeys, and those that name journeys.

    Files that cannot be read say why when they are published.
    """
    needs: dict[Path, set[str]] = {}
    late: set[Path] = set()
    names: dict[Path, str] = {}
    for file in files:
        needs[file] = set()
        try:
            data = documents.read(_content(file), str(file)).data
            names[file] = str(data["segment"])
            references = list(criteria.parse(data["criteria"]).references())
            needs[file] = {one.name for one in references if one.kind == "segment"}
            late |= {file} if any(one.kind == "journey" for one in references) else set()
        except (KaskadError, KeyError, TypeError):
            continue  # publishing it tells every problem, with its line
    ordered: list[Path] = []
    left = list(needs)
    while left:
        unmet = {names.get(file) for file in left}
        ready = [file for file in left if not needs[file] & unmet] or left
        ordered += ready
        left = [file for file in left if file not in ready]
    for file in ordered:  # whoever needs a late one is late as well; needs come first in this order
        late |= {file} if needs[file] & {names.get(one) for one in late} else set()
    return [file for file in ordered if file not in late], [file for file in ordered if file in late]


@app.command("push")
def push_folder(
    folder: Annotated[Path, typer.Argument(help="Holds templates/, segments/ and journeys/.")],
    hasten: Annotated[float, typer.Option(help="Divide waits by this; for demonstrations.")] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Publish a folder of templates, segments and journeys: all of it or, if there is a problem, nothing."""
    output(run(_push(folder, hasten)), json=json)


async def _push(folder: Path, hasten: float) -> list[dict[str, Any]]:
    async with connected() as database, database.begin() as connection:
        done = await push(connection, load_settings(), folder, "push", hasten)
    return [
        {"kind": one.kind, "name": one.name, "version": one.version, "state": one.state, "file": one.file}
        for one in done
    ]
