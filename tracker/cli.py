"""`kaskad events`: look at the event log."""

import asyncio
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.cli import connected, console, output, run

app = typer.Typer(help="Look at the event log.", no_args_is_help=True)

_PAGE = 500
_INTERVAL = 0.5

_READ = """
select e.id, e.occurred_at, e.received_at, n.name as event, e.contact_id, e.properties
from event e join event_name n on n.id = e.name_id
where e.id > :after
  and (cast(:name as text) is null or n.name = :name) and (cast(:contact as bigint) is null or e.contact_id = :contact)
order by e.id limit :limit
"""
# The last of those that match, wherever they are; reading on from there is cheap.
_LAST = _READ.replace("order by e.id limit", "order by e.id desc limit")


async def read_after(
    connection: AsyncConnection, after: int, name: str | None = None, contact: int | None = None, limit: int = _PAGE
) -> list[RowMapping]:
    """Events past a position of the log in its order, at most `limit`, of one name or contact if told so."""
    rows = await connection.execute(text(_READ), {"after": after, "name": name, "contact": contact, "limit": limit})
    return list(rows.mappings())


async def last(
    connection: AsyncConnection, count: int, name: str | None = None, contact: int | None = None
) -> list[RowMapping]:
    """The last events of the log, oldest first."""
    rows = await connection.execute(text(_LAST), {"after": 0, "name": name, "contact": contact, "limit": count})
    return list(rows.mappings())[::-1]


async def counts(connection: AsyncConnection) -> list[dict[str, Any]]:
    """How many events there are of each name, and when the last one happened; most frequent first."""
    rows = await connection.execute(
        text(
            "select n.name as event, count(*) as events, max(e.occurred_at) as last_at "
            "from event e join event_name n on n.id = e.name_id group by n.name order by 2 desc, 1"
        )
    )
    return [dict(row) for row in rows.mappings()]


@app.command()
def tail(
    name: Annotated[str | None, typer.Option(help="Only events of this name.")] = None,
    contact: Annotated[int | None, typer.Option(help="Only events of this contact (its number).")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=_PAGE, help="Begin with so many past ones.")] = 10,
    follow: Annotated[bool, typer.Option(help="Wait for more until Ctrl-C.")] = True,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print the last events and then each as it is committed."""
    run(_tail(name, contact, lines, follow, json))


async def _tail(name: str | None, contact: int | None, lines: int, follow: bool, json: bool) -> None:
    async with connected() as database:
        async with database.begin() as connection:
            position = int((await connection.execute(text("select coalesce(max(id), 0) from event"))).scalar_one())
            past = await last(connection, lines, name, contact) if lines else []
        while True:
            for row in past:
                _print(dict(row), json)
                position = max(position, row["id"])
            if not follow:
                return
            if len(past) < _PAGE:
                await asyncio.sleep(_INTERVAL)
            async with database.begin() as connection:
                past = await read_after(connection, position, name, contact)


def _print(row: Mapping[str, Any], json: bool) -> None:
    if json:
        sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
        sys.stdout.flush()
        return
    properties = msgspec.json.encode(row["properties"]).decode() if row["properties"] else ""
    console.print(
        f"[dim]{row['id']}[/] {row['occurred_at']:%Y-%m-%d %H:%M:%S} [bold]{escape(row['event'])}[/] "
        f"[cyan]contact {row['contact_id']}[/] {escape(properties)}",
        soft_wrap=True,
        highlight=False,
    )


@app.command()
def count(json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False) -> None:
    """Count the events of each name."""
    run(_count(json))


async def _count(json: bool) -> None:
    async with connected() as database, database.begin() as connection:
        found = await counts(connection)
    output(found, json=json, empty="There are no events yet.")
