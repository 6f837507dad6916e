"""From a page in a browser through the real API to the event log."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page
from sqlalchemy import text

from contacts import identities
from core.database import Database
from core.errors import InvalidInput
from core.settings import Settings
from studio.api import create_app
from studio.stack.process import free_port
from tests.tracker.browser.building import built
from tests.tracker.browser.site import PATIENCE, Site, listening, serving
from tracker import script, sites
from tracker.site_routes import desk_of
from tracker.sites import Directory


class World:
    """A site on one origin and Kaskad on another, with the site known to it."""

    def __init__(self, pages: Site, database: Database, url: str, key: str, directory: Directory) -> None:
        self.pages = pages
        self.database = database
        self.url = url
        self.key = key
        self.directory = directory

    def add(self, path: str, body: str = "", options: Mapping[str, str] | None = None) -> str:
        """Serve a page with the tag that `kaskad site add` gives."""
        return self.pages.add(path, body, tag=script.tag(self.key, f"{self.url}/k/s.js", options=options or {}))

    async def log(self) -> list[dict[str, Any]]:
        """What is in the event log, oldest first."""
        async with self.database.begin() as connection:
            rows = await connection.execute(
                text(
                    "select n.name, e.properties, e.contact_id, array(select kind from identity i where "
                    "i.contact_id = e.contact_id order by kind) as kinds, c.attributes from event e "
                    "join event_name n on n.id = e.name_id join contact c on c.id = e.contact_id order by e.id"
                )
            )
            return [dict(row) for row in rows.mappings()]

    async def until_logged(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many events of a name are committed; gives all events."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.log()
                if sum(event["name"] == name for event in found) >= count:
                    return found
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(loop_scope="session")
async def world(database: Database, settings: Settings) -> AsyncIterator[World]:
    """Pages on one port, Kaskad on another, and the pages' origin allowed there."""
    async with serving() as pages:
        async with database.begin() as connection:
            made = await sites.add(connection, sites.Wanted("portal", [pages.origin], identify="open"))
        app = create_app(settings, database)
        port = free_port()
        async with app.router.lifespan_context(app), listening(app, port):
            yield World(pages, database, f"http://127.0.0.1:{port}", made.key, desk_of(app).directory)


FORM = "<form id=apply onsubmit='return false'><input name=company value=Les><button>Send</button></form>"


async def test_everything_the_snippet_says_is_understood(world: World, page: Page) -> None:
    answers: list[int] = []
    page.on("response", lambda response: answers.append(response.status) if response.url.endswith("/k/e") else None)
    options = {"consent": "full", "events": "pages links forms scroll time"}
    body = f"{FORM}<a id=away href={world.url}/healthz>away</a><div style='height:3000px'></div>"
    await page.goto(world.add("/support", body, options) + "?utm_source=letter&utm_medium=email")
    await page.wait_for_function("kaskad.on")
    await page.evaluate("scrollTo(0, 9999)")
    await page.click("#apply button")
    await page.evaluate("kaskad('track', 'application.saved', {application_id: 'A-1', value: 12.5})")
    await world.until_logged("application.saved")
    await page.click("#away")
    log = await world.until_logged("page.left")
    assert {event["name"] for event in log} == {
        *("page.viewed", "page.scrolled", "page.left", "link.clicked", "form.submitted", "application.saved"),
    }
    assert len({event["contact_id"] for event in log}) == 1
    assert log[0]["kinds"] == ["anonymous_id"]
    form = next(event["properties"] for event in log if event["name"] == "form.submitted")
    assert (form["form"], form["fields"]) == ("apply", {"company": "Les"})
    assert set(answers) == {204}
    async with world.database.begin() as connection:
        visit = (await connection.execute(text("select * from session"))).mappings().one()
    assert (visit["source"], visit["medium"], visit["pages"]) == ("letter", "email", 1)
    assert visit["entry_url"] == f"{world.pages.origin}/support?utm_source=letter&utm_medium=email"


async def test_identify_makes_the_visitor_known_with_all_they_did(world: World, page: Page) -> None:
    async with world.database.begin() as connection:
        known = await identities.resolve(connection, [("external_id", "u-17")])
    await page.goto(world.add("/", options={"consent": "full"}))
    (view,) = await world.until_logged("page.viewed")
    assert view["contact_id"] not in known
    await page.evaluate("kaskad('identify', {external_id: 'u-17'}, {first_name: 'Анна'})")
    await page.evaluate("kaskad('track', 'application.saved')")
    log = await world.until_logged("application.saved")
    assert {event["contact_id"] for event in log} == set(known)
    assert log[0]["kinds"] == ["anonymous_id", "external_id"]


async def test_without_storage_two_visits_of_a_day_are_one_contact(world: World, page: Page) -> None:
    await page.goto(world.add("/"))
    await world.until_logged("page.viewed")
    await page.goto(world.add("/two"))
    log = await world.until_logged("page.viewed", 2)
    assert len({event["contact_id"] for event in log}) == 1
    assert await page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0


async def test_a_page_of_another_origin_cannot_report(world: World, page: Page) -> None:
    async with serving() as stranger:
        asked: list[str] = []
        page.on("requestfinished", lambda request: asked.append(request.url))
        tag = script.tag(world.key, f"{world.url}/k/s.js")
        await page.goto(stranger.add("/", tag=tag))
        await page.wait_for_function("kaskad.on")
        await page.wait_for_load_state("networkidle")
    await page.goto(world.add("/"))
    log = await world.until_logged("page.viewed")
    assert [event["properties"]["url"] for event in log] == [f"{world.pages.origin}/"]


async def test_the_script_is_served_compressed_at_each_of_its_addresses(world: World, page: Page) -> None:
    made = script.bundle()
    for query, content in (("", made.script), (f"?v={made.version}", made.script), ("?stub", made.stub.encode())):
        answer = await page.request.get(f"{world.url}/k/s.js{query}")
        assert await answer.body() == content
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["content-type"].startswith("text/javascript")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert ("immutable" in answer.headers["cache-control"]) is query.startswith("?v")
    assert (await page.request.get(f"{world.url}/k/s.js?v=0123456789abcdef")).status == 404


async def test_parts_are_served_beside_each_script_and_endpoint(
    world: World, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of earlier releases, whose scripts ask for them by their versions."""
    (tmp_path / "released").mkdir()
    (tmp_path / "released" / "0.0.9-part-gone.js").write_text("old")
    made = built(tmp_path, slots="kaskad('part', 'slots', host => host.track('part.begun'));")
    monkeypatch.setattr(script, "bundle", lambda: made)
    async with world.database.begin() as connection:
        wanted = sites.Wanted("other", [world.pages.origin], "/assets/js/a.js", "/assets/in")
        other = await sites.add(connection, wanted)
        with pytest.raises(InvalidInput, match="a part of the snippet"):
            await sites.add(connection, sites.Wanted("third", [world.pages.origin], "/assets/slots.js"))
    await world.directory.refresh()
    tag = script.tag(other.key, f"{world.url}/assets/js/a.js", endpoint=f"{world.url}/assets/in")
    await page.goto(world.pages.add("/", "<script>kaskad('use', 'slots')</script>", tag=tag))
    await world.until_logged("part.begun")
    version = hashlib.sha256(made.parts["slots"]).hexdigest()[:16]
    for path in ("/k/slots.js", "/assets/slots.js", "/assets/js/slots.js"):
        answer = await page.request.get(f"{world.url}{path}?v={version}")
        assert (answer.status, await answer.body()) == (200, made.parts["slots"])
        assert "immutable" in answer.headers["cache-control"]
    for path, status in {
        f"/k/gone.js?v={hashlib.sha256(b'old').hexdigest()[:16]}": 200,
        **dict.fromkeys(("/k/gone.js", f"/k/slots.js?v={made.version}", "/k/none.js", "/k/slots", "/x/slots.js"), 404),
    }.items():
        assert (await page.request.get(world.url + path)).status == status, path
