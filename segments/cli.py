"""Commands about segments."""

from pathlib import Path
from typing import Annotated, Any

import typer

from contacts.profiles import find
from core.cli import connected, output, run
from segments import store

app = typer.Typer(no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Name = Annotated[str, typer.Argument(help="The segment's name; `all` is everybody.")]
_Contacts = Annotated[list[str], typer.Argument(help="Contacts: a number, or email:…, external_id:…")]


@app.command("list")
def list_segments(json: _Json = False) -> None:
    """List all segments."""
    output(run(_list()), json=json, empty="There are no segments yet.")


async def _list() -> list[dict[str, Any]]:
    async with connected() as database, database.begin() as connection:
        return await store.listing(connection)


@app.command()
def count(name: _Name, json: _Json = False) -> None:
    """Count the contacts in a segment."""
    output({"segment": name, "contacts": run(_count(name))}, json=json)


async def _count(name: str) -> int:
    async with connected() as database, database.begin() as connection:
        return await store.count(connection, name)


@app.command()
def members(
    name: _Name,
    after: Annotated[int, typer.Option(help="Begin behind this contact's number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    json: _Json = False,
) -> None:
    """List the contacts in a segment, page by page."""
    output(run(_members(name, after, limit)), json=json, empty="Nobody is in it.")


async def _members(name: str, after: int, limit: int) -> list[dict[str, Any]]:
    async with connected() as database, database.begin() as connection:
        return await store.members(connection, name, after, limit)


@app.command()
def publish(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="YAML files.")], json: _Json = False
) -> None:
    """Publish segments; all of them or, if one has a problem, none."""
    output(run(_publish(files)), json=json)


async def _publish(files: list[Path]) -> list[dict[str, Any]]:
    async with connected() as database, database.begin() as connection:
        done = [await store.publish(connection, file.read_bytes(), str(file)) for file in files]
    return [{"segment": one.name, "changed": one.changed} for one in done]


@app.command()
def add(name: _Name, contacts: _Contacts, json: _Json = False) -> None:
    """Put contacts on a segment's list."""
    output(run(_change(name, contacts, add_them=True)), json=json)


@app.command()
def remove(name: _Name, contacts: _Contacts, json: _Json = False) -> None:
    """Take contacts off a segment's list."""
    output(run(_change(name, contacts, add_them=False)), json=json)


async def _change(name: str, contacts: list[str], *, add_them: bool) -> dict[str, Any]:
    async with connected() as database, database.begin() as connection:
        ids = [await find(connection, reference) for reference in contacts]
        if add_them:
            return {"segment": name, "added": await store.add_members(connection, name, ids)}
        return {"segment": name, "removed": await store.remove_members(connection, name, ids)}
