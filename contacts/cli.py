"""The commands about contacts: `kaskad contacts`, `attribute`, `consent` and `suppression`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from contacts import (
    attributes,
    consents,
    erasure,
    importing,
    merging_cli,
    notes,
    optin,
    profiles,
    suppressions,
    timeline,
)
from contacts.columns import Options
from core import cli
from core.clock import now
from core.errors import InvalidInput, Problem

app = typer.Typer(no_args_is_help=True)
contacts_app = typer.Typer(help="Contacts: import, list, show, merge, erase.", no_args_is_help=True)
contacts_app.add_typer(merging_cli.commands)
attribute_app = typer.Typer(help="The typed attributes that contacts carry.", no_args_is_help=True)
consent_app = typer.Typer(help="What contacts agreed to, and the proof of it.", no_args_is_help=True)
suppression_app = typer.Typer(help="Addresses that must not be used.", no_args_is_help=True)
app.add_typer(contacts_app, name="contacts")
app.add_typer(attribute_app, name="attribute")
app.add_typer(consent_app, name="consent")
app.add_typer(suppression_app, name="suppression")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Contact = Annotated[str, typer.Argument(help="A number, or email:anna@example.com, external_id:crm-17 and so on.")]


@contacts_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A CSV or XLSX file; its first row names the columns.")],
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help='"Column=what it means"; "Column=-" leaves it out.')
    ] = None,
    types: Annotated[list[str] | None, typer.Option("--type", help="column:type of an attribute.")] = None,
    identity: Annotated[str | None, typer.Option(help="The identity that rows are found by, such as email.")] = None,
    consent_column: Annotated[str | None, typer.Option(help="The column that says yes or no.")] = None,
    consent: Annotated[list[str] | None, typer.Option(help="What it is a consent to, such as email:marketing.")] = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Ask those who agreed to confirm it by a letter.")] = False,
    evidence_column: Annotated[str | None, typer.Option(help="The column with the proof.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a CSV file, such as cp1251; UTF-8 if left out.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Of a CSV file; found out if left out.")] = None,
    enter: Annotated[str | None, typer.Option(help="A journey that the contacts of the file enter.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and write nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Even if this very file was imported before.")] = False,
    json: Json = False,
) -> None:
    """Import contacts from a file. An interrupted import goes on where it stopped when it is run again."""

    async def work() -> importing.Report:
        options = Options(
            mapping=_pairs(mapping, "=", "--map"),
            types=_pairs(types, ":", "--type"),
            identity=identity,
            consent_column=consent_column,
            consents=tuple(_pair(one, ":", "--consent") for one in consent or ()),
            confirm=confirm,
            evidence_column=evidence_column,
            encoding=encoding,
            delimiter=delimiter,
            enter=enter,
        )
        settings = cli.load_settings()
        async with cli.connected() as database:
            with _bar(shown=not json) as progress:
                return await importing.import_file(
                    database, file, options, settings=settings, dry_run=dry_run, again=again, progress=progress
                )

    report = cli.run(work())
    if json:
        cli.output(vars(report), json=True)
    else:
        _tell(report)


def _pairs(given: list[str] | None, separator: str, option: str) -> dict[str, str]:
    return dict(_pair(one, separator, option) for one in given or ())


def _pair(text: str, separator: str, option: str) -> tuple[str, str]:
    """Two words around the last separator.

    Raises:
        InvalidInput: one of them is missing.
    """
    left, _, right = text.rpartition(separator)
    if not left.strip() or not right.strip():
        raise InvalidInput(Problem(f"{option} {text!r} is not two words", f"write it like a{separator}b"))
    return left.strip(), right.strip()


@contextmanager
def _bar(shown: bool) -> Iterator[Callable[[importing.Progress], None]]:
    """A progress bar with rows a second and the time left, on standard error."""
    columns = (
        TextColumn("importing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[refused]}"),
    )
    with Progress(*columns, console=cli.complaints, disable=not shown, transient=True) as bar:
        task = bar.add_task("import", total=None, rate="", refused="")

        def told(progress: importing.Progress) -> None:
            speed = bar.tasks[0].speed
            bar.update(
                task,
                total=progress.total,
                completed=progress.rows,
                rate=f"{speed:,.0f} rows/s" if speed else "",
                refused=f"{progress.rejected:,} rejected" if progress.rejected else "",
            )

        yield told


def _tell(report: importing.Report) -> None:
    """What an import did, in sentences."""
    if report.state == "already":
        cli.console.print(
            f"{report.file} was imported before with the same options: {report.accepted:,} rows accepted, "
            f"{report.rejected:,} rejected. Use --again to import it once more."
        )
        return
    cli.output(report.columns, json=False)
    if report.resumed_at:
        cli.console.print(f"Taken up again after row {report.resumed_at:,}.")
    would = "would be " if report.state == "checked" else ""
    rate = report.rows / report.seconds if report.seconds else 0
    cli.console.print(
        f"{report.rows:,} rows in {report.seconds:,.1f} s ({rate:,.0f} rows/s): {report.created:,} contacts "
        f"{would}created, {report.updated:,} {would}updated, {report.duplicates:,} came twice in the file, "
        f"{report.rejected:,} rejected."
    )
    if report.rejects_file:
        cli.console.print(f"The rejected rows, with line, column and reason: {report.rejects_file}", soft_wrap=True)


@contacts_app.command("list")
def list_(
    after: Annotated[int, typer.Option(help="Begin after this contact.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    json: Json = False,
) -> None:
    """List contacts in the order of their numbers."""

    async def work() -> list[dict[str, Any]]:
        async with cli.connected() as database, database.begin() as connection:
            return await profiles.page(connection, after, limit)

    rows = cli.run(work())
    if not json:
        for row in rows:
            row["identities"] = [f"{one['kind']}:{one['value']}" for one in row["identities"]]
            row["attributes"] = [f"{name}={value}" for name, value in row["attributes"].items()]
    cli.output(rows, json=json, empty="No contacts.")


@contacts_app.command()
def show(
    contact: Contact,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Moments of the timeline.")] = 20,
    json: Json = False,
) -> None:
    """Show a contact: profile, identities, consents, journeys and what happened."""

    async def work() -> dict[str, Any]:
        region = cli.load_settings().phone_region
        async with cli.connected() as database, database.begin() as connection:
            profile = await profiles.get(connection, await profiles.find(connection, contact, region))
            return {
                **vars(profile),
                "pending": await optin.of(connection, profile.id),
                "consent_history": await consents.history(connection, profile.id),
                "preference_history": await notes.history(connection, profile.id),
                "enrollments": await timeline.enrollments(connection, profile.id),
                "timeline": (await timeline.read(connection, profile.id, None, limit)).moments,
            }

    shown = cli.run(work())
    if json:
        cli.output(shown, json=True)
        return
    parts = (
        "identities", "consents", "pending", "consent_history", "preference_history", "enrollments", "timeline"
    )  # fmt: skip
    cli.output({name: value for name, value in shown.items() if name not in parts}, json=False)
    for part in parts:
        cli.console.print(f"\n[bold]{part.replace('_', ' ').capitalize()}[/]")
        cli.output(shown[part], json=False)


@contacts_app.command()
def erase(contact: Contact, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Erase a contact and everything personal about it. There is no way back."""
    if not yes:
        typer.confirm(f"Erase {contact} for good?", abort=True)

    async def work() -> int:
        region = cli.load_settings().phone_region
        async with cli.connected() as database, database.begin() as connection:
            found = await profiles.find(connection, contact, region)
            await erasure.erase(connection, found)
            return found

    cli.console.print(f"Contact {cli.run(work())} is erased.")


@attribute_app.command("list")
def list_attributes(json: Json = False) -> None:
    """List the attributes with their types."""

    async def work() -> list[dict[str, Any]]:
        async with cli.connected() as database, database.begin() as connection:
            return await attributes.listing(connection)

    cli.output(cli.run(work()), json=json, empty="No attributes.")


@attribute_app.command("add")
def add_attribute(
    name: str,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="text, number, boolean, date, datetime or list.")],
    label: Annotated[str | None, typer.Option(help="What people see.")] = None,
    merging: Annotated[str | None, typer.Option(help="When contacts merge: keep one value, or add both up.")] = None,
) -> None:
    """Make an attribute, or change one that exists."""

    async def work() -> None:
        async with cli.connected() as database, database.begin() as connection:
            await attributes.add(connection, name, type_, label, merging)

    cli.run(work())
    cli.console.print(f"Attribute {name} is there.")


@consent_app.command("record")
def record_consent(
    contact: Contact,
    consent: Annotated[str, typer.Argument(help="channel:purpose, such as email:marketing.")],
    refused: Annotated[bool, typer.Option("--refused", help="It was refused or taken back.")] = False,
    evidence: Annotated[str, typer.Option(help="What proves it.")] = "",
) -> None:
    """Write down that a contact agreed to something, or refused it."""

    async def work() -> None:
        channel, purpose = _pair(consent, ":", "consent")
        region = cli.load_settings().phone_region
        async with cli.connected() as database, database.begin() as connection:
            found = await profiles.find(connection, contact, region)
            await profiles.get(connection, found)
            proof = {"text": evidence} if evidence else {}
            await consents.record(connection, [found], channel, purpose, not refused, "command", proof, now())

    cli.run(work())
    cli.console.print(f"{consent} is {'refused' if refused else 'granted'}.")


@consent_app.command("ask")
def ask_consent(
    contact: Contact,
    consent: Annotated[str, typer.Argument(help="channel:purpose, such as email:marketing.")],
    evidence: Annotated[str, typer.Option(help="What is known of how it was asked for.")] = "",
) -> None:
    """Ask a contact by a letter whether it agrees (double opt-in). Nothing is granted before it has confirmed."""

    async def work() -> bool:
        channel, purpose = _pair(consent, ":", "consent")
        settings = cli.load_settings()
        async with cli.connected() as database, database.begin() as connection:
            found = await profiles.find(connection, contact, settings.phone_region)
            await profiles.get(connection, found)
            known = {found: {"text": evidence} if evidence else {}}
            days = settings.confirmation_days
            return bool(await optin.ask(connection, known, channel, purpose, "command", now(), days))

    if cli.run(work()):
        cli.console.print(f"The contact will be asked about {consent}.")
    else:
        cli.console.print("Nobody is asked: the contact has agreed already, has no address, or was asked just now.")


@consent_app.command("history")
def consent_history(contact: Contact, json: Json = False) -> None:
    """Show every statement of a contact, newest first, with its source and evidence."""

    async def work() -> list[dict[str, Any]]:
        region = cli.load_settings().phone_region
        async with cli.connected() as database, database.begin() as connection:
            return await consents.history(connection, await profiles.find(connection, contact, region))

    cli.output(cli.run(work()), json=json, empty="No statements.")


@suppression_app.command("list")
def list_suppressions(
    channel: Annotated[str | None, typer.Option(help="email, sms, voice or webpush.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000)] = 100,
    json: Json = False,
) -> None:
    """List suppressed addresses."""

    async def work() -> list[dict[str, Any]]:
        async with cli.connected() as database, database.begin() as connection:
            return await suppressions.listing(connection, channel, limit=limit)

    cli.output(cli.run(work()), json=json, empty="No address is suppressed.")


@suppression_app.command("add")
def add_suppression(
    channel: str,
    address: str,
    reason: Annotated[str, typer.Option(help="manual, unsubscribed, complained or bounced.")] = "manual",
    note: Annotated[str | None, typer.Option(help="Anything worth remembering.")] = None,
) -> None:
    """Never use an address again."""

    async def work() -> None:
        written = suppressions.normalise(channel, address, cli.load_settings().phone_region)
        async with cli.connected() as database, database.begin() as connection:
            await suppressions.suppress(connection, channel, [written], reason, note)

    cli.run(work())
    cli.console.print("The address is suppressed.")


@suppression_app.command("lift")
def lift_suppression(channel: str, address: str) -> None:
    """Allow an address again."""

    async def work() -> int:
        written = suppressions.normalise(channel, address, cli.load_settings().phone_region)
        async with cli.connected() as database, database.begin() as connection:
            return await suppressions.lift(connection, channel, [written])

    cli.console.print("The address may be used again." if cli.run(work()) else "The address was not suppressed.")
