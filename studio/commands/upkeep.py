"""`kaskad migrate` and `kaskad doctor`."""

from typing import Annotated

import typer

from channels import providers
from core import migrate
from core.cli import connected, console, load_settings, output, plain_errors, run
from studio import doctor as examination

app = typer.Typer()


@app.command("migrate")
def migrate_command() -> None:
    """Bring the database to this version's schema. `kaskad up` does so by itself."""
    run(_migrate())
    console.print("The database is up to date.")


async def _migrate() -> None:
    settings = load_settings()
    async with connected(pool=2) as database:
        await migrate.migrate(database, settings)
        async with database.begin() as connection:
            await providers.ensure_default(connection, settings)


@app.command()
def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check every part of the installation and say how to mend what is broken. Exits with 1 if anything is."""
    with plain_errors():
        settings = load_settings()
    findings = run(examination.examine(settings))
    if json:
        output([finding.row() for finding in findings], json=True)
    else:
        console.print(examination.table(findings))
    if any(finding.is_broken for finding in findings):
        raise typer.Exit(1)
