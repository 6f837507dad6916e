"""`kaskad key`: API keys."""

from typing import Annotated

import typer

from core import access
from core.cli import complaints, connected, console, output, run

app = typer.Typer(no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("create")
def key_create(
    scope: Annotated[list[str], typer.Option(help=f"What it is good for; may be repeated: {', '.join(access.SCOPES)}")],
    name: Annotated[str, typer.Option(help="What or whom it is for.")] = "",
    json: _Json = False,
) -> None:
    """Make an API key and print it: the only time it can be seen."""
    key = run(_create(name or ", ".join(scope), scope))
    if json:
        output({"key": key, "scopes": scope}, json=True)
        return
    typer.echo(key)
    complaints.print("[dim]Keep it: only its digest is stored, so it cannot be shown again.[/]")


async def _create(name: str, scopes: list[str]) -> str:
    async with connected() as database, database.begin() as connection:
        return await access.create(connection, name, scopes)


@app.command("list")
def key_list(json: _Json = False) -> None:
    """List API keys, without the keys themselves."""
    found = run(_keys())
    rows = [
        {"id": key.id, "name": key.name, "scopes": key.scopes, "created": key.created_at, "revoked": key.revoked_at}
        for key in found
    ]
    output(rows, json=json, empty="There is no API key yet: kaskad key create --scope events:write")


async def _keys() -> list[access.Key]:
    async with connected() as database, database.begin() as connection:
        return await access.listing(connection)


@app.command("revoke")
def key_revoke(number: Annotated[int, typer.Argument(help="Its number in `kaskad key list`.")]) -> None:
    """Make an API key worthless, within a few seconds everywhere."""
    run(_revoke(number))
    console.print(f"API key {number} is revoked.")


async def _revoke(number: int) -> None:
    async with connected() as database, database.begin() as connection:
        await access.revoke(connection, number)
