"""The commands about messages: `kaskad provider` and `kaskad template`."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape

from channels import compilation, features, files, previews, providers, templates
from channels.providers import Provider
from channels.templates import PublishedTemplate
from core import cli
from core.errors import InvalidInput, Problem

app = typer.Typer(no_args_is_help=True)
provider_app = typer.Typer(help="Who carries messages: SMTP servers and the like.", no_args_is_help=True)
template_app = typer.Typer(help="What is written.", no_args_is_help=True)
app.add_typer(provider_app, name="provider")
app.add_typer(template_app, name="template")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The provider's name.")]


@provider_app.command("add")
def add_provider(
    name: Name,
    url: Annotated[str, typer.Argument(help="smtp+starttls://user:password@host:port, smtps://…, mailbox:// …")],
    setting: Annotated[list[str] | None, typer.Option("--setting", help="name=value, such as per_second=50.")] = None,
) -> None:
    """Store a provider. Its URL is encrypted and never shown again."""

    async def work() -> Provider:
        async with cli.connected() as database, database.begin() as connection:
            return await providers.add(connection, cli.load_settings(), name, url, _pairs(setting))

    made = cli.run(work())
    cli.console.print(
        f"{escape(made.name)} carries {made.channel} by {escape(made.shown)}; try it: "
        f"kaskad provider test {escape(made.name)}"
    )


@provider_app.command("list")
def list_providers(json: Json = False) -> None:
    """Show the providers, without their passwords."""

    async def work() -> list[dict[str, Any]]:
        async with cli.connected() as database, database.begin() as connection:
            return [_shown(one) for one in await providers.listing(connection, cli.load_settings())]

    cli.output(cli.run(work()), json=json, empty="No providers. Add one: kaskad provider add NAME URL")


@provider_app.command("test")
def test_provider(name: Name) -> None:
    """Connect and sign in, without sending anything."""

    async def work() -> None:
        settings = cli.load_settings()
        async with cli.connected() as database, database.begin() as connection:
            provider = await providers.find(connection, settings, name)
        carrier = provider.scheme.open(provider.url, settings)
        try:
            await carrier.check()
        finally:
            await carrier.close()

    cli.run(work())
    cli.console.print(f"{escape(name)} answers and lets us in.")


@provider_app.command("set")
def set_options(
    name: Name,
    setting: Annotated[list[str], typer.Argument(help="name=value, such as per_second=50; name= takes it back.")],
    json: Json = False,
) -> None:
    """Change options of a provider: its rate, its warm-up, when another takes over."""

    async def work() -> dict[str, Any]:
        given = dict(one.partition("=")[::2] for one in setting)
        async with cli.connected() as database, database.begin() as connection:
            return _shown(await providers.change(connection, cli.load_settings(), name, given))

    cli.output(cli.run(work()), json=json)


@provider_app.command("features")
def provider_features(
    write: Annotated[
        Path | None, typer.Option(help="Put the tables into this page instead (docs/providers.md).")
    ] = None,
    json: Json = False,
) -> None:
    """Show what each kind of provider can do."""
    if write is None:
        cli.output(features.matrix(), json=json)
        return
    page = _read(write).decode()
    write.write_text(features.put_into(page), encoding="utf-8")


@provider_app.command("pause")
def pause_provider(name: Name) -> None:
    """Hand nothing to a provider for now; its messages wait."""
    _set_state(name, "paused")


@provider_app.command("resume")
def resume_provider(name: Name) -> None:
    """Use a provider again; what waits leaves within half a minute."""
    _set_state(name, "active")


@provider_app.command("remove")
def remove_provider(name: Name) -> None:
    """Forget a provider. Refused while messages wait for it."""
    _set_state(name, "removed")


def _set_state(name: str, state: str) -> None:
    async def work() -> None:
        async with cli.connected() as database, database.begin() as connection:
            await providers.set_state(connection, name, state)

    cli.run(work())
    cli.console.print(f"{escape(name)} is {state}.")


@template_app.command("publish")
def publish_template(file: Annotated[Path, typer.Argument(help="The template file.")], json: Json = False) -> None:
    """Check and compile a template and use it for new messages."""

    async def work() -> PublishedTemplate:
        source = _read(file)
        attachments = files.beside(file, compilation.parse(source, str(file)).attach)
        async with cli.connected() as database, database.begin() as connection:
            return await templates.publish(connection, source, str(file), attachments)

    published = cli.run(work())
    for warning in published.warnings:
        cli.complaints.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True, highlight=False)
    if json:
        cli.output(msgspec.to_builtins(published), json=True)
        return
    done = "published as" if published.changed else "unchanged since"
    cli.console.print(f"{escape(published.name)}: {done} version {published.number}")


@template_app.command("list")
def list_templates(json: Json = False) -> None:
    """Show the templates and the values they use."""

    async def work() -> list[dict[str, Any]]:
        async with cli.connected() as database, database.begin() as connection:
            return await templates.listing(connection)

    cli.output(cli.run(work()), json=json, empty="No templates. Publish one: kaskad template publish FILE")


@template_app.command("show")
def show_template(name: Annotated[str, typer.Argument(help="The template's name.")]) -> None:
    """Print a template's file as it was published."""

    async def work() -> str:
        async with cli.connected() as database, database.begin() as connection:
            return (await templates.find(connection, name)).source

    typer.echo(cli.run(work()), nl=False)


@template_app.command("render")
def render_template(
    name: Annotated[str, typer.Argument(help="The template's name.")],
    contact: Annotated[str, typer.Option(help="A number, or email:anna@example.com.")],
    event: Annotated[str, typer.Option(help="Properties of the entry event, as a JSON object.")] = "{}",
    html: Annotated[bool, typer.Option("--html", help="Print the HTML instead of subject and text.")] = False,
    json: Json = False,
) -> None:
    """Show a contact's letter without sending it."""

    async def work() -> previews.Preview:
        properties = previews.event_of(event)
        async with cli.connected() as database, database.begin() as connection:
            return await previews.preview(connection, cli.load_settings(), name, contact, properties)

    letter = cli.run(work())
    if json:
        cli.output(msgspec.to_builtins(letter), json=True)
    elif html:
        cli.write(f"{letter.html}\n")
    else:
        cli.write(f"{letter.subject}\n\n{letter.text}\n")


def _shown(provider: Provider) -> dict[str, Any]:
    settings = ", ".join(f"{name}={value}" for name, value in provider.options.stored().items())
    return {
        "name": provider.name, "channel": provider.channel, "state": provider.state, "url": provider.shown,
        "settings": settings or None,
    }  # fmt: skip


def _pairs(given: list[str] | None) -> dict[str, str]:
    pairs = dict(one.partition("=")[::2] for one in given or ())
    if "" in pairs or not all(pairs.values()):
        raise InvalidInput(Problem("a setting is no name=value", "write it like --setting per_second=50"))
    return pairs


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(Problem(f"{file} cannot be read: {error.strerror}")) from error
