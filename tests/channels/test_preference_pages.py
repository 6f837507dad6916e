"""The pages behind a letter's links: preferences, double opt-in, the letter in a browser."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from channels import page_words, templates, zones
from channels.routes import router
from contacts import erasure, optin, preferences
from contacts.preferences import Purpose
from core.clock import now
from tests.channels.world import World

LETTER = """---
template: letter
subject: "Hi {{ contact.first_name | default('you') }}"
---
<p>{{ event.total | default('<b>-</b>') }} {{ contact.first_name | default('-') }}
<a href="https://a.example/x?y=1&amp;z=2">go</a>
<a href="{{ preferences_url }}">choose</a> <a href="{{ view_url }}">view</a> <a href="{{ confirm_url }}">yes</a></p>
"""
LINKS = {"choose": "/p/", "view": "/v/", "confirm": "/s/"}


@pytest_asyncio.fixture(loop_scope="session")
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at the app."""
    app = FastAPI()
    app.include_router(router)
    app.state.database, app.state.settings = world.database, world.settings
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=world.settings.public_url) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def links(world: World, at: datetime) -> dict[str, str]:
    """The links of a letter that was sent to a contact who agreed to marketing."""
    async with world.database.begin() as connection:
        await templates.publish(connection, LETTER, "letter.html")
    items = await world.enroll(1, first_name="<Анна>")
    await world.prepare(items, at)
    await world.deliver(items, at)
    found = re.findall(r'href="([^"]+)"', world.recorder.letters[0].html)
    return {name: next(url for url in found if path in url) for name, path in LINKS.items()}


def consents_of(rows: list[Any]) -> dict[tuple[str, str], bool]:
    return {(row.channel, row.purpose): row.granted for row in rows}


async def stated(world: World) -> dict[tuple[str, str], bool]:
    return consents_of(await world.run("select channel, purpose, granted from consent"))


async def names(world: World) -> list[str]:
    return [
        row.name
        for row in await world.run("select n.name from event e join event_name n on n.id = name_id order by e.id")
    ]


async def send(client: httpx.AsyncClient, url: str, form: Mapping[str, Any]) -> str:
    answer = await client.post(url, data=dict(form), headers={"user-agent": "Firefox"})
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_looking_changes_nothing(world: World, client: httpx.AsyncClient, links: dict[str, str]) -> None:
    for name, title in (("choose", "What would you like to get?"), ("confirm", "There is nothing to confirm")):
        answer = await client.get(links[name])
        assert answer.status_code == 200
        assert title in answer.text
        policy = answer.headers["content-security-policy"]
        nonce = re.search(r'<style nonce="([^"]+)"', answer.text)
        assert nonce is not None
        assert f"style-src 'nonce-{nonce[1]}'" in policy
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert "<script" not in answer.text and "style=" not in answer.text
    assert await stated(world) == {("email", "marketing"): True}
    assert await names(world) == []
    assert await world.run("select from consent_record union all select from preference_record") == []


async def test_what_is_chosen_is_saved_with_its_proof(
    world: World, client: httpx.AsyncClient, links: dict[str, str]
) -> None:
    async with world.database.begin() as connection:
        await preferences.offer(connection, Purpose("news", ("email", "sms"), {"en": "News", "ru": "Новости"}))
    page = (await client.get(links["choose"])).text
    assert "News" in page and 'value="sms:news"' not in page  # nobody carries SMS, and there is no number
    form = {
        "shown": ["email:news", "email:marketing"], "consent": ["email:news", "sms:news", "email:transactional"],
        "often:email": "2", "often:sms": "1", "language": "ru", "time_zone": "Asia/Omsk", "action": "save",
    }  # fmt: skip
    saved = await send(client, links["choose"], form)
    assert "Сохранено" in saved and "Новости" in saved and "Омск (UTC+06:00)" in saved
    assert await stated(world) == {("email", "marketing"): False, ("email", "news"): True}
    records = await world.run("select purpose, granted, source, evidence from consent_record order by purpose")
    assert [(row.purpose, row.granted, row.source) for row in records] == [
        ("marketing", False, "preference page"), ("news", True, "preference page")
    ]  # fmt: skip
    for row in records:
        assert row.evidence["user_agent"] == "Firefox"
        assert set(row.evidence) == {"message", "ip", "user_agent"}
    [noted] = await world.run("select changes, evidence from preference_record")
    assert noted.changes["per_week.email"] == {"was": None, "is": 2}
    assert noted.evidence["user_agent"] == "Firefox"
    [contact] = await world.run("select language, time_zone from contact")
    assert tuple(contact) == ("ru", "Asia/Omsk")
    assert await names(world) == ["message.unsubscribed", "preferences.changed"]
    assert "Ничего не изменилось" in await send(client, links["choose"], form)
    assert len(await names(world)) == 2


async def test_one_button_stops_everything(world: World, client: httpx.AsyncClient, links: dict[str, str]) -> None:
    await world.run("insert into consent select contact_id, 'sms', 'tips', true, now() from enrollment")
    page = await send(
        client, links["choose"], {"action": "stop", "consent": "email:marketing", "shown": "email:marketing"}
    )
    assert "nothing but messages" in page
    assert await stated(world) == {("email", "marketing"): False, ("sms", "tips"): False}


async def test_what_never_was_agreed_to_is_not_refused(
    world: World, client: httpx.AsyncClient, links: dict[str, str]
) -> None:
    await world.run("delete from consent")
    await send(client, links["choose"], {"shown": "email:marketing", "action": "save"})
    assert await stated(world) == {}


@pytest.mark.parametrize(
    "form",
    [{"time_zone": "Mars/Olympus"}, {"language": "<script>"}, {"often:email": "999"}],
)
async def test_nonsense_is_refused(
    world: World, client: httpx.AsyncClient, links: dict[str, str], form: dict[str, str]
) -> None:
    with pytest.raises(Exception, match=r"time zone|language|limit"):
        await client.post(links["choose"], data=form)
    assert await world.run("select from preference_record") == []


async def test_a_damaged_or_borrowed_link_opens_nothing(
    world: World, client: httpx.AsyncClient, links: dict[str, str]
) -> None:
    for name, path in LINKS.items():
        other = next(link for known, link in links.items() if known != name)
        for url in (links[name][:-4] + "AAAA", re.sub("/[psv]/", path, other)):
            for method in ("GET", "POST") if name != "view" else ("GET",):
                answer = await client.request(method, url)
                assert (answer.status_code, "damaged" in answer.text) == (404, True)


async def test_the_limit_a_contact_set_is_kept(
    world: World, client: httpx.AsyncClient, links: dict[str, str], at: datetime
) -> None:
    await send(client, links["choose"], {"shown": "email:marketing", "consent": "email:marketing", "often:email": "2"})
    items = [type(item)(item.enrollment_id, visit) for visit in (2, 3) for item in [(await _first(world))]]
    verdicts = await world.prepare(items[:1], at + timedelta(minutes=1))
    assert [one.action for one in verdicts] == ["deliver"]
    verdicts = await world.prepare(items[1:], at + timedelta(minutes=2))
    assert [one.reason for one in verdicts] == ["frequency_cap: the contact wants 2 in 7 days"]
    receipts = await world.prepare(items[1:], at + timedelta(minutes=3), purpose="transactional")
    assert [one.action for one in receipts] == ["deliver"]
    later = await world.prepare(items[1:], at + timedelta(days=7, minutes=4))
    assert [one.action for one in later] == ["deliver"]


async def test_the_limit_holds_for_batches_at_once_and_within_one(world: World, at: datetime) -> None:
    [item] = await world.enroll(1)
    await world.run(
        "insert into frequency (contact_id, channel, per_week) select contact_id, 'email', 1 from enrollment"
    )
    twin = await world.run(
        "insert into enrollment (contact_id, cohort_id, journey_id, version_id, exclusive, key) "
        "select contact_id, 1, journey_id, version_id, false, 'twin' from enrollment returning id"
    )
    both = [item, type(item)(twin[0].id, 1)]
    batches = [
        world.prepare([type(one)(one.enrollment_id, 10 + n) for one in both], at + timedelta(seconds=n))
        for n in range(4)
    ]
    verdicts = [verdict for batch in await asyncio.gather(*batches) for verdict in batch]
    assert sorted(one.action for one in verdicts) == ["deliver", *["skip"] * 7]


async def _first(world: World) -> Any:
    from channels import Item

    [row] = await world.run("select id from enrollment order by id limit 1")
    return Item(row.id, 1)


# Double opt-in


@pytest_asyncio.fixture(loop_scope="session")
async def asked(world: World, links: dict[str, str]) -> int:
    """The letter's contact, who was asked about marketing."""
    [row] = await world.run("select contact_id from enrollment")
    await world.run("delete from consent")
    async with world.database.begin() as connection:
        await optin.ask(connection, {row.contact_id: {"form": "/join"}}, "email", "marketing", "api", now(), 7)
    return int(row.contact_id)


async def test_only_the_button_confirms(
    world: World, client: httpx.AsyncClient, links: dict[str, str], asked: int
) -> None:
    page = await client.get(links["confirm"])
    assert "Do you agree?" in page.text and "News and offers — Email" in page.text
    assert await stated(world) == {}
    assert "waits for your confirmation" in (await client.get(links["choose"])).text
    assert "Thank you" in await send(client, links["confirm"], {})
    assert await stated(world) == {("email", "marketing"): True}
    [record] = await world.run("select source, evidence from consent_record")
    assert record.source == "double opt-in"
    assert record.evidence["asked"]["form"] == "/join"
    assert {"message", "ip", "user_agent", "address"} < set(record.evidence)
    assert "nothing to confirm" in await send(client, links["confirm"], {})
    assert (await names(world))[-1] == "consent.confirmed"


async def test_a_letter_to_another_address_confirms_nothing(
    world: World, client: httpx.AsyncClient, links: dict[str, str], asked: int
) -> None:
    await world.run("update consent_request set address = 'new@example.com'")
    assert "nothing to confirm" in await send(client, links["confirm"], {})
    assert await stated(world) == {}


# The letter in a browser


async def test_the_letter_is_shown_as_it_was_rendered(
    world: World, client: httpx.AsyncClient, links: dict[str, str]
) -> None:
    await world.run('update contact set attributes = \'{"first_name": "Other"}\'')
    async with world.database.begin() as connection:
        await templates.publish(connection, LETTER.replace("go", "went"), "letter.html")
    answer = await client.get(links["view"])
    assert answer.text == world.recorder.letters[0].html
    assert "&lt;Анна&gt;" in answer.text
    assert answer.headers["content-security-policy"].startswith("sandbox ")
    assert "allow-scripts" not in answer.headers["content-security-policy"]


async def test_after_erasure_there_is_nothing_to_show(
    world: World, client: httpx.AsyncClient, links: dict[str, str]
) -> None:
    assert len(await world.run("select known from message_content")) == 1
    [row] = await world.run("select contact_id from enrollment")
    async with world.database.begin() as connection:
        await erasure.erase(connection, row.contact_id)
    assert await world.run("select from message_content") == []
    for name in LINKS:
        assert (await client.get(links[name])).status_code == 404


async def test_content_is_not_kept_where_that_is_off(world: World, at: datetime) -> None:
    world.delivery._workshop = type(world.delivery._workshop)(
        world.settings.model_copy(update={"content_days": 0}),
        world.delivery._workshop.links,
        world.delivery._workshop.templates,
    )
    items = await world.enroll(2)
    await world.prepare(items, at)
    await world.deliver(items, at)
    assert await world.states() == [50, 50]
    assert await world.run("select from message_content") == []


# Words and zones


def test_both_languages_say_everything() -> None:
    for name in page_words.PAGES:
        english, russian = (page_words.words(language, name) for language in ("en", "ru"))
        assert set(english) == set(russian)
        for key, value in english.items():
            assert isinstance(value, str) or set(value) == set(russian[key])


def test_zones_are_named_once_with_their_offset() -> None:
    found = zones.choices("en", datetime.fromisoformat("2026-01-15T00:00:00+00:00"))
    every = dict(place for _, places in found for place in places)
    assert every["Europe/Moscow"] == "Moscow (UTC+03:00)"
    assert every["America/New_York"] == "New York (UTC−05:00)"
    assert len(every) == sum(len(places) for _, places in found) > 300
