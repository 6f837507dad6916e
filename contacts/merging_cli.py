"""`kaskad contacts merges|merge|unmerge|conflicts`."""

import getpass
from typing import Annotated, Any

import typer

from contacts import identifying, merging, profiles
from contacts.profiles import Limits
from core import cli

commands = typer.Typer(no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Contact = Annotated[str | None, typer.Option(help="Only of this contact: a number, or email:anna@example.com …")]
_Limit = Annotated[int, typer.Option(min=1, max=10_000)]


@commands.command()
def merges(contact: _Contact = None, limit: _Limit = 50, json: _Json = False) -> None:
    """List merges, newest first."""

    async def work() -> list[dict[str, Any]]:
        region = cli.load_settings().phone_region
        async with cli.connected() as database, database.begin() as connection:
            number = None if contact is None else await profiles.find(connection, contact, region)
            return await merging.listing(connection, number, limit=limit)

    cli.output(cli.run(work()), json=json, empty="Nothing was merged.")


@commands.command()
def merge(
    loser: Annotated[str, typer.Argument(help="The contact that will be no more; a number, or email:… and so on.")],
    winner: Annotated[str, typer.Argument(help="The contact it becomes part of; what it says counts.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: _Json = False,
) -> None:
    """Merge one contact into another. `kaskad contacts unmerge` undoes it."""
    if not yes:
        typer.confirm(f"Merge {loser} into {winner}?", abort=True)

    async def work() -> dict[str, Any]:
        settings = cli.load_settings()
        async with cli.connected() as database, database.begin() as connection:
            gone = await profiles.find(connection, loser, settings.phone_region)
            stays = await profiles.find(connection, winner, settings.phone_region)
            number = await merging.merge(
                connection, gone, stays, source="command", by=_user(), limits=Limits.of(settings)
            )
            return {"merge": number, "contact": stays, "was": gone}

    cli.output(cli.run(work()), json=json)


@commands.command()
def unmerge(
    number: Annotated[int, typer.Argument(help="Of the merge; `kaskad contacts merges` lists them.")],
    json: _Json = False,
) -> None:
    """Undo a merge. Messages stay sent, and what has come since stays with the winner."""

    async def work() -> merging.Undone:
        async with cli.connected() as database, database.begin() as connection:
            return await merging.unmerge(connection, number, by=_user())

    done = cli.run(work())
    if json:
        cli.output(vars(done), json=True)
        return
    cli.console.print(f"Contact {done.contact_id} is there again; what came since stays with {done.winner_id}.")
    if done.ended:
        runs = ", ".join(map(str, done.ended))
        cli.console.print(f"The merge had ended its enrollments {runs}: they stay ended.")


@commands.command()
def conflicts(contact: _Contact = None, limit: _Limit = 50, json: _Json = False) -> None:
    """List identities that one contact was said to have and another one has."""

    async def work() -> list[dict[str, Any]]:
        region = cli.load_settings().phone_region
        async with cli.connected() as database, database.begin() as connection:
            number = None if contact is None else await profiles.find(connection, contact, region)
            return await identifying.conflicts(connection, number, limit=limit)

    cli.output(cli.run(work()), json=json, empty="There are no conflicts.")


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return None
