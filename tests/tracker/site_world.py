"""A site, and requests as its pages send them."""

import json
import uuid
from typing import Any

import httpx
from sqlalchemy import text

from core.clock import now
from core.database import Database
from tracker import sites
from tracker.sites import Site, Wanted

ORIGIN = "https://portal.example"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.1 Mobile/15E148 Safari/604.1"
)


async def make_site(database: Database, name: str = "portal", **wanted: Any) -> Site:
    """A site with one key, whose pages may say who a visitor is."""
    async with database.begin() as connection:
        return await sites.add(connection, Wanted(name, **{"origins": [ORIGIN], "identify": "open", **wanted}))


def milliseconds(seconds_ago: float = 0) -> int:
    return int((now().timestamp() - seconds_ago) * 1000)


def view(url: str = f"{ORIGIN}/", seconds_ago: float = 0, **props: Any) -> dict[str, Any]:
    """A page view, as the snippet writes it."""
    return {
        "id": str(uuid.uuid4()),
        "name": "page.viewed",
        "at": milliseconds(seconds_ago),
        "props": {"url": url, **props},
    }


def body(key: str, *events: dict[str, Any], anon: str | None = "visitor-0001", **more: Any) -> dict[str, Any]:
    ctx = {"url": f"{ORIGIN}/", "ref": "", "title": "Portal", "lang": "ru-RU", "tz": "Europe/Moscow"}
    return {"v": 1, "key": key, "sent": milliseconds(), "anon": anon, "ctx": ctx, "events": list(events), **more}


async def send(client: httpx.AsyncClient, content: Any, path: str = "/k/e", **headers: str) -> httpx.Response:
    """Send a body as a page would."""
    sent = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    given = {"origin": ORIGIN, "user-agent": FIREFOX, "content-type": "text/plain;charset=UTF-8"} | given
    return await client.post(path, content=sent, headers={k: v for k, v in given.items() if v})


async def rows(database: Database, statement: str, **values: Any) -> list[dict[str, Any]]:
    async with database.begin() as connection:
        return [dict(row) for row in (await connection.execute(text(statement), values)).mappings()]


EVENTS = (
    "select n.name, e.occurred_at, e.contact_id, e.properties, e.value "
    "from event e join event_name n on n.id = e.name_id order by e.id"
)
SESSIONS = "select * from session order by contact_id, started_at"
COUNTS = "select fate, hits from site_count order by fate"
