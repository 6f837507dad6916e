"""What the snippet weighs, and how much is lost when pages are left: real pages, in Chromium.

The pages are served and their hits counted by a server in this process, so that what is lost is lost by the browser.
`benchmarks/tracker.py` prints these figures beside the server's; alone: `python -m benchmarks.exits`.
"""

import argparse
import asyncio
import gzip
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from studio.stack.process import free_port
from tracker import script

EXITS = 200
WAYS = ("close", "link", "location", "reload")
"""How a page is left, in turn."""
LEGS = ("full", "cookieless", "cookieless after a failure")
"""What the visitor agreed to, in turn: only with `full` may anything be kept for the next page. In the last leg the
server is away when the page tells something first, and what comes at the exit stands behind that."""
_PATIENCE = 5.0  # seconds in which what left the browser arrives
_CORS = {"Access-Control-Allow-Origin": "*"}


def snippet_gzip_bytes() -> int:
    """Bytes of the script as it is served, compressed."""
    return len(gzip.compress(script.bundle().script, mtime=0))


class _Site:
    """A page with the snippet on one origin, and the endpoint on another."""

    def __init__(self) -> None:
        self.page_port, self.endpoint_port = free_port(), free_port()
        self.arrived: set[int] = set()
        self.refused: set[int] = set()
        self.sent_twice = 0

    def app(self) -> Starlette:
        """Serves both origins."""
        routes = [
            Route("/k/s.js", self._script),
            Route("/k/e", self._take, methods=["POST"]),
            Route("/next", lambda _: Response("next", media_type="text/html")),
            Route("/", self._page),
        ]
        return Starlette(routes=routes)

    async def _script(self, _request: Request) -> Response:
        return Response(script.bundle().script, media_type="text/javascript", headers=_CORS)

    async def _page(self, request: Request) -> Response:
        endpoint = f"http://127.0.0.1:{self.endpoint_port}"
        options = {"consent": request.query_params["consent"], "events": ""}
        tag = script.tag("ks_benchmark", f"{endpoint}/k/s.js", options=options)
        return Response(f"<!doctype html><title>x</title>{tag}<a id=go href=/next>next</a>", media_type="text/html")

    async def _take(self, request: Request) -> Response:
        for event in json.loads(await request.body())["events"]:
            if event["name"] == "page.troubled" and event["props"]["exit"] not in self.refused:
                self.refused.add(event["props"]["exit"])
                return Response(status_code=503, headers=_CORS)
            if event["name"] == "page.exited":
                self.sent_twice += event["props"]["exit"] in self.arrived
                self.arrived.add(event["props"]["exit"])
        return Response(status_code=204, headers=_CORS)


@asynccontextmanager
async def _served(site: _Site) -> AsyncIterator[None]:
    servers = []
    for port in (site.page_port, site.endpoint_port):
        config = uvicorn.Config(site.app(), host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        servers.append((server, asyncio.create_task(server.serve())))
    for server, task in servers:
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.01)
    try:
        yield
    finally:
        for server, task in servers:
            server.should_exit = True
            await task


async def exit_loss_percent(exits: int = EXITS, program: str | None = None) -> float:
    """The share of exits whose last event, reported in the moment the page is left, never arrived.

    Args:
        exits: how many pages are left, by WAYS and LEGS in turn.
        program: Chromium's path; found if not given.
    """
    site = _Site()
    path = program or shutil.which("chromium")
    if path is None:
        raise SystemExit("chromium is missing: apt-get install chromium")
    async with _served(site), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path)
        try:
            await _leave_all(browser, f"http://127.0.0.1:{site.page_port}/", exits)
            deadline = time.monotonic() + _PATIENCE
            while len(site.arrived) < exits and time.monotonic() < deadline:  # noqa: ASYNC110 - no need to be quick
                await asyncio.sleep(0.05)
        finally:
            await browser.close()
    lost = sorted(set(range(exits)) - site.arrived)
    ways = [f"{_leg(number)}: {WAYS[number % len(WAYS)]}" for number in lost]
    print(f"{exits} exits, {len(lost)} lost {ways}, {site.sent_twice} sent twice", file=sys.stderr)
    return 100 * len(lost) / exits


async def _leave_all(browser: Browser, url: str, exits: int) -> None:
    for leg in LEGS:  # visitors of their own: what one agreed to must not hold for the next
        context = await browser.new_context()
        for number in range(exits):
            if _leg(number) == leg:
                await _leave(context, url, number, WAYS[number % len(WAYS)])


def _leg(number: int) -> str:
    return LEGS[number // len(WAYS) % len(LEGS)]


async def _leave(context: BrowserContext, url: str, number: int, way: str) -> None:
    """Open a page, report an event and leave in the same task, so that no timer can send it before."""
    consent, _, is_troubled = _leg(number).partition(" ")
    page = await context.new_page()
    await page.goto(f"{url}?consent={consent}")
    await page.wait_for_function("kaskad.on")
    if is_troubled:
        async with page.expect_response("**/k/e"):
            await page.evaluate("exit => { kaskad('track', 'page.troubled', {exit}); kaskad('flush'); }", number)
    await _act(page, number, way, "kaskad('flush');" if is_troubled else "")
    await page.close()


async def _act(page: Page, number: int, way: str, more: str) -> None:
    told = f"kaskad('track', 'page.exited', {{exit: {number}}}); {more}"
    if way == "close":
        await page.evaluate(f"() => {{ {told} }}")
        return
    # Until it is loaded: closing a tab in the midst of that makes Chromium's driver wait for ever.
    async with page.expect_navigation(wait_until="load"):
        if way == "link":
            await page.evaluate(f"() => document.getElementById('go').addEventListener('click', () => {{ {told} }})")
            await page.click("#go", no_wait_after=True)
        else:
            leave = {"location": "location.href = '/next'", "reload": "location.reload()"}[way]
            # In a task of its own, since the page of an evaluation must not go before it has answered.
            await page.evaluate(f"() => {{ setTimeout(() => {{ {told} {leave}; }}); }}")


def main() -> None:
    """Measure, and print the figures as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exits", type=int, default=EXITS)
    arguments = parser.parse_args()
    loss = asyncio.run(exit_loss_percent(arguments.exits))
    figures = {"snippet_gzip_bytes": snippet_gzip_bytes(), "exit_loss_percent": round(loss, 3)}
    print(json.dumps({"benchmark": "exits", "figures": figures}))


if __name__ == "__main__":
    main()
