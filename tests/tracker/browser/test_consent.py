"""Nothing is stored in the browser, and nothing about the visitor sent, that they did not agree to."""

import re
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page

from tests.tracker.browser.site import Site

REFUSALS = {
    "Do Not Track": "Object.defineProperty(navigator, 'doNotTrack', {get: () => '1'})",
    "Global Privacy Control": "Object.defineProperty(navigator, 'globalPrivacyControl', {get: () => true})",
}


async def stored(page: Page) -> dict[str, Any]:
    """Everything that a page can store in a browser."""
    found: dict[str, Any] = await page.evaluate(
        """async () => ({local: {...localStorage}, session: {...sessionStorage}, cookie: document.cookie,
                          databases: (await indexedDB.databases()).length, caches: (await caches.keys()).length})"""
    )
    return {name: value for name, value in found.items() if value}


async def test_by_default_pages_are_counted_and_nothing_is_stored(site: Site, page: Page) -> None:
    await page.goto(site.add("/"))
    await site.until_named("page.viewed")
    site.refuse_with = 503
    await page.evaluate("() => { kaskad('track', 'note.written'); kaskad('flush'); }")
    await site.until(lambda: len(site.hits) == 2, "the second attempt failed")
    site.refuse_with = 0
    await site.until_named("note.written")
    assert await stored(page) == {}
    assert {hit.body["anon"] for hit in site.hits} == {None}
    assert not any("cookie" in hit.headers or "set-cookie" in hit.headers for hit in site.hits)


async def test_before_the_visitor_decides_nothing_leaves_and_then_it_does(site: Site, page: Page) -> None:
    await page.goto(site.add("/", attributes="data-consent=none"))
    await page.wait_for_function("kaskad.on")
    await page.evaluate("() => { kaskad('track', 'note.written'); kaskad('flush'); }")
    await page.evaluate("dispatchEvent(new Event('pagehide'))")
    assert await page.evaluate("new Promise(give => kaskad('id', give))") is None
    assert await stored(page) == {}
    assert site.hits == []
    await page.evaluate("kaskad('consent', 'full')")
    await site.until_named("note.written")
    assert [event["name"] for event in site.events] == ["page.viewed", "note.written"]
    held = await stored(page)
    assert set(held) == {"local"}
    anonymous = site.hits[0].body["anon"]
    assert held["local"] == {"kk.id": f"{anonymous}.1"}
    assert await page.evaluate("new Promise(give => kaskad('id', give))") == anonymous


async def test_a_refusal_forgets_what_was_held_and_what_was_stored(
    site: Site, page: Page, visitor: BrowserContext
) -> None:
    url = site.add("/")
    await page.goto(url)
    await page.evaluate("kaskad('consent', 'full')")
    await site.until_named("page.viewed")
    site.refuse_with = 503
    await page.evaluate("() => { kaskad('track', 'note.written'); kaskad('flush'); }")
    await page.wait_for_function("Object.keys(localStorage).some(k => k.startsWith('kk.q.'))")
    other = await visitor.new_page()
    await other.goto(url)
    await other.wait_for_function("kaskad.on")
    await page.evaluate("() => { kaskad('track', 'not.sent'); kaskad('consent', 'none'); }")
    await page.evaluate("kaskad('track', 'not.sent')")
    assert await stored(page) == {}
    site.refuse_with = 0
    site.hits.clear()
    await other.evaluate("() => { kaskad('track', 'not.sent'); kaskad('flush'); }")
    assert await other.evaluate("new Promise(give => kaskad('id', give))") is None, "it was refused in another tab"
    assert await stored(other) == {}
    await page.goto("about:blank")
    await other.goto("about:blank")
    await page.goto(site.add("/after"))
    await site.until_named("page.viewed")
    assert [event["name"] for event in site.events] == ["page.viewed"]
    assert site.hits[0].body["anon"] is None


async def test_what_is_held_before_a_decision_is_bounded_and_said_once(site: Site, page: Page) -> None:
    warnings: list[str] = []
    page.on("console", lambda message: warnings.append(message.text))
    await page.goto(site.add("/", attributes="data-consent=none data-events=''"))
    await page.wait_for_function("kaskad.on")
    await page.evaluate("() => { for (let i = 0; i < 150; i++) kaskad('track', 'note.written', {i}); }")
    await page.evaluate("kaskad('consent', 'cookieless')")
    assert [one["i"] for one in await site.until_named("note.written", 100)] == list(range(100))
    assert len([words for words in warnings if "no more is held" in words]) == 1
    await page.goto(site.add("/big", attributes="data-consent=none data-events=''"))
    await page.wait_for_function("kaskad.on")
    await page.evaluate("() => { for (let i = 0; i < 5; i++) kaskad('track', 'big.event', {t: 'x'.repeat(20000)}); }")
    await page.evaluate("kaskad('consent', 'cookieless')")
    assert len(await site.until_named("big.event", 2)) == 2, "45,000 bytes are the other bound"


async def test_who_chooses_no_storage_in_one_tab_is_counted_in_the_others(
    site: Site, page: Page, visitor: BrowserContext
) -> None:
    url = site.add("/", attributes="data-events=''")
    other = await visitor.new_page()
    for tab in (page, other):
        await tab.goto(url)
        await tab.evaluate("() => { kaskad('consent', 'full'); kaskad('track', 'tab.opened'); kaskad('flush'); }")
    await site.until_named("tab.opened", 2)
    assert len({hit.body["anon"] for hit in site.hits}) == 1
    await page.evaluate("kaskad('consent', 'cookieless')")
    assert await stored(page) == {}
    site.hits.clear()
    await other.evaluate("() => { kaskad('track', 'tab.used'); kaskad('flush'); }")
    await site.until_named("tab.used")
    assert [hit.body["anon"] for hit in site.hits] == [None]
    assert await stored(other) == {}


async def test_what_was_agreed_to_holds_on_the_next_page(site: Site, page: Page) -> None:
    await page.goto(site.add("/", attributes="data-consent=none"))
    await page.evaluate("kaskad('consent', 'full')")
    await site.until_named("page.viewed")
    await page.goto(site.add("/two"))
    await site.until_named("page.viewed", 2)
    assert len({hit.body["anon"] for hit in site.hits}) == 1
    assert site.hits[0].body["anon"]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_browser_that_objects_is_left_alone(
    site: Site, page: Page, visitor: BrowserContext, refusal: str
) -> None:
    url = site.add("/", attributes="data-consent=full")
    await page.goto(url)
    await site.until_named("page.viewed")
    assert "kk.id" in (await stored(page))["local"]
    site.hits.clear()
    await visitor.add_init_script(REFUSALS[refusal])
    await page.goto(url)
    await page.wait_for_function("kaskad.on")
    await page.evaluate("() => { kaskad('track', 'note.written'); kaskad('flush'); }")
    assert await stored(page) == {}, "nobody agreed in so many words, so what was stored goes"
    await page.goto(site.add("/ignores", attributes="data-signals=ignore"))
    await site.until_named("page.viewed")
    assert [view["path"] for view in site.named("page.viewed")] == ["/ignores"]
    site.hits.clear()
    await page.goto(url)
    await page.evaluate("kaskad('consent', 'full')")
    await site.until_named("page.viewed")
    await page.goto(url)
    await site.until_named("page.viewed", 2)
    assert len({hit.body["anon"] for hit in site.hits}) == 1, "who says yes here means here"


async def test_hosts_of_a_site_share_the_id_in_a_cookie_if_asked_to(site: Site, page: Page) -> None:
    site.add("/", attributes="data-consent=full data-domain=portal.test")
    for host in ("www.portal.test", "shop.portal.test"):
        await page.goto(f"{site.origin.replace('127.0.0.1', host)}/")
        await site.until_named("page.viewed", len(site.hits) + 1)
    one, other = site.hits
    assert one.body["anon"] == other.body["anon"]
    assert await stored_cookie(page) == f"kk.id={one.body['anon']}"
    await page.evaluate("kaskad('consent', 'none')")
    assert await stored_cookie(page) == ""


async def stored_cookie(page: Page) -> str:
    """What scripts see of cookies; outside of secure contexts there is little else to look at."""
    return str(await page.evaluate("document.cookie"))


async def test_where_nothing_can_be_stored_the_page_works_all_the_same(
    site: Site, page: Page, visitor: BrowserContext
) -> None:
    forbidden = "{get() { throw new DOMException('no', 'SecurityError'); }}"
    await visitor.add_init_script(f"Object.defineProperty(window, 'localStorage', {forbidden})")
    await page.goto(site.add("/", attributes="data-consent=full"))
    await site.until_named("page.viewed")
    site.refuse_with = 503
    await page.evaluate("() => { kaskad('track', 'note.written'); kaskad('flush'); }")
    await site.until(lambda: len(site.hits) == 2, "it failed")
    site.refuse_with = 0
    await site.until_named("note.written")
    (anonymous,) = {hit.body["anon"] for hit in site.hits}
    assert re.fullmatch(r"[0-9a-f-]{36}", anonymous)


FORM = """
<form id=apply action=/apply method=post>
  <input name=company value="Северный лес"><input type=email name=email value=anna@sever-les.example>
  <input type=checkbox name=goods value=wood checked><input type=checkbox name=goods value=honey checked>
  <input type=checkbox name=news><select name=measure><option value=fair selected>Fair</option></select>
  <textarea name=note>call me</textarea>
  <input type=password name=anything value=hunter2><input type=hidden name=state value=hidden-state>
  <input name=card_number value=1><input name=x autocomplete=cc-number value=2><input name=cvv2 value=3>
  <input name=y autocomplete="section-a one-time-code" value=4><input name=api_token value=5>
  <input name="user[pin]" value=6>
  <input name=plain value="4111 1111 1111 1111"><input name=tax value="7707083893">
  <input name=private value=7 data-kaskad-off><div data-kaskad-off><input name=inner value=8></div>
  <input value="no name"><input type=file name=scan><button name=go value=now>Send</button>
</form>
<form name=hidden data-kaskad-off><input name=a value=b><button id=off>Send</button></form>
<script>for (const form of document.forms) form.addEventListener('submit', event => event.preventDefault());</script>
"""


async def test_of_a_form_only_harmless_fields_are_told_and_only_with_consent(site: Site, page: Page) -> None:
    await page.goto(site.add("/form", FORM))
    await page.wait_for_function("kaskad.on")
    await page.click("#apply button")
    assert await site.until_named("form.submitted") == [{"form": "apply"}]
    await page.evaluate("kaskad('consent', 'full')")
    await page.click("#off")
    await page.click("#apply button")
    (_, told) = await site.until_named("form.submitted", 2)
    assert told == {
        "form": "apply",
        "fields": {
            **{"company": "Северный лес", "email": "anna@sever-les.example", "goods": "wood, honey"},
            **{"measure": "fair", "note": "call me", "tax": "7707083893"},
        },
    }


async def test_fields_with_the_names_of_what_forms_have_harm_nothing(site: Site, page: Page) -> None:
    names = ("constructor", "__proto__", "elements", "closest", "getAttribute", "id", "name", "action")
    body = (
        "<form onsubmit='return false' data-kaskad-form=odd>"
        + "".join(f"<input name={name} value=v-{name}>" for name in names)
        + "<button>Send</button></form>"
    )
    await page.goto(site.add("/form", body, "data-consent=full"))
    await page.wait_for_function("kaskad.on")
    await page.evaluate("document.querySelector('button').click()")  # Playwright's own click needs the form's methods
    assert await site.until_named("form.submitted") == [{"form": "odd", "fields": {n: f"v-{n}" for n in names}}]


async def test_a_form_that_leaves_the_page_is_told(site: Site, page: Page) -> None:
    body = "<form action=/sent?secret=1 method=get><input name=city value=Perm><button>Send</button></form>"
    await page.goto(site.add("/form", body, "data-consent=full"))
    site.add("/sent", tag="<!-- no snippet -->")
    await page.click("button")
    assert await site.until_named("form.submitted") == [{"form": "/sent", "fields": {"city": "Perm"}}]
