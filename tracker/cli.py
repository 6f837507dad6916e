"""`kaskad events`: look at the event log, and import past events into it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import profiles
from core.cli import complaints, connected, console, load_settings, one_line, output, run, write
from tracker import importing
from tracker.event_files import Options

app = typer.Typer(help="Look at the event log; import past events.", no_args_is_help=True)

_PAGE = 500
_INTERVAL = 0.5
_SHOWN = 80
"""Characters of a property that are printed for people."""

_READ = """
select e.id, e.occurred_at, e.received_at, n.name as event, e.contact_id, e.properties, (
    select i.kind || ':' || i.value from identity i where i.contact_id = e.contact_id and i.kind <> 'push_endpoint'
    order by array_position(array['email', 'external_id', 'phone', 'anonymous_id'], i.kind), i.created_at limit 1
) as who
from event e join event_name n on n.id = e.name_id
where e.id > :after and e.id < :before
  and (cast(:name as text) is null or n.name = :name) and (cast(:contact as bigint) is null or e.contact_id = :contact)
order by e.id limit :limit
"""
# The last of those that match, wherever they are; reading on from there is cheap.
_LAST = _READ.replace("order by e.id limit", "order by e.id desc limit")
_END = 2**63 - 1


async def read_after(
    connection: AsyncConnection, after: int, name: str | None = None, contact: int | None = None, limit: int = _PAGE
) -> list[RowMapping]:
    """Events past a position of the log in its order, at most `limit`, of one name or contact if told so."""
    values = {"after": after, "before": _END, "name": name, "contact": contact, "limit": limit}
    return list((await connection.execute(text(_READ), values)).mappings())


async def last(
    connection: AsyncConnection, count: int, name: str | None = None, contact: int | None = None, before: int = _END
) -> list[RowMapping]:
    """The last events of the log before a position, oldest first."""
    values = {"after": 0, "before": before, "name": name, "contact": contact, "limit": count}
    return list((await connection.execute(text(_LAST), values)).mappings())[::-1]


async def counts(connection: AsyncConnection) -> list[dict[str, Any]]:
    """How many events there are of each name, and when the last one happened; most frequent first."""
    rows = await connection.execute(
        text(
            "select n.name as event, count(*) as events, max(e.occurred_at) as last_at "
            "from event e join event_name n on n.id = e.name_id group by n.name order by 2 desc, 1"
        )
    )
    return [dict(row) for row in rows.mappings()]


_Name = Annotated[str | None, typer.Option(help="Only events of this name.")]
_Contact = Annotated[str | None, typer.Option(help="Only of this contact: a number, or email:anna@example.com …")]


@app.command()
def tail(
    name: _Name = None,
    contact: _Contact = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=_PAGE, help="Begin with so many past ones.")] = 10,
    follow: Annotated[bool, typer.Option(help="Wait for more until Ctrl-C.")] = True,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print the last events and then each as it is committed."""
    run(_tail(name, contact, lines, follow, json))


async def _tail(name: str | None, contact: str | None, lines: int, follow: bool, json: bool) -> None:
    async with connected() as database:
        async with database.begin() as connection:
            number = await _number(connection, contact)
            position = int((await connection.execute(text("select coalesce(max(id), 0) from event"))).scalar_one())
            past = await last(connection, lines, name, number, position + 1) if lines else []
        while True:
            for row in past:
                _print(dict(row), json)
                position = max(position, row["id"])
            if not follow:
                return
            if len(past) < _PAGE:
                await asyncio.sleep(_INTERVAL)
            async with database.begin() as connection:
                past = await read_after(connection, position, name, number)


async def _number(connection: AsyncConnection, contact: str | None) -> int | None:
    return None if contact is None else await profiles.find(connection, contact, load_settings().phone_region)


@app.command("list")
def list_(
    name: _Name = None,
    contact: _Contact = None,
    before: Annotated[int, typer.Option(min=1, help="Only events before this number of the log.")] = _END,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False,
) -> None:
    """List the last events, oldest first."""

    async def work() -> list[dict[str, Any]]:
        async with connected() as database, database.begin() as connection:
            number = await _number(connection, contact)
            return [dict(row) for row in await last(connection, limit, name, number, before)]

    rows = run(work())
    if json:
        output(rows, json=True)
    elif not rows:
        console.print("There are no such events.")
    else:
        for row in rows:
            _print(row, json=False)


def _print(row: Mapping[str, Any], json: bool) -> None:
    if json:
        write(msgspec.json.encode(row).decode() + "\n")
        return
    console.print(_told(row), soft_wrap=True, highlight=False)


def _told(row: Mapping[str, Any]) -> str:
    """An event on one line, for people: when, what, who, and its properties."""
    who = one_line(row["who"] or f"contact {row['contact_id']}")
    kind, _, value = who.partition(":")
    shown = f"visitor {value[:8]}" if kind == "anonymous_id" else value or who
    told = [f"[dim]{row['occurred_at'].astimezone():%Y-%m-%d %H:%M:%S}[/]", f"[bold]{escape(row['event'])}[/]"]
    told += [f"[cyan]{escape(shown)}[/]", f"[dim]({row['contact_id']})[/]"]
    properties = (row["properties"] or {}).items()
    told += [f"[dim]{escape(one_line(name))}[/]={escape(_short(value))}" for name, value in properties]
    return " ".join(told)


def _short(value: object) -> str:
    text_ = one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode())
    return text_ if len(text_) <= _SHOWN else text_[: _SHOWN - 1] + "…"


@app.command()
def count(json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False) -> None:
    """Count the events of each name."""
    run(_count(json))


async def _count(json: bool) -> None:
    async with connected() as database, database.begin() as connection:
        found = await counts(connection)
    output(found, json=json, empty="There are no events yet.")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines (.jsonl), or a table (CSV, XLSX) whose first row names it.")],
    event: Annotated[str | None, typer.Option(help="The event that all rows of a table are.")] = None,
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help='"Column=email", at, id, event, a property, or - for nothing.')
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="property:type of a table: text, number, boolean or json.")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Time zone of times without an offset, in a table.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a CSV file, such as cp1251; UTF-8 if left out.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Of a CSV file; found out if left out.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Let journeys begin and go on by these events.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and write nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Even if this very file was imported before.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Import past events from a file. An interrupted import goes on where it stopped when it is run again.

    They count for segments and reports; journeys pass over them, unless --live says otherwise.
    """
    options = Options(
        event, _pairs(mapping, "=", "--map"), _pairs(types, ":", "--type"), zone, encoding, delimiter, live
    )

    async def work() -> importing.Report:
        settings = load_settings()
        async with connected() as database:
            with progress_bar(shown=not json) as progress:
                return await importing.import_events(
                    database, file, options, settings=settings, dry_run=dry_run, again=again, progress=progress
                )

    report = run(work())
    if json:
        output(vars(report), json=True)
    else:
        _tell(report)


def _pairs(given: list[str] | None, separator: str, option: str) -> dict[str, str]:
    found = {}
    for one in given or ():
        left, _, right = one.rpartition(separator)
        if not left.strip() or not right.strip():
            raise typer.BadParameter(f"{one!r} is not two words: write it like a{separator}b", param_hint=option)
        found[left.strip()] = right.strip()
    return found


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Callable[[importing.Progress], None]]:
    """A progress bar with rows a second and the time left, on standard error."""
    columns = (
        TextColumn("importing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[refused]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=complaints, disable=not shown, transient=True) as bar:
        task = bar.add_task("import", total=None, refused="")

        def told(progress: importing.Progress) -> None:
            refused = f"{progress.rejected:,} rejected" if progress.rejected else ""
            bar.update(task, total=progress.total, completed=progress.rows, refused=refused)

        yield told


def _tell(report: importing.Report) -> None:
    """What an import did, in sentences."""
    if report.state == "already":
        console.print(f"{report.file} was imported before; --again imports it once more.")
        return
    if report.resumed_at:
        console.print(f"Taken up again after row {report.resumed_at:,}.")
    would = "would be " if report.state == "checked" else ""
    console.print(
        f"{report.rows:,} rows in {report.seconds:,.1f} s: {report.accepted:,} events {would}stored, "
        f"{report.duplicates:,} were there before, {report.rejected:,} rejected."
    )
    if report.rejects_file:
        console.print(f"The rejected rows, with line, field and reason: {report.rejects_file}", soft_wrap=True)
