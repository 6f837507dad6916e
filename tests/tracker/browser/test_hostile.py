"""Pages that make it hard: a strict Content-Security-Policy, blockers, errors of their own, tampered scripts."""

import asyncio
import base64
import hashlib
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, Route

from tests.tracker.browser.building import built
from tests.tracker.browser.site import Site, serving
from tracker import script

STRICT = (
    "default-src 'none'; script-src 'self'{more}; connect-src 'self'; base-uri 'none'; "
    "require-trusted-types-for 'script'"
)


@pytest.mark.parametrize("way", ["nonce", "hash", "none"])
async def test_a_strict_policy_is_kept(site: Site, page: Page, way: str) -> None:
    """Inline only what the policy names, and no eval: the stub with a nonce, by its hash, or in the site's own file."""
    stub = script.bundle().stub
    early = "kaskad('track', 'early.call');"
    tags = {
        "nonce": (" 'nonce-r4nd0m'", f"<script nonce=r4nd0m>{stub}</script>"),
        "hash": (f" '{script.bundle().stub_hash}'", f"<script>{stub}</script>"),
        "none": ("", ""),
    }
    more, inline = tags[way]
    site.add("/own.js")
    site.pages["/own.js"] = early if inline else stub + early
    site.headers["Content-Security-Policy"] = STRICT.format(more=more)
    violations: list[str] = []
    page.on("console", lambda message: violations.append(message.text) if message.type == "error" else None)
    await page.goto(site.add("/", tag=f"{inline}<script src=/own.js></script>{site.tag(stub=False)}"))
    await site.until_named("early.call")
    await site.until_named("page.viewed")
    assert [words for words in violations if "Policy" in words] == []


async def test_a_policy_that_forbids_the_endpoint_leaves_the_page_whole(site: Site, page: Page) -> None:
    site.headers["Content-Security-Policy"] = "default-src 'self' 'unsafe-inline'; connect-src 'none'"
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(site.add("/", attributes="data-consent=full"))
    # Playwright's own way of waiting needs eval, which this policy forbids as well.
    while not await page.evaluate("() => Object.keys(localStorage).some(k => k.startsWith('kk.q.'))"):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert errors == []


async def test_with_a_blocked_script_the_page_works_and_the_stub_does_not_grow(site: Site, page: Page) -> None:
    await page.route("**/k/s.js", lambda route: route.abort("blockedbyclient"))
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(site.add("/", "<script>kaskad('track', 'early.call')</script>"))
    await page.evaluate("for (let i = 0; i < 1000; i++) kaskad('track', 'note.written', {i})")
    assert await page.evaluate("kaskad.q.length") == 100
    assert errors == []


async def test_with_a_blocked_endpoint_attempts_become_rare(site: Site, page: Page) -> None:
    asked: list[str] = []

    async def block(route: Route) -> None:
        asked.append(route.request.url)
        await route.abort("blockedbyclient")

    await page.route("**/k/e", block)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.clock.install()
    await page.goto(site.add("/", attributes="data-consent=full"))
    await page.wait_for_function("kaskad.on")
    for _ in range(120):
        await page.clock.run_for(60_000)
    assert 8 <= len(asked) <= 21, "twenty attempts within two hours, and then no more"
    assert errors == []


async def test_other_names_for_script_and_endpoint(site: Site, page: Page) -> None:
    """Blockers know common names. The endpoint is told by the tag if it is not beside the script."""
    async with serving() as kaskad:
        site.pages["/assets/app.js"] = script.bundle().script.decode()
        tag = f"<script async src=/assets/app.js data-key=ks_1 data-endpoint={kaskad.origin}/k/e></script>"
        await page.goto(site.add("/", tag=tag))
        await kaskad.until_named("page.viewed")


async def test_a_page_full_of_errors_is_reported_and_errors_stay_its_own(site: Site, page: Page) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    body = """<script>
        addEventListener('click', event => { event.stopImmediatePropagation(); throw new Error('page: click'); }, true);
        const push = history.pushState;
        history.pushState = function () { push.apply(this, arguments); };
        Object.defineProperty(Object.prototype, 'polluted', {value: 1, enumerable: true});
        Array.prototype.last = function () { return this[this.length - 1]; };
        setTimeout(() => { throw new Error('page: timer'); });
        undefined_function();
    </script><a id=away href=https://partner.example/>away</a>"""
    await page.goto(site.add("/", body))
    await page.wait_for_function("kaskad.on")
    await page.evaluate("() => { kaskad(); kaskad('no such command'); kaskad('use', '../x'); }")
    await page.evaluate("kaskad('track', 'odd.props', null)")
    await page.evaluate("() => { const loop = {}; loop.self = loop; kaskad('track', 'loop.event', loop); }")
    await page.evaluate("() => history.pushState(null, '', '/next')")
    await site.until_named("page.viewed", 2)
    assert [error for error in errors if "page:" not in error and "undefined_function" not in error] == []
    assert len(errors) >= 2


async def test_a_tag_that_is_there_twice_counts_once(site: Site, page: Page) -> None:
    await page.goto(site.add("/", tag=site.tag() + site.tag()))
    await page.wait_for_function("kaskad.on")
    await page.evaluate("kaskad('track', 'done.now')")
    await site.until_named("done.now")
    assert len(site.named("page.viewed")) == 1


async def test_a_script_that_was_tampered_with_does_not_run(page: Page) -> None:
    async with serving() as kaskad, serving() as site:
        tag = script.tag("ks_test", f"{kaskad.origin}/k/s.js", options={"consent": "cookieless"})
        await page.goto(site.add("/", tag=tag))
        await kaskad.until_named("page.viewed")
        await page.route(
            "**/k/s.js*",
            lambda route: route.fulfill(
                body=script.bundle().script.decode() + ";",
                content_type="text/javascript",
                headers={"Access-Control-Allow-Origin": "*"},
            ),
        )
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text))
        await page.goto(site.add("/", tag=tag))
        await page.wait_for_load_state("networkidle")
        assert await page.evaluate("!kaskad.on")
        assert any("integrity" in words for words in refused)


SLOTS = "kaskad('part', 'slots', host => { host.track('part.begun', {id: host.id()}); });"


async def test_a_part_is_loaded_when_it_is_asked_for(
    site: Site, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = built(tmp_path, slots=SLOTS)
    monkeypatch.setattr(script, "bundle", lambda: made)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    site.pages["/k/slots.js"] = made.parts["slots"].decode()
    await page.goto(site.add("/", "<script>kaskad('use', 'slots'); kaskad('use', 'slots')</script>"))
    assert await site.until_named("part.begun") == [{"id": None}]
    await page.evaluate("kaskad('part', 'unasked', () => kaskad('track', 'part.intruded'))")
    await page.evaluate("() => { kaskad('use', 'constructor'); kaskad('use', 'other'); kaskad('track', 'done.now'); }")
    await site.until_named("done.now")
    assert site.named("part.intruded") == []
    assert len(site.named("part.begun")) == 1
    (url,) = [url for url in asked if "k/e" not in url and ".js" in url and "s.js" not in url.replace("slots.js", "")]
    assert made.of_version(url.partition("?v=")[2], "slots") == made.parts["slots"]


async def test_a_part_that_was_tampered_with_does_not_run(
    site: Site, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = built(tmp_path, slots=SLOTS)
    monkeypatch.setattr(script, "bundle", lambda: made)
    warnings: list[str] = []
    page.on("console", lambda message: warnings.append(message.text))
    site.pages["/k/slots.js"] = made.parts["slots"].decode() + ";"
    await page.goto(site.add("/", "<script>kaskad('use', 'slots')</script>"))
    await site.until(lambda: any("could not load" in words for words in warnings), "the part is refused")
    assert any("integrity" in words for words in warnings)
    assert site.named("part.begun") == []


async def test_a_page_that_is_prepared_and_never_looked_at_is_no_visit(
    site: Site, page: Page, visitor: BrowserContext
) -> None:
    prepared = "if (!window.shown) Object.defineProperty(document, 'prerendering', {get: () => !window.shown})"
    await visitor.add_init_script(prepared)
    await page.goto(site.add("/"))
    await page.wait_for_load_state("networkidle")
    assert site.hits == []
    await page.evaluate("() => { window.shown = true; document.dispatchEvent(new Event('prerenderingchange')); }")
    await site.until_named("page.viewed")


def test_the_tag_names_exactly_the_bytes_that_are_served() -> None:
    made = script.bundle()
    tag = script.tag("ks_<1>", "https://x.example/k/s.js", endpoint="/c?a=1&b=2", options={"consent": "none"})
    digest = base64.b64encode(hashlib.sha384(made.script).digest()).decode()
    assert f'integrity="sha384-{digest}" crossorigin="anonymous"' in tag
    assert f'src="https://x.example/k/s.js?v={made.version}"' in tag
    assert 'data-key="ks_&lt;1&gt;" data-endpoint="/c?a=1&amp;b=2" data-consent="none"' in tag
    assert made.of_version(made.version) == made.script
    assert made.of_version("0" * 16) is None
    floating = script.tag("ks_1", "/k/s.js", pinned=False, stub=False)
    assert floating == '<script async src="/k/s.js" data-key="ks_1"></script>'
