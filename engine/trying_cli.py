"""`kaskad route try`: a dry run of policy and routing for a segment or a contact."""

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import Budget, previews, templates, trying
from contacts import profiles
from core import cli
from core.clock import now
from core.errors import InvalidInput, Problem
from engine.activities import rules_of
from engine.versions import Version
from journeys import store
from journeys.plan import Send
from segments import members

app = typer.Typer()


@app.command("try")
def try_(
    channel: Annotated[str | None, typer.Option(help="email, sms …; not needed with a journey or a template.")] = None,
    segment: Annotated[str | None, typer.Option(help="A segment's name.")] = None,
    contact: Annotated[str | None, typer.Option(help="A number, or email:anna@example.com.")] = None,
    journey: Annotated[str | None, typer.Option(help="Try a step of this journey, with its limits and hours.")] = None,
    step: Annotated[str | None, typer.Option(help="The step; not needed where only one sends.")] = None,
    template: Annotated[str | None, typer.Option(help="Try this template, with its sender.")] = None,
    purpose: Annotated[str | None, typer.Option(help="What the messages are for; marketing if nothing says.")] = None,
    event: Annotated[str, typer.Option(help="Properties of an entry event, as a JSON object, for a text.")] = "{}",
    each: Annotated[bool, typer.Option("--each", help="Contact by contact.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, contact by contact.")] = False,
) -> None:
    """Show which provider contacts would get now, in how many parts and at what cost, or why they would get nothing."""
    asked = _Asked(channel, journey, step, template, purpose, event)
    rows, summary = cli.run(_try(asked, segment, contact, keep=each or json or contact is not None))
    if json:
        cli.output({"summary": summary, "contacts": rows}, json=True)
    elif each or contact is not None:
        cli.output([_shown(row) for row in rows], json=False, empty="Nobody is in it.")
    else:
        cli.output([_shown(row) for row in summary], json=False, empty="Nobody is in it.")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row for people: the cost with its currency in one cell, and whether it is of one part only."""
    per = trying.PER_PART if row["priced"] == trying.PER_PART else ""
    cost = None if row["cost"] is None else f"{row['cost'].normalize():f} {row['currency']} {per}".strip()
    told = {name: value for name, value in row.items() if name not in ("price", "currency", "priced")}
    return told | {"cost": cost or per or None}


@dataclass(frozen=True)
class _Asked:
    """What is to be tried, as it was typed."""

    channel: str | None
    journey: str | None
    step: str | None
    template: str | None
    purpose: str | None
    event: str


async def _try(
    asked: _Asked, segment: str | None, contact: str | None, keep: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if (segment is None) == (contact is None):
        raise InvalidInput(Problem("for whom?", "give --segment NAME or --contact NUMBER"))
    summary, rows = trying.Summary(), []
    async with cli.connected() as database, database.begin() as connection:
        trial = replace(await _trial(connection, asked), event=previews.event_of(asked.event))
        run = await trying.Run.begin(connection, cli.load_settings(), trial, now())
        async for ids in _pages(connection, segment, contact):
            tried = await run.page(connection, ids)
            summary.add(tried)
            rows += [asdict(one) for one in tried] if keep else []
    return rows, summary.rows()


async def _trial(connection: AsyncConnection, asked: _Asked) -> trying.Trial:
    if sum(one is not None for one in (asked.channel, asked.journey, asked.template)) != 1:
        raise InvalidInput(Problem("what is to be sent?", "give --journey NAME, --template NAME or --channel CHANNEL"))
    if asked.journey is not None:
        return await _of_journey(connection, asked.journey, asked.step)
    if asked.template is not None:
        found = await templates.find(connection, asked.template)
        purpose = asked.purpose or found.compiled.get("purpose") or "marketing"
        return trying.Trial(found.channel, purpose, found.name)
    return trying.Trial(asked.channel or "", asked.purpose or "marketing")


async def _of_journey(connection: AsyncConnection, name: str, step: str | None) -> trying.Trial:
    """A step of a journey that sends, with all that the journey asks of its messages."""
    found = await store.find(connection, name)
    sending = {one.id: number for number, one in enumerate(found.plan.steps) if isinstance(one, Send)}
    if step is None and len(sending) == 1:
        step = next(iter(sending))
    if step not in sending:
        raise InvalidInput(Problem(f"which step of {name}?", f"give --step with one of {', '.join(sending)}"))
    number = sending[step]
    send = found.plan.steps[number]
    assert isinstance(send, Send)  # noqa: S101 -- the others were left out above
    version = Version(found.version_id, found.id, name, found.plan, {})
    amount = found.plan.rules.budget
    counted = amount is not None and send.priority != "alert"
    return trying.Trial(
        send.channel,
        send.purpose,
        send.template,
        found.version_id,
        number,
        rules_of(version, send),
        Budget(found.id, str(amount)) if counted else None,
    )


async def _pages(connection: AsyncConnection, segment: str | None, contact: str | None) -> AsyncIterator[list[int]]:
    if segment is None:
        yield [await profiles.find(connection, contact or "", cli.load_settings().phone_region)]
        return
    after = 0
    while found := await members.page(connection, segment, after, trying.PAGE):
        after = found[-1]["id"]
        yield [member["id"] for member in found]
