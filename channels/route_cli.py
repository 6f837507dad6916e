"""`kaskad route`: which provider carries what. `kaskad route try` is in engine.trying_cli."""

from typing import Annotated

import typer

from channels import tariffs
from channels.tariff_cli import Json, done, within
from core import cli
from core.errors import InvalidInput, Problem

app = typer.Typer(no_args_is_help=True)


@app.command("add")
def add_route(
    provider: Annotated[str, typer.Argument(help="The provider that is to carry them.")],
    tier: Annotated[int, typer.Option(help="1 before 2; a higher one is for when the lower ones cannot.")] = 1,
    weight: Annotated[float, typer.Option(help="Odds among providers of a tier at the same price.")] = 1.0,
    prefix: Annotated[
        list[str] | None, typer.Option(help="How addresses begin, such as +7916; again for more.")
    ] = None,
    country: Annotated[list[str] | None, typer.Option(help="Of telephone numbers, such as RU; again for more.")] = None,
    operator: Annotated[
        list[str] | None, typer.Option(help="Of a number; of an email address its domain; again for more.")
    ] = None,
    purpose: Annotated[list[str] | None, typer.Option(help="Such as transactional; again for more.")] = None,
    hours: Annotated[str | None, typer.Option(help="By the contact's clock, such as 09:00-21:00.")] = None,
    json: Json = False,
) -> None:
    """Say what a provider carries. One without routes carries everything of its channel."""
    opens, dash, closes = (hours or "").partition("-")
    if hours is not None and not dash:
        cli.run(_refuse(Problem(f"{hours!r} are no hours", "write 09:00-21:00")))
    route = tariffs.NewRoute(
        provider,
        tier,
        weight,
        prefix or (),
        country or (),
        operator or (),
        purpose or (),
        opens or None,
        closes or None,
    )
    number = within(lambda connection: tariffs.add_route(connection, route))
    if json:
        cli.output({"id": number, "provider": provider}, json=True)
    else:
        cli.console.print(f"Route {number}. See who gets what: kaskad route try --segment NAME --channel CHANNEL")


async def _refuse(problem: Problem) -> None:
    raise InvalidInput(problem)


@app.command("list")
def list_routes(json: Json = False) -> None:
    """Show the routes by channel and tier."""
    cli.output(within(tariffs.routes), json=json, empty="No routes: the first provider added carries its channel.")


@app.command("remove")
def remove_route(number: Annotated[int, typer.Argument(help="The route's number.")], json: Json = False) -> None:
    """Forget a route."""
    within(lambda connection: tariffs.remove_route(connection, number))
    done({"removed": number}, f"Route {number} is gone.", json)
