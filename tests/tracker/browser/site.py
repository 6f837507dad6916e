"""A site with the snippet in its pages: serves them, stands before Kaskad, and keeps what the snippet sends."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from studio.stack.process import free_port
from tracker import script

PATIENCE = 10.0
Upstream = httpx.AsyncClient


@dataclass(frozen=True)
class Hit:
    """One request of the snippet that arrived whole."""

    body: dict[str, Any]
    size: int
    headers: Mapping[str, str]
    status: int

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its events."""
        found: list[dict[str, Any]] = self.body["events"]
        return found


@dataclass
class Site:
    """What the site serves, how its way to Kaskad behaves, and what came.

    Args:
        origin: of the site.
        key: what its tag says.
        upstream: Kaskad; without one every hit is answered 204.
    """

    origin: str
    key: str = "ks_test"
    upstream: Upstream | None = None
    pages: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    refuse_with: int = 0
    """A status that every hit gets instead of being stored."""
    delay: float = 0.0
    """Seconds before anything is answered."""
    script_delay: float = 0.0

    def tag(self, attributes: str = "", *, stub: bool = True, src: str = "/k/s.js") -> str:
        """The tag for a page's head."""
        inline = f"<script>{script.bundle().stub}</script>" if stub else ""
        return f'{inline}<script async src="{src}" data-key="{self.key}" {attributes}></script>'

    def add(self, path: str, body: str = "", attributes: str = "", *, title: str = "A page", tag: str = "") -> str:
        """Serve a page at a path with the tag in it; gives its address."""
        head = f"<!doctype html><meta charset=utf-8><title>{title}</title>{tag or self.tag(attributes)}"
        self.pages[path] = f"{head}<body>{body}"
        return f"{self.origin}{path}"

    @property
    def events(self) -> list[dict[str, Any]]:
        """All that was stored, in the order of arrival, each id once."""
        stored = [event for hit in self.hits if hit.status == 204 for event in hit.events]
        return list({event["id"]: event for event in stored}.values())

    def named(self, name: str) -> list[dict[str, Any]]:
        """The properties of the stored events of one name."""
        return [event["props"] for event in self.events if event["name"] == name]

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until the snippet has done something."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain until {what}; came: {[hit.body for hit in self.hits]}"
            await asyncio.sleep(0.02)

    async def until_named(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many events of a name, and give their properties."""
        await self.until(lambda: len(self.named(name)) >= count, f"{count} × {name} are there")
        return self.named(name)

    async def take(self, request: Request) -> Response:
        """The endpoint."""
        try:
            content = await request.body()
        except ClientDisconnect:
            return Response(status_code=400)
        await asyncio.sleep(self.delay)
        answer = await self._answer(content, request)
        self.hits.append(Hit(json.loads(content), len(content), dict(request.headers), answer.status_code))
        return answer

    async def _answer(self, content: bytes, request: Request) -> Response:
        headers = {"Access-Control-Allow-Origin": "*"}
        if self.refuse_with:
            return Response(status_code=self.refuse_with, headers=headers)
        if self.upstream is None:
            return Response(status_code=204, headers=headers)
        passed = {name: value for name, value in request.headers.items() if name in _PASSED}
        answer = await self.upstream.post(request.url.path, content=content, headers=passed)
        return Response(answer.content, answer.status_code, dict(answer.headers))

    async def give(self, request: Request) -> Response:
        """A page or the script."""
        if request.url.path == "/k/s.js":
            await asyncio.sleep(self.script_delay)
            return Response(script.bundle().script, media_type="text/javascript", headers=_SHARED)
        text = self.pages.get(request.url.path)
        if text is None:
            return Response("there is no such page", 404)
        kind = "text/javascript" if request.url.path.endswith(".js") else "text/html"
        return Response(text, headers={**self.headers, "Content-Type": f"{kind}; charset=utf-8"})


_PASSED = {"content-type", "origin", "user-agent", "accept-language", "referer"}
_SHARED = {"Access-Control-Allow-Origin": "*"}


@asynccontextmanager
async def serving(**values: Any) -> AsyncIterator[Site]:
    """Run a site on a free port."""
    port = free_port()
    site = Site(f"http://127.0.0.1:{port}", **values)
    async with listening(_app(site), port):
        yield site


def _app(site: Site) -> Callable[..., Awaitable[None]]:
    return Starlette(
        routes=[
            Route("/k/e", site.take, methods=["POST"]),
            Route("/{path:path}", site.give, methods=["GET"]),
        ]
    )


@asynccontextmanager
async def listening(app: Callable[..., Awaitable[None]], port: int) -> AsyncIterator[None]:
    """Serve an app on a port of this machine until the block ends."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            task.result()
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task


def _no_signals() -> AbstractContextManager[None]:
    """Signals are pytest's."""
    return nullcontext()
