"""The commands about what routing goes by: `kaskad price`, `kaskad sender`, `kaskad operator`."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import numbers, senders, tariffs
from core import cli
from core.errors import InvalidInput, Problem

app = typer.Typer(no_args_is_help=True)
price_app = typer.Typer(help="What messages cost; the cheaper provider of a tier carries them.", no_args_is_help=True)
sender_app = typer.Typer(help="Names, numbers and addresses that messages may come from.", no_args_is_help=True)
operator_app = typer.Typer(help="Which telephone numbers belong to whom.", no_args_is_help=True)
app.add_typer(price_app, name="price")
app.add_typer(sender_app, name="sender")
app.add_typer(operator_app, name="operator")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Words = Annotated[list[str] | None, typer.Option(help="May be given more than once.")]
_T = TypeVar("_T")


def within(work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
    """Run work in one transaction of the installation."""

    async def whole() -> _T:
        async with cli.connected() as database, database.begin() as connection:
            return await work(connection)

    return cli.run(whole())


@price_app.command("import")
def import_prices(
    file: Annotated[Path, typer.Argument(help="CSV: provider,prefix,country,operator,amount,currency.")],
    json: Json = False,
) -> None:
    """Take a price list over, in the place of what the providers in it had before: all of it or nothing."""

    async def work(connection: AsyncConnection) -> int:
        prices = tariffs.read_prices(_read(file), file.name)
        return await tariffs.import_prices(connection, prices, file.name)

    count = within(work)
    done({"prices": count}, f"{count:,} prices.", json)


@price_app.command("list")
def list_prices(
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None, json: Json = False
) -> None:
    """Show the prices."""
    rows = within(lambda connection: tariffs.price_list(connection, provider))
    cli.output(rows, json=json, empty="No prices. Import some: kaskad price import FILE.csv")


@sender_app.command("add")
def add_sender(
    channel: Annotated[str, typer.Argument(help="email, sms or voice.")],
    address: Annotated[str, typer.Argument(help="news@example.com, @example.com, +74951234567 or a name.")],
    purpose: Annotated[list[str] | None, typer.Option(help="What it may be used for; again for more.")] = None,
    country: Annotated[list[str] | None, typer.Option(help="Where it may be used; again for more.")] = None,
    json: Json = False,
) -> None:
    """Register a sender. Once a channel has one, templates may name registered ones only."""
    within(lambda connection: senders.add_sender(connection, channel, address, purpose or (), country or ()))
    done({"channel": channel, "address": address}, f"{escape(address)} may send {channel}.", json)


@sender_app.command("list")
def list_senders(json: Json = False) -> None:
    """Show the senders."""
    cli.output(within(senders.senders), json=json, empty="No senders are registered: any may be used.")


@sender_app.command("remove")
def remove_sender(
    channel: Annotated[str, typer.Argument(help="email, sms or voice.")],
    address: Annotated[str, typer.Argument(help="As it was registered.")],
    json: Json = False,
) -> None:
    """Strike a sender off; templates that were published with it go on."""
    within(lambda connection: senders.remove_sender(connection, channel, address))
    done({"removed": address}, f"{escape(address)} is no sender of {channel} any more.", json)


@operator_app.command("import")
def import_operators(
    file: Annotated[Path, typer.Argument(help="CSV: from,to,operator,country; numbers with their country's code.")],
    json: Json = False,
) -> None:
    """Take a table of number ranges over, in the place of the one before: all of it or nothing."""

    async def work(connection: AsyncConnection) -> int:
        return await numbers.replace_ranges(connection, numbers.read_ranges(_read(file), file.name))

    count = within(work)
    done({"ranges": count}, f"{count:,} ranges.", json)


@operator_app.command("list")
def list_operators(json: Json = False) -> None:
    """Show the operators that the table names, and how many numbers they have."""
    cli.output(within(numbers.summary), json=json, empty="No ranges. Import some: kaskad operator import FILE.csv")


def done(row: dict[str, Any], words: str, json: bool) -> None:
    """Say what a command did."""
    if json:
        cli.output(row, json=True)
    else:
        cli.console.print(words)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(Problem(f"{file} cannot be read: {error.strerror}")) from error
