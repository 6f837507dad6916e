"""What the demo's installation begins with: contacts, what `examples/portal` holds, and an API key."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

from contacts import importing
from contacts.columns import Options
from core import access
from core.database import Database
from core.errors import Conflict
from core.settings import Settings
from examples import PORTAL
from studio.demo.story import PORTAL_PATH, PORTAL_SITE, Story, Visitor
from studio.push import push
from tracker import sites

_APPLICATIONS = "https://portal.example/applications/"
"""What the address begins with that the letters lead to."""
_COLUMNS = (
    "external id",
    "email",
    "first name",
    "last name",
    "company",
    "city",
    "country",
    "language",
    "time zone",
    "agreed to letters",
    "where",
)


async def load(
    database: Database, settings: Settings, url: str, story: Story, hasten: float, say: Callable[[str], None]
) -> str:
    """Bring everything in as a newcomer would: import a file, push a folder, make a key.

    Args:
        database: of the demo's stack.
        settings: of the demo.
        url: where its pages are.
        story: whose visitors are imported.
        hasten: waits are divided by this.
        say: is told, in words, what was done.

    Returns:
        An API key that is good for events:write.

    Raises:
        Conflict: not every visitor could be imported.
        InvalidInput: the examples have a problem.
    """
    file = settings.data / "contacts.csv"
    write_contacts(file, story)
    options = Options(
        identity="external_id",
        consent_column="agreed to letters",
        consents=(("email", "marketing"),),
        evidence_column="where",
    )
    report = await importing.import_file(database, file, options, settings=settings)
    if report.accepted != len(story.visitors):
        raise Conflict(f"only {report.accepted} of {len(story.visitors)} contacts were imported: see {file}")
    say(f"imported {report.accepted} contacts from {file}")
    folder = settings.data / "portal"
    copy_portal(folder, url)
    async with database.begin() as connection:
        await push(connection, settings, folder, by="kaskad demo", hasten=hasten)
    say(f"pushed templates, segments and journeys from {PORTAL}, as copied to {folder}")
    async with database.begin() as connection:
        await sites.add(connection, sites.Wanted(PORTAL_SITE, _origins(url)))
        return await access.create(connection, "the portal's site", ["events:write"])


def _origins(url: str) -> list[str]:
    """The origin of the demo's pages, by both names that people call this machine."""
    return list(dict.fromkeys([url, url.replace("//127.0.0.1:", "//localhost:")]))


def copy_portal(folder: Path, url: str) -> None:
    """Copy what is pushed of the example, with letters that lead to the demo's pages and not to those of their site."""
    for kind in ("templates", "segments", "journeys"):
        shutil.copytree(PORTAL / kind, folder / kind, dirs_exist_ok=True)
    for file in (folder / "templates").iterdir():
        content = file.read_text("utf-8")
        file.write_text(content.replace(_APPLICATIONS, f"{url}{PORTAL_PATH}/"), "utf-8")


def write_contacts(file: Path, story: Story) -> None:
    """Write the visitors as the CSV file that a CRM would give."""
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(_COLUMNS)
        rows.writerows(_row(visitor) for visitor in story.visitors)


def _row(visitor: Visitor) -> tuple[str, ...]:
    return (
        visitor.external_id,
        visitor.email,
        visitor.first_name,
        visitor.last_name,
        visitor.company,
        visitor.city,
        visitor.country,
        visitor.language,
        visitor.time_zone,
        "yes" if visitor.agreed else "no",
        visitor.agreed_where,
    )
