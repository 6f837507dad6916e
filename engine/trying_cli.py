"""`kaskad route try`: a dry run of policy and routing for a segment or a contact."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import trying
from contacts import profiles
from core import cli
from core.clock import now
from core.errors import InvalidInput, Problem
from segments import members

app = typer.Typer()


@app.command("try")
def try_(
    channel: Annotated[str, typer.Option(help="email, sms …")],
    segment: Annotated[str | None, typer.Option(help="A segment's name.")] = None,
    contact: Annotated[str | None, typer.Option(help="A number, or email:anna@example.com.")] = None,
    purpose: Annotated[str, typer.Option(help="What the messages are for.")] = "marketing",
    each: Annotated[bool, typer.Option("--each", help="Contact by contact.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, contact by contact.")] = False,
) -> None:
    """Show which provider contacts would get now and what it costs, or why they would get nothing."""
    rows, summary = cli.run(_try(channel, segment, contact, purpose, keep=each or json or contact is not None))
    if json:
        cli.output({"summary": summary, "contacts": rows}, json=True)
    elif each or contact is not None:
        cli.output(rows, json=False, empty="Nobody is in it.")
    else:
        cli.output(summary, json=False, empty="Nobody is in it.")


async def _try(
    channel: str, segment: str | None, contact: str | None, purpose: str, keep: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if (segment is None) == (contact is None):
        raise InvalidInput(Problem("for whom?", "give --segment NAME or --contact NUMBER"))
    summary, rows = trying.Summary(), []
    async with cli.connected() as database, database.begin() as connection:
        among, at = await trying.load(connection, channel), now()
        async for ids in _pages(connection, segment, contact):
            tried = await trying.page(connection, channel, purpose, ids, among, at)
            summary.add(tried)
            rows += [asdict(one) for one in tried] if keep else []
    return rows, summary.rows()


async def _pages(connection: AsyncConnection, segment: str | None, contact: str | None) -> AsyncIterator[list[int]]:
    if segment is None:
        yield [await profiles.find(connection, contact or "", cli.load_settings().phone_region)]
        return
    after = 0
    while found := await members.page(connection, segment, after, trying.PAGE):
        after = found[-1]["id"]
        yield [member["id"] for member in found]
