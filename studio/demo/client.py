"""A small HTTP client for the API of a stack on this machine. It follows no redirects: what lies behind is not ours."""

import asyncio
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from core.errors import Unavailable

_PATIENCE = 20.0  # seconds
_AT_ONCE = 16


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Client:
    """Talks to one server; any number of tasks may use it."""

    def __init__(self, url: str, key: str = "") -> None:
        """
        Args:
            url: http://host:port
            key: an API key, sent along where it is given.
        """
        self._netloc = urlsplit(url).netloc
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def get(self, target: str) -> Answer:
        """GET a path, or a whole address of this server."""
        return await self._ask("GET", target, None, {})

    async def post(self, target: str, data: Any) -> Answer:
        """POST data as JSON.

        Raises:
            Unavailable: the server does not answer, or says that it cannot.
        """
        body = json.dumps(data, ensure_ascii=False).encode()
        return await self._ask("POST", target, body, {"Content-Type": "application/json"})

    async def _ask(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        parts = urlsplit(target)
        if parts.netloc not in {"", self._netloc}:
            raise Unavailable(f"{target} is no address of this installation")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        async with self._turns:
            return await asyncio.to_thread(self._ask_now, method, path, body, self._headers | headers)

    def _ask_now(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection(self._netloc, timeout=_PATIENCE)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{method} {path}: the API does not answer: {error}") from error
        finally:
            connection.close()
        if response.status >= 500:
            raise Unavailable(f"{method} {path}: {response.status} {content[:300].decode(errors='replace')}")
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)
