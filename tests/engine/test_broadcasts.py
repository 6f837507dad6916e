"""Which broadcast's page is let in next."""

import pytest
from sqlalchemy import text

from channels import templates
from core.database import Database
from core.settings import Settings
from engine import broadcasts
from engine.versions import Versions
from journeys import store
from tests.engine.test_comings import Deaf

pytestmark = pytest.mark.usefixtures("email_provider")

LETTER = "---\ntemplate: letter\nsubject: Hi\n---\n<p>Hello</p>\n"


async def begin(database: Database, name: str, priority: str = "") -> None:
    """A broadcast to everybody."""
    async with database.begin() as connection:
        await store.publish(
            connection,
            f"journey: {name}\n{priority}enter: {{segment: all}}\nsteps: [{{send: email, template: letter}}]\n",
        )
        await broadcasts.start(connection, name, occasion=name)


async def entered(database: Database) -> dict[str, int]:
    """Journey to how many its broadcast has let in."""
    statement = text(
        "select j.name, b.entered from broadcast b join journey_version v on v.id = b.version_id "
        "join journey j on j.id = v.journey_id"
    )
    async with database.begin() as connection:
        return {row.name: row.entered for row in await connection.execute(statement)}


async def served(database: Database, settings: Settings, pages: int) -> list[str]:
    """The journeys whose pages are let in, one by one."""
    names: list[str] = []
    for _ in range(pages):
        before = await entered(database)
        await broadcasts.next_page(database, settings, Deaf(), Versions())
        after = await entered(database)
        names += [name for name in after if after[name] > before[name]]
    return names


async def test_broadcasts_take_turns_and_urgent_ones_go_first(database: Database, settings: Settings) -> None:
    settings = settings.model_copy(update={"cohort_size": 2})
    async with database.begin() as connection:
        await connection.execute(text("insert into contact (tags) select '{}' from generate_series(1, 10)"))
        await templates.publish(connection, LETTER, "letter.html")
    await begin(database, "huge")
    await begin(database, "other")
    assert await served(database, settings, 4) == ["huge", "other", "huge", "other"]
    await begin(database, "urgent", "priority: alert\n")
    assert await served(database, settings, 3) == ["urgent"] * 3
    await begin(database, "late")
    assert await served(database, settings, 6) == ["urgent", "urgent", "late", "huge", "other"]
