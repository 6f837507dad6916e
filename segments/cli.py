"""Commands about segments."""

import getpass
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from contacts.profiles import find
from core.cli import connected, console, load_settings, output, run
from segments import export as exporting
from segments import growth as growing
from segments import members as membership
from segments import overlap as overlapping
from segments import sql as showing
from segments import store, versions
from segments import upload as uploading

app = typer.Typer(no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Name = Annotated[str, typer.Argument(help="The segment's name; `all` is everybody.")]
_Own = Annotated[str, typer.Argument(help="The segment's name.")]
_Contacts = Annotated[list[str], typer.Argument(help="Contacts: a number, or email:…, external_id:…")]
_File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A segment's YAML file.")]
_BAR = 40


@app.command("list")
def list_segments(json: _Json = False) -> None:
    """List all segments; `contacts` where their number is kept."""

    async def work() -> list[dict[str, Any]]:
        async with connected() as database, database.begin() as connection:
            return await store.listing(connection)

    output(run(work()), json=json, empty="There are no segments yet.")


@app.command()
def show(name: _Own, json: _Json = False) -> None:
    """Show a segment: what it says, in words and as written."""

    async def work() -> dict[str, Any]:
        async with connected() as database, database.begin() as connection:
            return await store.get(connection, name)

    output(run(work()), json=json)


@app.command()
def count(
    name: _Name,
    exactly: Annotated[bool, typer.Option("--exactly", help="Ask anew even where the number is kept.")] = False,
    json: _Json = False,
) -> None:
    """Count the contacts in a segment."""

    async def work() -> int:
        async with connected() as database, database.begin() as connection:
            return await membership.count(connection, name, exactly=exactly)

    output({"segment": name, "contacts": run(work())}, json=json)


@app.command()
def preview(
    file: _File,
    limit: Annotated[int, typer.Option(min=0, max=1000, help="How many contacts to show.")] = 10,
    json: _Json = False,
) -> None:
    """Check a segment's file and show whom it would hold, without publishing it."""

    async def work() -> dict[str, Any]:
        async with connected() as database, database.begin() as connection:
            parsed = await store.checked(connection, file.read_bytes(), str(file))
            return await membership.preview(connection, parsed, limit)

    found = run(work())
    if json:
        output(found, json=True)
        return
    console.print(f"{found['contacts']:,} contacts: {found['words']}", highlight=False, markup=False)
    output(found["newest"], json=False, empty="Nobody would be in it.")


@app.command()
def members(
    name: _Name,
    after: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Begin behind this contact's number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    json: _Json = False,
) -> None:
    """List the contacts in a segment, page by page."""

    async def work() -> list[dict[str, Any]]:
        async with connected() as database, database.begin() as connection:
            return await membership.page(connection, name, after, limit)

    output(run(work()), json=json, empty="Nobody is in it.")


@app.command()
def export(
    name: _Name,
    columns: Annotated[str, typer.Option(help="By commas: id, email, tags, since, attributes …")] = "id,email,since",
    to: Annotated[Path | None, typer.Option(help="A file; standard output if left out.")] = None,
    json: _Json = False,
) -> None:
    """Write the contacts of a segment as CSV; or, with --json and without --to, as JSON."""
    wanted = [one.strip() for one in columns.split(",") if one.strip()]

    async def work() -> int:
        number = 0
        async with connected() as database, database.begin() as connection:
            pieces = exporting.export(connection, name, wanted, as_json=json and to is None)
            first = await anext(pieces)  # what is wrong is said before a file is emptied
            with nullcontext(sys.stdout) if to is None else to.open("w", encoding="utf-8", newline="") as out:
                out.write(first.text)
                async for piece in pieces:
                    out.write(piece.text)
                    number += piece.contacts
        return number

    number = run(work())
    if to is not None:
        output({"segment": name, "file": str(to), "contacts": number}, json=json)


@app.command()
def overlap(one: _Name, other: _Name, json: _Json = False) -> None:
    """Count who is in both of two segments."""

    async def work() -> dict[str, Any]:
        async with connected() as database, database.begin() as connection:
            return await overlapping.overlap(connection, one, other)

    found = run(work())
    if json:
        output(found, json=True)
        return
    rows = [(one, found["one"]), (other, found["other"]), ("in both", found["both"])]
    rows += [(f"only in {one}", found["only_one"]), (f"only in {other}", found["only_other"])]
    _bars([(name, number, f"{number:,}") for name, number in rows])
    if found["share"] is not None:
        console.print(f"{found['share']:.1%} of all {found['either']:,} are in both", highlight=False)


@app.command()
def sql(name: _Name, json: _Json = False) -> None:
    """Show the SQL that a segment becomes, with its values apart."""

    async def work() -> dict[str, Any]:
        async with connected() as database, database.begin() as connection:
            return await showing.sql(connection, await store.members_are(connection, name))

    found = run(work())
    if json:
        output(found, json=True)
        return
    console.print(found["sql"], highlight=False, markup=False, soft_wrap=True)
    if found["parameters"]:
        output([{"parameter": key, "value": value} for key, value in found["parameters"].items()], json=False)


@app.command()
def growth(
    name: _Own,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How many days back.")] = 30,
    json: _Json = False,
) -> None:
    """Show how many contacts were in a segment, day by day."""

    async def work() -> list[dict[str, Any]]:
        async with connected() as database, database.begin() as connection:
            return await growing.growth(connection, name, days)

    rows = run(work())
    if json or not rows:
        output(rows, json=json, empty="Nothing is known yet; segments are counted once a day.")
        return
    _bars([(str(row["day"]), row["members"], _change(row)) for row in rows])


@app.command("versions")
def list_versions(
    name: _Own,
    diff: Annotated[tuple[int, int] | None, typer.Option(help="Show what changed between two versions.")] = None,
    json: _Json = False,
) -> None:
    """List the publications of a segment, newest first, or compare two."""

    async def work() -> Any:
        async with connected() as database, database.begin() as connection:
            if diff is not None:
                return await versions.difference(connection, name, *diff)
            return await versions.history(connection, name)

    found = run(work())
    if diff is None:
        output(found, json=json)
    elif json:
        output({"segment": name, "old": diff[0], "new": diff[1], "diff": found}, json=True)
    else:
        console.print(found or "Nothing changed.", highlight=False, markup=False)


@app.command()
def publish(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="YAML files.")], json: _Json = False
) -> None:
    """Publish segments; all of them or, if one has a problem, none."""

    async def work() -> list[dict[str, Any]]:
        by = getpass.getuser()
        async with connected() as database, database.begin() as connection:
            done = [await store.publish(connection, file.read_bytes(), str(file), by) for file in files]
        return [{"segment": one.name, "changed": one.changed} for one in done]

    output(run(work()), json=json)


@app.command()
def delete(name: _Own, json: _Json = False) -> None:
    """Delete a segment that nothing names; its contacts stay."""

    async def work() -> None:
        async with connected() as database, database.begin() as connection:
            await store.delete_segment(connection, name)

    run(work())
    output({"segment": name, "deleted": True}, json=json)


@app.command()
def add(name: _Own, contacts: _Contacts, json: _Json = False) -> None:
    """Put contacts on a segment's list."""
    output(run(_change_list(name, contacts, add_them=True)), json=json)


@app.command()
def remove(name: _Own, contacts: _Contacts, json: _Json = False) -> None:
    """Take contacts off a segment's list."""
    output(run(_change_list(name, contacts, add_them=False)), json=json)


async def _change_list(name: str, contacts: list[str], *, add_them: bool) -> dict[str, Any]:
    async with connected() as database, database.begin() as connection:
        ids = [await find(connection, reference) for reference in contacts]
        if add_them:
            return {"segment": name, "added": await store.add_members(connection, name, ids)}
        return {"segment": name, "removed": await store.remove_members(connection, name, ids)}


@app.command()
def upload(
    name: _Own,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or XLSX.")],
    column: Annotated[str | None, typer.Option(help="email, phone, external_id … or id.")] = None,
    json: _Json = False,
) -> None:
    """Put the contacts that a file names on a segment's list; rows that name nobody go to FILE.rejects.csv."""

    async def work() -> uploading.Uploaded:
        region = load_settings().phone_region
        async with connected() as database, database.begin() as connection:
            return await uploading.upload(connection, name, file, column, region)

    done = run(work())
    found = {"segment": name, "rows": done.rows, "found": done.found, "added": done.added}
    if done.rejects:
        rejects = file.with_name(file.name + ".rejects.csv")
        uploading.write_rejects(rejects, done.rejects)
        found |= {"rejected": len(done.rejects), "rejects": str(rejects)}
    output(found, json=json)


def _bars(rows: list[tuple[str, int, str]]) -> None:
    """Names with numbers and a bar for each."""
    most = max((number for _, number, _ in rows), default=0)
    table = Table(show_header=False, box=None)
    for name, number, words in rows:
        table.add_row(name, "█" * round(_BAR * number / most) if most else "", words)
    console.print(table, markup=False)


def _change(row: dict[str, Any]) -> str:
    if row["entered"] is None:
        return f"{row['members']:,}"
    return f"{row['members']:,}  +{row['entered']:,} −{row['gone']:,}"
