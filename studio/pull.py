"""`kaskad pull` and `kaskad diff`: an installation's templates, segments and journeys as a folder of files, and how
such a folder differs from them. `studio.push` is the way back.
"""

import difflib
import json as json_format
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape
from rich.syntax import Syntax
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import compilation
from core import documents
from core.cli import connected, console, output, run
from core.errors import InvalidInput, KaskadError, Problem
from core.schema.journeys import journey, journey_version
from core.schema.messages import template, template_version
from core.schema.segments import segment
from journeys import canonical, compiler
from journeys.loader import load
from journeys.plan import Plan
from segments import store as segment_store
from studio.push import contents, files_of

app = typer.Typer()

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Key = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True)
class Published:
    """One thing that was published."""

    source: str
    ending: str
    meaning: str
    """What it says, in one way only."""
    hasten: float = 1.0
    """Of a journey: by what its waits were divided."""


@dataclass(frozen=True)
class Difference:
    """How a file stands to what was published."""

    kind: str
    name: str
    state: str
    """new: not published yet; changed; same; absent: published, and not in the folder, which push leaves alone."""
    file: str | None
    lines: tuple[str, ...] = ()
    """What push would change of what is published, as a unified diff."""


@dataclass(frozen=True)
class Pulled:
    """What became of one file."""

    kind: str
    name: str
    file: str
    state: str
    """new, changed or unchanged"""


async def published(connection: AsyncConnection) -> dict[_Key, Published]:
    """Everything that was published, as people wrote it; kind by kind, in the order of names."""
    found: dict[_Key, Published] = {}
    rows = await connection.execute(
        select(template.c.name, template_version.c.source)
        .join(template_version, template_version.c.id == template.c.version_id)
        .order_by(template.c.name)
    )
    for row in rows:
        ending = Path(row.source["file"]).suffix or ".txt"
        found["template", row.name] = Published(row.source["text"], ending, row.source["text"])
    for row in await connection.execute(select(segment.c.name, segment.c.source).order_by(segment.c.name)):
        found["segment", row.name] = Published(row.source, ".yaml", _segment_meaning(row.source, ""))
    rows = await connection.execute(
        select(journey.c.name, journey_version.c.source, journey_version.c.plan)
        .join(journey_version, journey_version.c.id == journey.c.version_id)
        .order_by(journey.c.name)
    )
    for row in rows:
        plan = Plan.model_validate(row.plan)
        found["journey", row.name] = Published(row.source, ".yaml", canonical.text(plan), plan.hasten)
    return found


async def pull(connection: AsyncConnection, folder: Path) -> list[Pulled]:
    """Write everything that was published into a folder, one file each, as it was written.

    A file that holds the thing already is overwritten, whatever its name; other files stay as they are.

    Raises:
        InvalidInput: two files hold the same thing, or a file cannot be written.
    """
    there = _held(folder)
    return [_write(folder, key, one, there.get(key)) for key, one in (await published(connection)).items()]


def _write(folder: Path, key: _Key, one: Published, there: Path | None) -> Pulled:
    kind, name = key
    # Names may hold anything; file names hold what every file system takes.
    file = there or folder / f"{kind}s" / f"{quote(name, safe=' ')}{one.ending}"
    content = one.source.encode()
    before = file.read_bytes() if file.is_file() else None
    if before != content:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except OSError as error:
            raise InvalidInput(Problem(f"cannot be written: {error.strerror}", file=str(file))) from error
    state = "new" if before is None else "unchanged" if before == content else "changed"
    return Pulled(kind, name, str(file), state)


def _held(folder: Path) -> dict[_Key, Path]:
    """Which file of a folder holds what; files that cannot be read hold nothing."""
    found: dict[_Key, Path] = {}
    problems = []
    for kind, files in contents(folder).items():
        for file in files:
            name = _name_in(kind.removesuffix("s"), file)
            if name is None:
                continue
            key = (kind.removesuffix("s"), name)
            if key in found:
                problems.append(Problem(f"{key[0]} {name} stands in {found[key]}, too", "keep one", str(file), 1, 1))
            found[key] = file
    if problems:
        raise InvalidInput(*problems)
    return found


def _name_in(kind: str, file: Path) -> str | None:
    try:
        if kind == "template":
            return compilation.parse(file.read_bytes(), str(file)).name
        data = documents.read(file.read_bytes(), str(file)).data
    except (KaskadError, OSError):
        return None
    name = data.get(kind) if isinstance(data, dict) else None
    return name if isinstance(name, str) else None


async def differences(connection: AsyncConnection, folder: Path) -> list[Difference]:
    """What pushing a folder would change, by meaning: comments and the order of keys do not count.

    Raises:
        InvalidInput: every problem of every file; there is no such folder.
    """
    there = await published(connection)
    problems: list[Problem] = []
    found: list[Difference] = []
    held: set[_Key] = set()
    for kinds, files in files_of(folder).items():
        kind = kinds.removesuffix("s")
        for file in files:
            try:
                one = _difference(kind, file, there)
            except InvalidInput as error:
                problems += error.problems
                continue
            held.add((kind, one.name))
            found.append(one)
    if problems:
        raise InvalidInput(*problems)
    return found + [Difference(kind, name, "absent", None) for kind, name in there if (kind, name) not in held]


def _difference(kind: str, file: Path, there: Mapping[_Key, Published]) -> Difference:
    source = file.read_bytes()
    name = _name_in(kind, file) or file.stem
    before = there.get((kind, name))
    meaning = _meaning(kind, source, str(file), 1.0 if before is None else before.hasten)
    if before is None:
        return Difference(kind, name, "new", str(file))
    if before.meaning == meaning:
        return Difference(kind, name, "same", str(file))
    lines = difflib.unified_diff(
        before.meaning.splitlines(), meaning.splitlines(), f"published {kind} {name}", str(file), lineterm=""
    )
    return Difference(kind, name, "changed", str(file), tuple(lines))


def _meaning(kind: str, source: bytes, file: str, hasten: float) -> str:
    match kind:
        case "journey":
            return canonical.text(compiler.compile(load(source, file), hasten))
        case "segment":
            return _segment_meaning(source, file)
    compilation.parse(source, file)
    return source.decode("utf-8-sig")


def _segment_meaning(source: str | bytes, file: str) -> str:
    written = segment_store.parse(source, file)
    data: dict[str, Any] = {"segment": written.name, "name": written.title}
    if written.criteria is None:
        data["list"] = sorted(member.strip().lower() for member in written.members)
    else:
        data["criteria"] = written.criteria
    return json_format.dumps(data, indent=2, ensure_ascii=False, sort_keys=True)


@app.command("pull")
def pull_folder(
    folder: Annotated[Path, typer.Argument(help="Gets templates/, segments/ and journeys/.")], json: _Json = False
) -> None:
    """Write the published templates, segments and journeys into a folder, one file each."""
    output(run(_pull(folder)), json=json, empty="Nothing was published yet.")


async def _pull(folder: Path) -> list[dict[str, Any]]:
    async with connected() as database, database.begin() as connection:
        done = await pull(connection, folder)
    return [{"kind": one.kind, "name": one.name, "state": one.state, "file": one.file} for one in done]


@app.command("diff")
def diff_folder(
    folder: Annotated[Path, typer.Argument(help="Holds templates/, segments/ and journeys/.")], json: _Json = False
) -> None:
    """Show what `kaskad push FOLDER` would change, by meaning; exits with 1 if there is anything."""
    found = run(_differences(folder))
    ahead = [one for one in found if one.state in {"new", "changed"}]
    if json:
        rows = [{"kind": o.kind, "name": o.name, "state": o.state, "file": o.file, "diff": o.lines} for o in found]
        output(rows, json=True)
    else:
        for one in ahead:
            if one.state == "new":
                console.print(f"[green]new[/] {one.kind} {escape(one.name)}  [dim]{escape(str(one.file))}[/]")
            else:
                console.print(Syntax("\n".join(one.lines), "diff", background_color="default", word_wrap=True))
        absent = sum(one.state == "absent" for one in found)
        same = sum(one.state == "same" for one in found)
        console.print(f"{len(ahead)} to push, {same} the same, {absent} published and not in the folder")
    if ahead:
        raise typer.Exit(1)


async def _differences(folder: Path) -> list[Difference]:
    async with connected() as database, database.begin() as connection:
        return await differences(connection, folder)
