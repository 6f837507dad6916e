"""The commands about companies: `kaskad company`."""

from typing import Annotated, Any

import typer

from contacts import companies, profiles
from core import cli
from core.errors import InvalidInput, Problem

app = typer.Typer(help="Companies that contacts belong to.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_companies(
    after: Annotated[str, typer.Option(help="Begin after this key.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    json: Json = False,
) -> None:
    """List companies in the order of their keys."""

    async def work() -> list[dict[str, Any]]:
        async with cli.connected() as database, database.begin() as connection:
            return await companies.listing(connection, after, limit)

    cli.output(cli.run(work()), json=json, empty="No companies.")


@app.command("set")
def set_company(
    key: str,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    attribute: Annotated[list[str] | None, typer.Option(help="name=value; numbers and true are read as such.")] = None,
    json: Json = False,
) -> None:
    """Make a company, or change it."""
    said = companies.Company(key, name, dict(_attribute(one) for one in attribute or ()))

    async def work() -> int:
        async with cli.connected() as database, database.begin() as connection:
            return await companies.upsert(connection, said)

    cli.output({"company": companies.check_key(key), "id": cli.run(work())}, json=json)


@app.command()
def assign(
    key: Annotated[str, typer.Argument(help="The company; - takes the contacts out of theirs.")],
    contacts: Annotated[list[str], typer.Argument(help="Contacts: a number, or email:…, external_id:…")],
    json: Json = False,
) -> None:
    """Say that contacts belong to a company."""

    async def work() -> int:
        region = cli.load_settings().phone_region
        async with cli.connected() as database, database.begin() as connection:
            found = [await profiles.find(connection, one, region) for one in contacts]
            await companies.assign(connection, dict.fromkeys(found, None if key == "-" else key))
            return len(found)

    cli.output({"company": key, "contacts": cli.run(work())}, json=json)


@app.command()
def remove(key: str, json: Json = False) -> None:
    """Remove a company; its contacts stay, without one."""

    async def work() -> None:
        async with cli.connected() as database, database.begin() as connection:
            await companies.remove(connection, key)

    cli.run(work())
    cli.output({"removed": key}, json=json)


def _attribute(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InvalidInput(Problem(f"--attribute {text!r} is not a name and a value", "write it like employees=250"))
    return name.strip(), _value(value.strip())


def _value(text: str) -> Any:
    if text in {"true", "false"}:
        return text == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return number if number - number == 0 else text
