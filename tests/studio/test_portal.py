"""The demo's portal: a small site whose pages report through the snippet, gone through in a browser."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import consents, identities
from contacts.merging import settle
from core.database import Database
from core.settings import Settings
from studio.api import create_app
from studio.demo.story import JOURNEY, PORTAL_SITE
from studio.stack.process import free_port
from tests.tracker.browser.conftest import chromium, page, visitor  # noqa: F401 - fixtures
from tests.tracker.browser.site import PATIENCE, listening
from tracker import sites

_EVENTS = """
select n.name, e.properties, e.contact_id as contact,
    (select value from identity i where i.contact_id = e.contact_id and kind = 'email') as email
from event e join event_name n on n.id = e.name_id order by e.id
"""


@pytest_asyncio.fixture(loop_scope="session")
async def portal(database: Database, settings: Settings) -> AsyncIterator[str]:
    """The API in demo mode, where the portal is known; gives the address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with database.begin() as connection:
        await sites.add(connection, sites.Wanted(PORTAL_SITE, [url]))
    app = create_app(settings.model_copy(update={"demo": True, "port": port}), database)
    async with app.router.lifespan_context(app), listening(app, port):
        yield url


async def _until(database: Database, name: str, path: str | None = None) -> list[dict[str, Any]]:
    """All events, once there is one of a name, on a path of the site if one is given."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with database.begin() as connection:
                found = [dict(row) for row in (await connection.execute(text(_EVENTS))).mappings()]
            if any(one["name"] == name and path in {None, one["properties"].get("path")} for one in found):
                return found
            await asyncio.sleep(0.05)


async def _until_seen_by(database: Database, contact: int) -> None:
    """Wait until the views of the application's page belong to this contact alone. A view that was being written while
    the two were merged is carried over as the router does it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with database.begin() as connection:
                await settle(connection)
                rows = [dict(row) for row in (await connection.execute(text(_EVENTS))).mappings()]
            if {row["contact"] for row in rows if row["properties"].get("path") == "/portal/applications"} == {contact}:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("answer", ["full", "cookieless"])
async def test_an_application_can_be_saved_and_sent_by_hand(
    portal: str,
    page: Page,  # noqa: F811
    database: Database,
    answer: str,
) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"{portal}/portal?lang=en&utm_source=fair")
    await page.click(f"#choice button[value={answer}]")
    await page.click("text=Begin an application")
    await page.select_option("[name=measure]", "insurance")
    for field, value in (("company", "Les"), ("first_name", "Anna"), ("email", "Anna@les.example"), ("goods", "wood")):
        await page.fill(f"[name={field}]", value)
    await page.check("[name=agreed]")
    await page.click("text=Save the draft")
    await page.wait_for_url("**/portal/applications/MY-*")
    log = await _until(database, "application.saved")
    saved = next(event for event in log if event["name"] == "application.saved")
    number = saved["properties"]["application_id"]
    assert saved["email"] == "anna@les.example"
    assert saved["properties"]["link"] == page.url == f"{portal}/portal/applications/{number}?lang=en"
    assert saved["properties"]["measure"] == "export credit insurance"
    form = next(event["properties"] for event in log if event["name"] == "form.submitted")
    expected = {"company": "Les", "measure": "insurance", "agreed": "on"} if answer == "full" else None
    assert form.get("fields") == expected, "neither name nor address, and without consent nothing"
    async with database.begin() as connection:
        (known,) = (await identities.lookup(connection, [("email", "anna@les.example")])).values()
        assert await consents.holds(connection, [known], "email", "marketing") == {known}
    if answer == "full":  # what she did before she said who she is, is hers, too
        await _until_seen_by(database, known)
    assert complaints == []


async def test_the_pages_speak_two_languages(portal: str, page: Page) -> None:  # noqa: F811
    for path in ("", "/measures", "/applications", "/privacy"):
        await page.goto(f"{portal}/portal{path}")
        russian = await page.inner_text("main")
        await page.click(".language:visible")
        english = await page.inner_text("main")
        assert not any("а" <= letter <= "я" for letter in english.lower())
        assert sum("а" <= letter <= "я" for letter in russian.lower()) > len(russian) / 2
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_who_refuses_is_not_reported(portal: str, page: Page, database: Database) -> None:  # noqa: F811
    await page.goto(f"{portal}/portal/privacy?lang=en")
    await page.click("#choice button[value=none]")
    await page.goto(f"{portal}/portal/applications?lang=en")
    await page.click("text=What is stored about you")
    await page.click("text=choose again")
    await page.click("#choice button[value=cookieless]")
    await page.goto(f"{portal}/portal/measures?lang=en")
    log = await _until(database, "page.viewed", "/portal/measures")
    assert "/portal/applications" not in {event["properties"]["path"] for event in log}


ANNA: dict[str, Any] = {
    "email": "anna@les.example",
    "first_name": "Anna",
    "company": "Les",
    "language": "en",
    "agreed": True,
}


async def test_nobody_changes_or_reads_what_another_browser_gave(portal: str, database: Database) -> None:
    async with httpx.AsyncClient(base_url=portal) as hers, httpx.AsyncClient(base_url=portal) as his:
        made = await hers.post("/portal/api/accounts", json=ANNA)
        assert made.status_code == 200 and "httponly" in made.headers["set-cookie"].lower()
        changed = {**ANNA, "first_name": "Boris", "company": "Other", "agreed": False}
        forged = f"{made.json()['external_id']}.{'0' * 64}"
        for cookies in ({}, {"portal": forged}, {"portal": made.json()["external_id"]}):
            his.cookies.update(cookies)
            assert (await his.post("/portal/api/accounts", json=changed)).status_code == 409
        async with database.begin() as connection:
            (contact,) = (await identities.lookup(connection, [("email", ANNA["email"])])).values()
            assert await consents.holds(connection, [contact], "email", "marketing") == {contact}
            await _begin_journey(connection, contact, "MY-1")
        told = {"external_id": made.json()["external_id"], "email": ANNA["email"], "first_name": "Anna"}
        own = (await hers.get("/portal/api/applications/MY-1")).json()
        assert own == {"known": True, "own": True, "company": "Les", "outcome": None, **told}
        assert (await his.get("/portal/api/applications/MY-1")).json() == {"known": True, "own": False, "outcome": None}
        again = await hers.post("/portal/api/accounts", json={**ANNA, "first_name": "Anna-Maria"})
        assert again.json() == made.json()
        assert (await hers.get("/portal/api/applications/MY-1")).json()["first_name"] == "Anna-Maria"


async def test_the_page_of_an_application_shows_strangers_nobody(portal: str, page: Page, database: Database) -> None:  # noqa: F811
    async with httpx.AsyncClient(base_url=portal) as hers:
        await hers.post("/portal/api/accounts", json=ANNA)
    async with database.begin() as connection:
        (contact,) = (await identities.lookup(connection, [("email", ANNA["email"])])).values()
        await _begin_journey(connection, contact, "MY-1")
    await page.goto(f"{portal}/portal/applications/MY-1?lang=en")
    await page.wait_for_selector("#other:visible")
    assert "Anna" not in await page.inner_text("main")
    assert not await page.is_visible("#submit") and not await page.is_visible("#mailbox")


async def _begin_journey(connection: AsyncConnection, contact: int, application: str) -> None:
    await connection.execute(
        text(
            "with j as (insert into journey (name, title) values (:journey, 'x') returning id), "
            "v as (insert into journey_version (journey_id, number, source, plan) "
            "select id, 1, '', '{}' from j returning id, journey_id), "
            "c as (insert into cohort (version_id) select id from v returning id) "
            "insert into enrollment (contact_id, cohort_id, journey_id, version_id, exclusive, key) "
            "select :contact, c.id, v.journey_id, v.id, true, :key from v, c"
        ),
        {"journey": JOURNEY, "contact": contact, "key": application},
    )
