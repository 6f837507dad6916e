"""Hits as the site snippet sends them, for `benchmarks.tracker`: bodies, visitors, browsers and addresses."""

import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from core.clock import now

ORIGIN = "https://portal.example"
VISITORS = 20_000
NEW_SHARE = 0.1
BOT_SHARE = 0.03
_BOT = "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"
_CAMPAIGNS = ("", "", "", "", "?utm_source=letter&utm_medium=email&utm_campaign=may", "?gclid=Cj0KCQ")
_REFERRERS = ("", "", "https://www.google.com/", "https://news.example/today", "https://vk.com/")


def agents() -> list[str]:
    """User-Agent headers of browsers in several versions on several systems."""
    webkit = "AppleWebKit/537.36 (KHTML, like Gecko)"
    systems = ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64")
    found = [
        f"Mozilla/5.0 ({system}) {webkit} Chrome/{version}.0.0.0 Safari/537.36{brand}"
        for version in range(120, 143)
        for system in systems
        for brand in ("", f" Edg/{version}.0.0.0", f" OPR/{version - 14}.0.0.0")
    ]
    found += [
        f"Mozilla/5.0 (iPhone; CPU iPhone OS {major}_{minor} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        f"Version/{major}.{minor} Mobile/15E148 Safari/604.1"
        for major in range(15, 19)
        for minor in range(7)
    ]
    found += [
        f"Mozilla/5.0 (Linux; Android 10; K) {webkit} Chrome/{version}.0.0.0 Mobile Safari/537.36"
        for version in range(100, 143)
    ]
    return found


def database(folder: Path) -> Path:
    """A geography database with a thousand networks."""
    writer = MMDBWriter(ip_version=4, database_type="City")
    for number in range(1000):
        city = {
            "country": {"iso_code": ("DE", "RU", "FR", "KZ")[number % 4]},
            "subdivisions": [{"iso_code": "X", "names": {"en": f"Region {number % 50}"}}],
            "city": {"names": {"en": f"City {number}"}},
        }
        writer.insert_network(IPSet([f"{20 + number // 250}.{number % 250}.0.0/16"]), city)
    path = folder / "cities.mmdb"
    writer.to_db_file(str(path))
    return path


class Crowd:
    """Visitors who look at pages, each with a browser and an address."""

    def __init__(self, key: str, port: int) -> None:
        self._key = key
        self._port = port
        self._agents = agents()
        self._chance = random.Random(1)

    def requests(self, count: int, events: int) -> Iterator[tuple[bytes, bool]]:
        """Requests with so many events each, and whether a browser sent it and not a bot."""
        for _ in range(count):
            is_bot = self._chance.random() < BOT_SHARE
            number = self._chance.randrange(VISITORS)
            if self._chance.random() < NEW_SHARE:
                number += VISITORS * self._chance.randrange(1, 1_000_000)
            yield (
                self._request(number, events, _BOT if is_bot else self._agents[number % len(self._agents)]),
                not is_bot,
            )

    def _request(self, visitor: int, events: int, agent: str) -> bytes:
        body = msgspec.json.encode(self.body(visitor, events))
        address = f"{20 + visitor % 4}.{visitor % 250}.{visitor // 250 % 250}.{visitor % 199}"
        head = (
            f"POST /k/e HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nOrigin: {ORIGIN}\r\nReferer: {ORIGIN}/\r\n"
            f"User-Agent: {agent}\r\nX-Forwarded-For: {address}\r\nAccept: */*\r\nAccept-Language: ru-RU,ru;q=0.9\r\n"
            "Accept-Encoding: gzip, deflate, br\r\nContent-Type: text/plain;charset=UTF-8\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def body(self, visitor: int, events: int) -> dict[str, Any]:
        """What the snippet would send for a visitor; a test holds the two together."""
        at = int(now().timestamp() * 1000)
        pages = [self._page() for _ in range(events)]
        referrer = self._chance.choice(_REFERRERS)
        context = {
            "url": pages[0],
            "ref": referrer,
            "title": "Экспортный портал",
            "lang": "ru-RU",
            "w": 1440,
            "h": 900,
            "tz": "Europe/Moscow",
        }
        return {
            "sent": at,
            "v": 1,
            "key": self._key,
            "anon": str(uuid.UUID(int=visitor)),
            "ctx": context,
            "events": [
                {
                    "id": str(uuid.UUID(int=self._chance.getrandbits(128))),
                    "name": "page.viewed",
                    "at": at - 200 + number,
                    "props": {"url": page, "path": "/catalog", "title": "Экспортный портал", "referrer": referrer},
                }
                for number, page in enumerate(pages)
            ],
        }

    def _page(self) -> str:
        return f"{ORIGIN}/catalog/{self._chance.randrange(997)}{self._chance.choice(_CAMPAIGNS)}"
