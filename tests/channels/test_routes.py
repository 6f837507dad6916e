"""The public pages: clicks, opens, unsubscribing."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from channels.routes import router
from tests.channels.world import World

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:146.0) Gecko/20100101 Firefox/146.0"


@pytest_asyncio.fixture(loop_scope="session")
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at the app."""
    app = FastAPI()
    app.include_router(router)
    app.state.database, app.state.settings = world.database, world.settings
    transport = httpx.ASGITransport(app)
    headers = {"User-Agent": BROWSER}
    async with httpx.AsyncClient(transport=transport, base_url=world.settings.public_url, headers=headers) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def letter(world: World, at: datetime) -> dict[str, str]:
    """The links of a letter that was sent."""
    items = await world.enroll(1)
    await world.prepare(items, at)
    await world.deliver(items, at)
    await world.run("update message set accepted_at = accepted_at - interval '1 minute'")
    sent = world.recorder.letters[0]
    html = sent.html
    return {
        "trap": html.split('" style="display:none"')[0].rpartition('"')[2],
        "click": html.split('<a href="')[1].split('"')[0],
        "open": html.split('<img src="')[1].split('"')[0],
        "unsubscribe": sent.headers["List-Unsubscribe"].strip("<>"),
    }


async def events(world: World) -> list[tuple[str, dict[str, Any]]]:
    rows = await world.run("select n.name, e.properties from event e join event_name n on n.id = name_id order by e.id")
    return [(name, properties) for name, properties in rows]


async def test_a_click_leads_on_and_is_written_down(
    world: World, client: httpx.AsyncClient, letter: dict[str, str]
) -> None:
    for _ in range(2):
        answer = await client.get(letter["click"])
        assert (answer.status_code, answer.headers["location"]) == (302, "https://A.example/x?y=1&z=2")
        assert "no-store" in answer.headers["cache-control"]
    written = await events(world)
    assert [name for name, _ in written] == ["message.clicked"] * 2
    properties = written[0][1]
    assert len(properties.pop("message")) == 36
    assert properties == {
        "journey": "welcome", "step": "first", "template": "letter", "url": "https://a.example/x?y=1&z=2"
    }  # fmt: skip
    [row] = await world.run("select clicked_at, (select min(occurred_at) from event) as first from message")
    assert row.clicked_at == row.first


async def test_looking_is_no_click(world: World, client: httpx.AsyncClient, letter: dict[str, str]) -> None:
    assert (await client.head(letter["click"])).status_code == 302
    assert await events(world) == []


async def test_a_damaged_click_leads_nowhere(world: World, client: httpx.AsyncClient, letter: dict[str, str]) -> None:
    answer = await client.get(letter["click"][:-3] + "AAA")
    assert answer.status_code == 404
    assert "location" not in answer.headers
    assert await events(world) == []


async def test_a_click_on_a_forgotten_message_still_leads_on(
    world: World, client: httpx.AsyncClient, letter: dict[str, str]
) -> None:
    await world.run("delete from message")
    assert (await client.get(letter["click"])).headers["location"] == "https://A.example/x?y=1&z=2"
    assert await events(world) == []


async def test_the_pixel_is_a_picture_and_an_event(
    world: World, client: httpx.AsyncClient, letter: dict[str, str]
) -> None:
    answer = await client.get(letter["open"])
    assert answer.content.startswith(b"GIF89a")
    assert answer.headers["content-type"] == "image/gif"
    assert [name for name, _ in await events(world)] == ["message.opened"]
    [row] = await world.run("select opened_at from message")
    assert row.opened_at is not None
    bad = await client.get(letter["open"].replace("/t/o/", "/t/o/x"))
    assert (bad.status_code, bad.content) == (200, answer.content)
    assert len(await events(world)) == 1


async def test_looking_at_the_unsubscribe_page_changes_nothing(
    world: World, client: httpx.AsyncClient, letter: dict[str, str]
) -> None:
    await world.run("update message set address = :address", address="<b>x</b>@example.com")
    answer = await client.get(letter["unsubscribe"])
    assert answer.status_code == 200
    assert "Unsubscribe?" in answer.text
    assert "&lt;b&gt;x&lt;/b&gt;@example.com" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert await events(world) == []
    assert [row.granted for row in await world.run("select granted from consent")] == [True]


@pytest.mark.parametrize(
    ("body", "source"), [({}, "unsubscribe page"), ({"List-Unsubscribe": "One-Click"}, "one-click")]
)
async def test_posting_unsubscribes_once(
    world: World, client: httpx.AsyncClient, letter: dict[str, str], body: dict[str, str], source: str
) -> None:
    for _ in range(2):
        answer = await client.post(letter["unsubscribe"], data=body)
        assert answer.status_code == 200
        assert "You are unsubscribed" in answer.text
    assert [row.granted for row in await world.run("select granted from consent")] == [False]
    [record, *_] = await world.run("select source, granted, evidence from consent_record order by id")
    assert (record.source, record.granted) == (source, False)
    assert set(record.evidence) == {"message", "ip", "user_agent"}
    [(name, properties)] = await events(world)
    assert name == "message.unsubscribed"
    assert (properties["channel"], properties["purpose"]) == ("email", "marketing")
    assert "<button" not in (await client.get(letter["unsubscribe"])).text


async def test_evidence_names_the_visitor_and_not_our_proxy(
    world: World, client: httpx.AsyncClient, letter: dict[str, str]
) -> None:
    """The client is 127.0.0.1. What stands in the header is believed only of a proxy that the settings name."""
    forwarded = {"X-Forwarded-For": "198.51.100.9, 203.0.113.7"}
    await client.post(letter["unsubscribe"], headers=forwarded)
    # No fixture hands the app out; its settings are the world's.
    object.__setattr__(world.settings, "trusted_proxies", "127.0.0.1")
    await world.run("update consent set granted = true")
    await client.post(letter["unsubscribe"], headers=forwarded)
    records = await world.run("select evidence->>'ip' as ip from consent_record where not granted order by id")
    assert [record.ip for record in records] == ["127.0.0.1", "203.0.113.7"]


async def test_the_page_speaks_the_contacts_language(
    world: World, client: httpx.AsyncClient, letter: dict[str, str]
) -> None:
    russian = await client.get(letter["unsubscribe"], headers={"accept-language": "ru-RU,ru;q=0.9"})
    assert 'lang="ru"' in russian.text
    assert "Отписаться?" in russian.text
    await world.run("update contact set language = 'en-GB'")
    english = await client.get(letter["unsubscribe"], headers={"accept-language": "ru"})
    assert "Unsubscribe?" in english.text


async def test_a_bad_or_old_unsubscribe_link_says_so(
    world: World, client: httpx.AsyncClient, letter: dict[str, str]
) -> None:
    wrong = letter["click"].replace("/t/c/", "/u/")
    for send in (client.get, client.post):
        answer = await send(wrong)
        assert (answer.status_code, "This link is damaged" in answer.text) == (404, True)
    await world.run("delete from contact")
    for send in (client.get, client.post):
        answer = await send(letter["unsubscribe"])
        assert (answer.status_code, "Nothing to unsubscribe" in answer.text) == (404, True)
    assert json.dumps(await events(world)) == "[]"


async def _counted(world: World) -> tuple[bool, bool]:
    [row] = await world.run("select opened_at, clicked_at from message")
    return row.opened_at is not None, row.clicked_at is not None


async def test_what_a_machine_does_is_told_and_not_counted(
    world: World, client: httpx.AsyncClient, letter: dict[str, str]
) -> None:
    apple = {"User-Agent": "Mozilla/5.0"}
    assert (await client.get(letter["open"], headers=apple)).status_code == 200
    assert (await client.get(letter["click"], headers=apple)).status_code == 302
    assert await _counted(world) == (False, False)
    assert [(name, said["machine"], said["machine_why"]) for name, said in await events(world)] == [
        ("message.opened", True, "program"),
        ("message.clicked", True, "program"),
    ]
    await client.get(letter["open"])
    assert await _counted(world) == (True, False)


async def test_a_scanner_that_looks_like_a_browser_gives_itself_away(
    world: World, client: httpx.AsyncClient, letter: dict[str, str]
) -> None:
    await client.get(letter["click"])
    assert await _counted(world) == (False, True)
    answer = await client.get(letter["trap"])
    assert answer.headers["location"] == world.settings.public_url
    assert await _counted(world) == (False, False)
    await client.get(letter["click"])
    assert await _counted(world) == (False, False)
    assert [said.get("machine_why") for _, said in await events(world)] == [None, "hidden link", "hidden link"]


async def test_who_clicks_the_moment_it_leaves_is_a_machine(
    world: World, client: httpx.AsyncClient, letter: dict[str, str]
) -> None:
    await world.run("update message set accepted_at = now()")
    await client.get(letter["click"])
    assert await _counted(world) == (False, False)
