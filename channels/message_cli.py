"""`kaskad message`: the ledger of messages."""

import getpass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.markup import escape

from channels import byhand, messages, story
from channels.messages import Page, Wanted
from contacts import profiles
from core import cli
from core.clock import now
from core.errors import InvalidInput, Problem

app = typer.Typer(no_args_is_help=True)
message_app = typer.Typer(help="The ledger of messages.", no_args_is_help=True)
app.add_typer(message_app, name="message")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Message = Annotated[UUID, typer.Argument(help="The message's id.")]
Why = Annotated[str | None, typer.Option(help="Kept with the message.")]
By = Annotated[str | None, typer.Option(help="Who decides; you, if left out.")]
_SHORT = ("id", "created_at", "contact_id", "channel", "state", "journey", "template", "provider", "reason")


@message_app.command("list")
def list_messages(
    state: Annotated[str | None, typer.Option(help="queued, skipped, handing, in_doubt, failed, accepted …")] = None,
    contact: Annotated[str | None, typer.Option(help="A contact's number, or email:anna@example.com.")] = None,
    address: Annotated[str | None, typer.Option(help="That it went to.")] = None,
    provider: Annotated[str | None, typer.Option(help="Who carries it.")] = None,
    journey: Annotated[str | None, typer.Option(help="A journey's name.")] = None,
    channel: Annotated[str | None, typer.Option(help="email, webhook …")] = None,
    since: Annotated[datetime | None, typer.Option(help="UTC; seven days ago unless a contact is named.")] = None,
    before: Annotated[datetime | None, typer.Option(help="Only older ones; UTC.")] = None,
    page: Annotated[str | None, typer.Option(help="`next` of the page before.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    json: Json = False,
) -> None:
    """Show messages, newest first. With --json, `next` asks for the next page."""

    async def work() -> Page:
        region = cli.load_settings().phone_region
        async with cli.connected() as database, database.begin() as connection:
            number = await profiles.find(connection, contact, region) if contact else None
            period = (_utc(since), _utc(before))
            wanted = Wanted(state, number, address, provider, journey, channel, *period, page)
            return await messages.listing(connection, wanted, now(), limit)

    found = cli.run(work())
    if json:
        cli.output(vars(found), json=True)
        return
    ago = f" since {found.since:%Y-%m-%d %H:%M}" if found.since else ""
    rows = [{name: one[name] for name in _SHORT} for one in found.messages]
    cli.output(rows, json=False, empty=f"No messages{ago}.")
    if found.next:
        cli.console.print(f"More: --page {found.next}", highlight=False)


@message_app.command("show")
def show_message(
    message: Message,
    html: Annotated[bool, typer.Option("--html", help="Print the HTML of its content alone.")] = False,
    json: Json = False,
) -> None:
    """Show everything that happened to a message, what it said, and why it was not sent."""

    async def work() -> dict[str, Any]:
        async with cli.connected() as database, database.begin() as connection:
            return await story.show(connection, cli.load_settings(), message)

    found = cli.run(work())
    if json:
        cli.output(found, json=True)
        return
    content = found.pop("content")
    if html:
        cli.write(f"{content['html'] if content else ''}\n")
        return
    happened = found.pop("happened")
    cli.output(found, json=False)
    cli.console.print("\n[bold]What happened[/]")
    cli.output([{**one, "about": _told(one["about"])} for one in happened], json=False)
    cli.console.print("\n[bold]What it said[/]")
    if content is None:
        cli.console.print("It is not kept: too long ago, never rendered, or the contact was erased.")
    else:
        cli.write(f"{content['subject']}\n\n{content['text']}\n")
        for one in content["attachments"]:
            what = ", shown in it" if one["picture"] else ""
            cli.write(f"With it: {one['name']} ({one['content_type']}, {one['bytes']:,} bytes{what})\n")


@message_app.command("resolve")
def resolve_message(
    message: Message,
    sent: Annotated[bool | None, typer.Option("--sent/--not-sent", help="Whether it was sent.")] = None,
    why: Why = None,
    by: By = None,
    json: Json = False,
) -> None:
    """Settle a message that is in doubt: say whether it was sent. Who said so and why is kept."""

    who = by or getpass.getuser()

    async def work() -> None:
        if sent is None:
            raise InvalidInput(Problem("nothing was decided", "say --sent or --not-sent"))
        async with cli.connected() as database, database.begin() as connection:
            await byhand.resolve(connection, message, sent, who, why)

    cli.run(work())
    state = "accepted" if sent else "failed"
    if json:
        cli.output({"id": message, "state": state, "by": who, "why": why}, json=True)
        return
    cli.console.print(f"{message} is {state}.")


@message_app.command("retry")
def retry_message(message: Message, why: Why = None, by: By = None, json: Json = False) -> None:
    """Send a failed message, or one in doubt, again. A worker does so within seconds; one in doubt may arrive twice."""
    who = by or getpass.getuser()

    async def work() -> None:
        async with cli.connected() as database, database.begin() as connection:
            await byhand.retry(connection, message, who, why)

    cli.run(work())
    if json:
        cli.output({"id": message, "state": "queued", "by": who, "why": why}, json=True)
        return
    cli.console.print(f"{message} will be sent again; see: kaskad message show {message}")


def _utc(given: datetime | None) -> datetime | None:
    return given.replace(tzinfo=UTC) if given and given.tzinfo is None else given


def _told(about: dict[str, Any]) -> str | None:
    return escape(", ".join(f"{name}: {value}" for name, value in about.items() if value is not None)) or None
