"""Chromium, and a site whose pages have the snippet."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.peers import needs_peer
from tests.tracker.browser.site import Site, serving

# Headless Chromium says so, and would be counted as a robot.
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for all tests."""
    path = needs_peer("chromium", "chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path,
            # Names that are no secure contexts; and the agent is told here because what is sent at a page's end forgets
            # what a context was told.
            args=["--host-resolver-rules=MAP *.test 127.0.0.1", f"--user-agent={AGENT}"],
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(chromium: Browser) -> AsyncIterator[BrowserContext]:
    """Somebody with a browser that was never here."""
    context = await chromium.new_context(locale="ru-RU", timezone_id="Europe/Moscow")
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(visitor: BrowserContext) -> Page:
    """A tab of theirs."""
    return await visitor.new_page()


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    """A site that keeps what the snippet sends."""
    async with serving() as made:
        yield made
