"""The endpoint of the site snippet, as pages and those who only pretend to be pages see it."""

import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio
from fastapi import FastAPI
from mmdb_writer import MMDBWriter
from netaddr import IPSet
from sqlalchemy.exc import DBAPIError

from contacts import attributes, erasure, identifying
from core.clock import now
from core.database import Database
from core.errors import Problem
from core.settings import Settings
from segments import eventfilter
from studio.api import create_app
from studio.stack.postgres import EmbeddedPostgres
from tests.tracker.site_world import (
    COUNTS,
    EVENTS,
    FIREFOX,
    IPHONE,
    ORIGIN,
    SESSIONS,
    body,
    make_site,
    milliseconds,
    rows,
    send,
    view,
)
from tracker import sites
from tracker.identify import sign
from tracker.site_routes import desk_of
from tracker.sites import Site
from tracker.tally import Tally

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def site(database: Database) -> Site:
    return await make_site(database)


async def counts(app: FastAPI, database: Database) -> dict[str, int]:
    await desk_of(app).tally.write()
    return {row["fate"]: row["hits"] for row in await rows(database, COUNTS)}


async def test_a_page_view_is_an_event_and_a_session(
    app: FastAPI, client: httpx.AsyncClient, database: Database, site: Site
) -> None:
    landing = f"{ORIGIN}/support?utm_source=letter&utm_medium=email&utm_campaign=may"
    hit = view(landing, 2, title="Поддержка", referrer="https://news.example/x", value=3)
    answer = await send(client, body(site.key, hit), user_agent=IPHONE)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "origin" in answer.headers["vary"].lower()
    (event,) = await rows(database, EVENTS)
    assert (event["name"], event["value"]) == ("page.viewed", 3.0)
    assert event["properties"] == {
        "url": landing,
        "title": "Поддержка",
        "referrer": "https://news.example/x",
        "value": 3,
        "site": "portal",
    }
    assert abs(now() - event["occurred_at"] - timedelta(seconds=2)) < timedelta(seconds=2)
    (session,) = await rows(database, SESSIONS)
    assert session["started_at"] == session["ended_at"] == event["occurred_at"]
    assert {
        name: session[name] for name in ("contact_id", "site_id", "pages", "entry_url", "exit_url", "referrer")
    } == {
        "contact_id": event["contact_id"],
        "site_id": site.id,
        "pages": 1,
        "entry_url": landing,
        "exit_url": landing,
        "referrer": "https://news.example/x",
    }
    assert [session[name] for name in ("source", "medium", "campaign", "term")] == ["letter", "email", "may", None]
    assert [session[name] for name in ("device", "browser", "os", "language")] == ["mobile", "Safari", "iOS", "ru-RU"]
    assert (session["brand"], session["model"]) == ("Apple", "iPhone")
    assert await counts(app, database) == {"stored": 1}


async def test_what_comes_again_is_stored_once(
    app: FastAPI, client: httpx.AsyncClient, database: Database, site: Site
) -> None:
    content = body(site.key, view(seconds_ago=1), {**view(), "name": "cart.changed", "props": {"items": 2}})
    assert (await send(client, content)).status_code == 204
    async with database.begin() as connection:
        key = await sites.new_key(connection, "portal")
    content["key"] = key  # the id counts within the site, not within the key
    assert (await send(client, content)).status_code == 204
    _, second = await rows(database, EVENTS)
    assert second["properties"] == {"items": 2, "site": "portal", "page": f"{ORIGIN}/"}
    assert [row["pages"] for row in await rows(database, SESSIONS)] == [1]
    assert await counts(app, database) == {"stored": 2, "duplicate": 2}


async def test_one_bad_event_costs_its_neighbours_nothing(
    client: httpx.AsyncClient, database: Database, site: Site
) -> None:
    bad: list[Any] = [
        {**view(), "name": "message.opened"},
        {**view(), "id": "x"},
        {**view(), "at": -1},
        {**view(), "at": milliseconds(8 * 86400)},
        {**view(), "props": {"url": "javascript:alert(1)"}},
        {**view(), "props": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}},
        {**view(), "props": {"a": "\0"}},
        {**view(), "props": {"a" * 201: 1}},
        "what",
        None,
    ]
    answer = await send(client, body(site.key, *bad, view()))
    assert answer.status_code == 200
    told = answer.json()
    assert (told["accepted"], told["duplicates"], told["refused"]) == (1, 0, len(bad))
    assert [error["path"] for error in told["errors"]] == [
        "events[0].name",
        "events[1].id",
        "events[2].at",
        "events[3].at",
        "events[4].url",
        "events[5].props",
        "events[6]",
        "events[7].props",
        "events[8]",
        "events[9]",
    ]
    assert len(await rows(database, EVENTS)) == 1
    none = await send(client, body(site.key, *bad))
    assert (none.status_code, none.headers["content-type"]) == (422, "application/problem+json")
    assert none.headers["access-control-allow-origin"] == ORIGIN
    assert len(none.json()["errors"]) == len(bad)


async def test_a_wrong_clock_is_put_right(client: httpx.AsyncClient, database: Database, site: Site) -> None:
    year = 366 * 86400
    content = body(site.key, view(seconds_ago=year + 60), view(seconds_ago=year - 60))
    content["sent"] = milliseconds(year)
    assert (await send(client, content)).status_code == 204
    early, late = await rows(database, EVENTS)
    assert abs(now() - timedelta(seconds=60) - early["occurred_at"]) < timedelta(seconds=5)
    assert timedelta(0) <= now() - late["occurred_at"] < timedelta(seconds=5), "what lies in the future is now"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"origin": ORIGIN}, True),
        ({"origin": "", "referer": f"{ORIGIN}/a?b"}, True),
        ({"origin": "https://portal.example.evil.example"}, False),
        ({"origin": "http://portal.example"}, False),
        ({"origin": "https://portal.example:444"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "https://evil.example", "referer": f"{ORIGIN}/"}, False),
        ({"origin": "", "referer": f"https://evil.example/{ORIGIN}/"}, False),
        ({"origin": "https://shop.portal.example"}, True),
        ({"origin": "https://evil.example/.portal.example"}, False),
    ],
)
async def test_only_pages_of_the_site_may_report(
    app: FastAPI, client: httpx.AsyncClient, database: Database, headers: dict[str, str], allowed: bool
) -> None:
    site = await make_site(database, origins=[ORIGIN, "https://*.portal.example"])
    answer = await send(client, body(site.key, view()), **headers)
    assert answer.status_code == (204 if allowed else 403)
    assert answer.headers.get("access-control-allow-origin") == ((headers["origin"] or ORIGIN) if allowed else None)
    assert len(await rows(database, EVENTS)) == allowed
    assert await counts(app, database) == {"stored" if allowed else "origin": 1}


async def test_unknown_and_revoked_keys(
    client: httpx.AsyncClient, database: Database, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("ks_unknown", "kk_" + "x" * 43):
        answer = await send(client, body(key, view()))
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "*")
    assert (await send(client, body(site.key, view()))).status_code == 204
    monkeypatch.setattr(sites, "REMEMBERED_SECONDS", 0.0)
    async with database.begin() as connection:
        await sites.remove(connection, "portal")
    assert (await send(client, body(site.key, view()))).status_code == 401
    assert (await make_site(database)).id != site.id, "the name is free again"


async def test_preflight(client: httpx.AsyncClient, site: Site) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    yes = await client.options("/k/e", headers={"origin": ORIGIN, **asked})
    assert yes.status_code == 204
    assert yes.headers["access-control-allow-origin"] == ORIGIN
    assert yes.headers["access-control-allow-methods"] == "POST"
    assert yes.headers["access-control-allow-headers"] == "content-type"
    no = await client.options("/k/e", headers={"origin": "https://evil.example", **asked})
    assert (no.status_code, no.headers.get("access-control-allow-origin")) == (403, None)


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/142.0 Safari/537.36",
        "curl/8.5.0",
        "python-httpx/0.28",
        " ",
    ],
)
async def test_bots_and_monitors_are_counted_and_not_stored(
    app: FastAPI, client: httpx.AsyncClient, database: Database, site: Site, agent: str
) -> None:
    assert (await send(client, body(site.key, view(), view()), user_agent=agent)).status_code == 204
    assert await rows(database, EVENTS) == []
    assert await counts(app, database) == {"bot": 2}


async def test_internal_traffic_is_counted_and_not_stored(
    app: FastAPI, client: httpx.AsyncClient, database: Database
) -> None:
    office = await make_site(database, "office", internal=["127.0.0.0/8"])
    assert (await send(client, body(office.key, view()))).status_code == 204
    site = await make_site(database)
    assert (await send(client, body(site.key, view()), cookie="a=b; kaskad_internal=1")).status_code == 204
    marked = body(site.key, view())
    marked["ctx"]["url"] = f"{ORIGIN}/?kaskad_internal"
    assert (await send(client, marked)).status_code == 204
    assert await rows(database, EVENTS) == []
    other = body(site.key, view(f"{ORIGIN}/?not_kaskad_internal=1"))
    other["ctx"]["url"] = f"{ORIGIN}/?not_kaskad_internal=1"
    assert (await send(client, other, cookie="not_kaskad_internal=1")).status_code == 204
    await desk_of(app).tally.write()
    by_fate = await rows(database, "select fate, sum(hits)::int as hits from site_count group by fate order by fate")
    assert by_fate == [{"fate": "internal", "hits": 3}, {"fate": "stored", "hits": 1}]
    assert len(await rows(database, EVENTS)) == 1


async def test_addresses_are_dropped_truncated_or_kept(database: Database, settings: Settings) -> None:
    trusting = settings.model_copy(update={"trusted_proxies": "127.0.0.1, 10.0.0.0/8"})
    app = create_app(trusting, database)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://kaskad") as client:
            for mode in ("drop", "truncate", "keep"):
                site = await make_site(database, mode, address=mode)
                forwarded = "1.1.1.1, 203.0.113.77, 10.1.2.3"
                assert (await send(client, body(site.key, view()), x_forwarded_for=forwarded)).status_code == 204
                six = "2001:db8:1:2:3::4"
                assert (await send(client, body(site.key, view()), x_forwarded_for=six)).status_code == 204
    found = [row["properties"].get("ip") for row in await rows(database, EVENTS)]
    assert found == [None, None, "203.0.113.0", "2001:db8:1::", "203.0.113.77", "2001:db8:1:2:3::4"]


async def test_a_strangers_forwarded_for_is_not_believed(client: httpx.AsyncClient, database: Database) -> None:
    site = await make_site(database, address="keep")
    assert (await send(client, body(site.key, view()), x_forwarded_for="203.0.113.77")).status_code == 204
    assert [row["properties"]["ip"] for row in await rows(database, EVENTS)] == ["127.0.0.1"]


async def test_rates(database: Database, settings: Settings) -> None:
    narrow = settings.model_copy(
        update={
            "trusted_proxies": "127.0.0.1",
            "hit_address_rate": 0.001,
            "hit_burst_seconds": 5000,
            "hit_key_rate": 0.002,
        }
    )
    app = create_app(narrow, database)  # 5 hits of an address, 10 of a key
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://kaskad") as client:
            site = await make_site(database)

            async def sent(address: str, count: int) -> int:
                hits = [view() for _ in range(count)]
                answer = await send(client, body(site.key, *hits), x_forwarded_for=address)
                if answer.status_code == 429:
                    assert int(answer.headers["retry-after"]) > 0
                    assert answer.headers["access-control-allow-origin"] in {ORIGIN, "*"}
                return answer.status_code

            assert [await sent("192.0.2.1", 4), await sent("192.0.2.1", 2)] == [204, 429]
            assert [await sent("192.0.2.2", 4), await sent("192.0.2.3", 4)] == [204, 429], "the key is used up"
            assert await counts(app, database) == {"stored": 8, "limited": 6}
    assert len(await rows(database, EVENTS)) == 8


async def test_geography_comes_from_the_operators_file(database: Database, settings: Settings, tmp_path: Path) -> None:
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoLite2-City")
    berlin = {
        "country": {"iso_code": "DE", "names": {"en": "Germany"}},
        "subdivisions": [{"iso_code": "BE", "names": {"en": "Land Berlin"}}],
        "city": {"names": {"en": "Berlin", "de": "Berlin"}},
    }
    writer.insert_network(IPSet(["203.0.113.0/24"]), berlin)
    writer.insert_network(IPSet(["2001:db8:1::/48"]), {"country": {"iso_code": "RU"}})
    file = tmp_path / "city.mmdb"
    writer.to_db_file(str(file))
    placed = settings.model_copy(update={"trusted_proxies": "127.0.0.1", "geoip": file})
    app = create_app(placed, database)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://kaskad") as client:
            site = await make_site(database)
            for number, address in enumerate(("203.0.113.77", "2001:db8:1:2::3", "198.51.100.1")):
                content = body(site.key, view(), anon=f"visitor-{number:04}")
                assert (await send(client, content, x_forwarded_for=address)).status_code == 204
    found = [(row["country"], row["region"], row["city"]) for row in await rows(database, SESSIONS)]
    assert found == [("DE", "Land Berlin", "Berlin"), ("RU", None, None), (None, None, None)]


async def test_visitors_without_storage_are_told_apart_for_a_day(
    client: httpx.AsyncClient, database: Database, site: Site
) -> None:
    for agent in (FIREFOX, FIREFOX, IPHONE):
        assert (await send(client, body(site.key, view(), anon=None), user_agent=agent)).status_code == 204
    first, second, third = [row["contact_id"] for row in await rows(database, EVENTS)]
    assert first == second != third
    (row,) = await rows(database, "select value from identity where contact_id = :id", id=first)
    assert row["value"].startswith("~") and "127.0.0.1" not in row["value"]
    claimed = await send(client, body(site.key, view(), anon=row["value"]))
    assert claimed.status_code == 422, "nobody can claim such an id"
    await rows(database, "update visitor_salt set day = day - 1 returning day")
    (salt,) = await rows(database, "select count(*) as salts from visitor_salt")
    assert salt["salts"] == 1


async def test_identify(client: httpx.AsyncClient, database: Database, site: Site) -> None:
    answer = await send(client, body(site.key, view(), ident={"external_id": "u-17", "email": "Anna@Example.com"}))
    assert answer.status_code == 204
    found = await rows(database, "select kind, value, contact_id from identity order by kind")
    assert [(row["kind"], row["value"]) for row in found] == [
        ("anonymous_id", "visitor-0001"),
        ("email", "anna@example.com"),
        ("external_id", "u-17"),
    ]
    assert len({row["contact_id"] for row in found}) == 1
    other = await send(client, body(site.key, view(), ident={"external_id": "u-18"}))
    assert other.status_code == 410, "the device is another known person's: it needs a new id"
    events = await rows(database, EVENTS)
    assert len({event["contact_id"] for event in events}) == 2, "and the hit is not that person's"
    wrong = await send(client, body(site.key, view(), ident={"email": "nobody"}))
    assert (wrong.status_code, wrong.json()["accepted"]) == (200, 1)
    assert wrong.json()["errors"][0]["path"] == "ident.email"
    empty = await send(client, body(site.key, ident={"email": "nobody"}))
    assert empty.status_code == 422
    assert (await send(client, body(site.key, ident={"external_id": "u-17"}))).status_code == 204


async def _anna(database: Database) -> int:
    """Somebody known, whom strangers know of."""
    async with database.begin() as connection:
        said = {"external_id": "u-1", "email": "anna@example.com"}
        return (await identifying.identify(connection, "annas-laptop", said)).contact_id


async def test_a_stranger_cannot_act_as_somebody_known(client: httpx.AsyncClient, database: Database) -> None:
    site = await make_site(database, identify="signed")
    anna = await _anna(database)
    for ident in ({"email": "anna@example.com", "external_id": "u-mallory"}, {"external_id": "u-1"}):
        answer = await send(client, body(site.key, view(), anon="mallorys-laptop", ident=ident))
        assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
        (problem,) = answer.json()["errors"]
        assert problem["path"] == "ident.signature" and f"kaskad site secret {site.name}" in problem["mend"]
        assert (await send(client, body(site.key, ident=ident))).status_code == 422
    assert anna not in {event["contact_id"] for event in await rows(database, EVENTS)}
    known = await rows(database, "select kind, value from identity where contact_id = :id order by kind", id=anna)
    assert [row["value"] for row in known] == ["annas-laptop", "anna@example.com", "u-1"]


async def test_a_sites_server_vouches_for_who_a_visitor_is(client: httpx.AsyncClient, database: Database) -> None:
    site = await make_site(database, identify="signed")
    anna = await _anna(database)
    said = {"external_id": "u-1", "phone": "+7 916 123-45-67"}
    signed = {**said, "signature": sign(site.secret, said)}
    assert (await send(client, body(site.key, view(), anon="annas-phone", ident=signed))).status_code == 204
    (event,) = await rows(database, EVENTS)
    assert event["contact_id"] == anna
    (phone,) = await rows(database, "select contact_id from identity where value = '+79161234567'")
    assert phone["contact_id"] == anna, "and a server may add an address"
    for wrong in (
        {**signed, "external_id": "u-2"},
        {"external_id": "u-1", "signature": signed["signature"]},
        {**signed, "signature": sign("another secret", said)},
        {**signed, "signature": "\u00e9"},
    ):
        answer = await send(client, body(site.key, view(), anon="mallorys-phone", ident=wrong))
        assert [error["path"] for error in answer.json()["errors"]] == ["ident.signature"]
    assert [row["contact_id"] == anna for row in await rows(database, EVENTS)] == [True, *[False] * 4]


async def test_one_value_is_not_signed_as_two(client: httpx.AsyncClient, database: Database) -> None:
    """An id that holds a line break must not be worth an id and an address, nor the reverse."""
    site = await make_site(database, identify="signed")
    both = {"email": "anna@example.com", "external_id": "u-9"}
    documented = b"external_id,email\nu-9\nanna@example.com"
    assert sign("s", both) == hmac.new(b"s", documented, "sha256").hexdigest()
    odd = {"external_id": "u-9\nanna@example.com"}
    assert sign("s", odd) != sign("s", both)
    broken = {"external_id": "u-9", "email": "anna@example.com\n"}
    answer = await send(client, body(site.key, ident={**broken, "signature": sign(site.secret, broken)}))
    assert answer.status_code == 422


async def test_a_page_fills_in_attributes_and_overwrites_none(
    client: httpx.AsyncClient, database: Database, site: Site
) -> None:
    async with database.begin() as connection:
        await attributes.register(connection, {"first_name": "text", "orders": "number"})
    said = {"external_id": "u-1", "attributes": {"first_name": "Анна"}}
    assert (await send(client, body(site.key, ident=said))).status_code == 204
    said["attributes"] = {"first_name": "Mallory", "orders": "many", "unknown": 1}
    answer = await send(client, body(site.key, ident=said))
    assert (answer.status_code, [error["path"] for error in answer.json()["errors"]]) == (
        200,
        ["ident.attributes.unknown", "ident.attributes.orders"],
    )
    said["attributes"] = {"orders": 3}
    assert (await send(client, body(site.key, ident=said))).status_code == 204
    (contact,) = await rows(database, "select attributes from contact")
    assert contact["attributes"] == {"first_name": "Анна", "orders": 3}


async def test_the_hash_of_a_visitor_without_storage_is_no_device(
    client: httpx.AsyncClient, database: Database, site: Site
) -> None:
    """Two people behind one address with one browser have one hash: identifying one must not identify the other."""
    for name in ("u-1", "u-2"):
        assert (await send(client, body(site.key, view(), anon=None, ident={"external_id": name}))).status_code == 204
    assert (await send(client, body(site.key, view(), anon=None))).status_code == 204
    assert len({row["contact_id"] for row in await rows(database, EVENTS)}) == 3


async def test_an_erased_anonymous_id_does_not_come_to_life_again(
    client: httpx.AsyncClient, database: Database, site: Site
) -> None:
    assert (await send(client, body(site.key, view(f"{ORIGIN}/?q=anna@example.com", utm=1)))).status_code == 204
    (event,) = await rows(database, EVENTS)
    async with database.begin() as connection:
        await erasure.erase(connection, event["contact_id"])
    answer = await send(client, body(site.key, view()))
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (410, ORIGIN)
    assert len(await rows(database, EVENTS)) == 1
    (session,) = await rows(database, SESSIONS)
    assert session["entry_url"] is None and session["exit_url"] is None
    assert (await send(client, body(site.key, view(), anon="visitor-0002"))).status_code == 204


async def test_erasing_a_visitor_without_storage_keeps_no_neighbour_out(
    client: httpx.AsyncClient, database: Database, site: Site
) -> None:
    """All who have one browser behind one address share a mark for the day."""
    assert (await send(client, body(site.key, view(), anon=None))).status_code == 204
    (event,) = await rows(database, EVENTS)
    async with database.begin() as connection:
        await erasure.erase(connection, event["contact_id"])
    assert (await send(client, body(site.key, view(), anon=None))).status_code == 204
    assert len({one["contact_id"] for one in await rows(database, EVENTS)}) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"\xff"',
        b'{"v":1,"key":"k","sent":1,"events":[{"id":"\xff\xff\xff\xff\xff\xff\xff\xff"}]}',
        b'{"v":1,"key":"k","sent":1,"events":[' + b"[" * 20_000 + b"]" * 20_000 + b"]}",
        b'{"v":2,"key":"k","sent":1,"events":[{}]}',
        b'{"v":1,"key":"","sent":1,"events":[{}]}',
        b'{"v":1,"key":"k","sent":1e400,"events":[{}]}',
        b'{"v":1,"key":"k","sent":99999999999999999999,"events":[{}]}',
        b'{"v":1,"key":"k","sent":1,"events":[]}',
        b'{"v":1,"key":"k","sent":1,"anon":"\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000","events":[{}]}',
        b'{"v":1,"key":"k","sent":1,"anon":"a\\r\\nb: c123","events":[{}]}',
        b'{"v":1,"key":"k","sent":1,"ctx":{"title":"\\ud800"},"events":[{}]}',
        b'{"v":1,"key":"k","sent":1,"events":[' + b",".join([b"{}"] * 101) + b"]}",
    ],
)
async def test_bodies_that_are_none(client: httpx.AsyncClient, site: Site, content: bytes) -> None:
    answer = await send(client, content.replace(b'"k"', json.dumps(site.key).encode()))
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"][0]["message"]


async def test_huge_and_compressed_bodies(client: httpx.AsyncClient, site: Site) -> None:
    assert (await send(client, b" " * 65_537)).status_code == 413
    assert (await send(client, b"x", content_encoding="gzip")).status_code == 415


async def test_each_site_has_its_own_paths(client: httpx.AsyncClient, database: Database, app: FastAPI) -> None:
    site = await make_site(database, script_path="/assets/a.js", endpoint_path="/assets/b")
    assert (await send(client, body(site.key, view()), path="/assets/b")).status_code == 404
    await desk_of(app).directory.refresh()
    assert (await send(client, body(site.key, view()), path="/assets/b")).status_code == 204
    assert (await client.options("/assets/b", headers={"origin": ORIGIN})).status_code == 204
    assert (await client.get("/assets/b")).status_code == 404
    script = await client.get("/assets/a.js")
    assert script.status_code == 200
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["access-control-allow-origin"] == "*"


async def test_a_full_queue_and_a_lost_database(app: FastAPI, client: httpx.AsyncClient, site: Site) -> None:
    assert (await send(client, body(site.key, view()))).status_code == 204
    await app.state.intake.close()
    answer = await send(client, body(site.key, view()))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["access-control-allow-origin"] == ORIGIN


async def test_what_a_page_says_is_told_apart_from_what_a_server_says(
    client: httpx.AsyncClient, database: Database, site: Site
) -> None:
    """By the test that docs/tracking.md names: a page cannot be without `site`."""
    faked = [{**view(), "name": "order.paid", "props": props} for props in ({}, {"site": None}, {"site": ""})]
    assert (await send(client, body(site.key, *faked))).status_code == 204
    await client.post("/v1/events", json={"event": "order.paid", "contact": {"external_id": "u-1"}})
    found = [event["properties"] or {} for event in await rows(database, EVENTS)]
    problems: list[Problem] = []
    only_servers = eventfilter.parse({"event.site": {"exists": False}}, (), problems)
    assert not problems
    assert [eventfilter.matches(only_servers, one, {}) for one in found] == [False, False, False, True]


@asynccontextmanager
async def only_reading(database: Database, postgres: EmbeddedPostgres) -> AsyncIterator[None]:
    """New connections to the database can write nothing, as after a failover."""
    name = database.engine.url.database
    async with await psycopg.AsyncConnection.connect(postgres.superuser_url, autocommit=True) as admin:
        await admin.execute(f'alter database "{name}" set default_transaction_read_only = on')
        yield
        await admin.execute(f'alter database "{name}" reset default_transaction_read_only')


async def test_counts_outlast_a_database_that_only_reads(
    database: Database, site: Site, postgres: EmbeddedPostgres
) -> None:
    own = Database(database.url, pool=1)
    tally = Tally(own)
    tally.count(site.id, now(), "bot", 2)
    async with only_reading(database, postgres):
        with pytest.raises(DBAPIError, match="read-only"):
            await tally.write()
    await own.close()
    tally.count(site.id, now(), "bot", 1)
    await tally.write()
    await own.close()
    assert await rows(database, COUNTS) == [{"fate": "bot", "hits": 3}]


async def test_a_desk_closes_whatever_the_database_says(
    database: Database, settings: Settings, site: Site, postgres: EmbeddedPostgres
) -> None:
    own = Database(database.url, pool=2)
    async with only_reading(database, postgres):
        app = create_app(settings, own)
        async with app.router.lifespan_context(app):
            await desk_of(app).directory.refresh()
            desk_of(app).tally.count(site.id, now(), "bot", 1)
    await own.close()
