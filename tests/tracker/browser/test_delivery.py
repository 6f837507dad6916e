"""Nothing is lost and nothing is sent twice: page exit, failures, no network, a slow one, several tabs."""

import json
from collections import Counter
from typing import Any

from playwright.async_api import BrowserContext, Page

from tests.tracker.browser.site import Site, serving

FULL = "data-consent=full"


def wire_ids(site: Site) -> Counter[str]:
    """How often the id of each event was sent, whatever the answer was."""
    return Counter(event["id"] for hit in site.hits for event in hit.events)


async def kept(page: Page) -> list[dict[str, Any]]:
    """The bodies that wait in local storage, oldest first."""
    bodies = await page.evaluate(
        "Object.keys(localStorage).filter(k => k.startsWith('kk.q.')).sort().map(k => localStorage[k])"
    )
    return [json.loads(body) for body in bodies]


async def test_calls_made_before_the_script_is_there_are_kept_with_their_time(site: Site, page: Page) -> None:
    site.script_delay = 1.0
    url = site.add("/slow", "<script>kaskad('track', 'cart.changed', {items: 2})</script>")
    await page.goto(url, wait_until="commit")
    await site.until_named("cart.changed")
    assert site.named("cart.changed") == [{"items": 2}]
    times = {event["name"]: event["at"] for event in site.events}
    assert times["page.viewed"] - times["cart.changed"] >= 900


async def test_events_that_come_together_travel_together(site: Site, page: Page) -> None:
    await page.goto(site.add("/many"))
    await page.evaluate("() => { for (let i = 0; i < 250; i++) kaskad('track', 'step.done', {i}); }")
    await site.until_named("step.done", 250)
    assert [props["i"] for props in site.named("step.done")] == list(range(250))
    assert len(site.hits) <= 4
    assert all(len(hit.events) <= 100 for hit in site.hits)


async def test_what_is_gathered_survives_the_exit(site: Site, visitor: BrowserContext) -> None:
    url = site.add("/exit", "<a id=go href=/next>next</a>")
    site.add("/next", tag="<!-- no snippet -->")
    for way in ("close", "link", "location", "reload"):
        page = await visitor.new_page()
        await page.goto(url)
        await page.wait_for_function("kaskad.on")
        await page.evaluate("way => { kaskad('flush'); kaskad('track', 'exit.' + way); }", way)
        if way == "link":
            await page.click("#go")
        elif way == "location":
            await page.evaluate("location.href = '/next'")
        elif way == "reload":
            await page.reload()
        await page.close()
        await site.until_named(f"exit.{way}")
    assert set(wire_ids(site).values()) == {1}


async def test_bodies_stay_below_what_browsers_carry_past_an_exit(site: Site, page: Page) -> None:
    warnings: list[str] = []
    page.on("console", lambda message: warnings.append(message.text))
    await page.goto(site.add("/big"))
    await page.wait_for_function("kaskad.on")
    await page.evaluate("""() => {
        for (let i = 0; i < 5; i++) kaskad('track', 'big.event', {i, text: 'ж'.repeat(12000)});
        kaskad('track', 'huge.event', {text: 'ж'.repeat(16000)});
        kaskad('track', 'No Name');
    }""")
    sent = await site.until_named("big.event", 5)
    assert [props["i"] for props in sent] == list(range(5))
    assert max(hit.size for hit in site.hits) <= 60_000
    assert len(site.hits) > 2
    assert len([words for words in warnings if "not sent" in words]) == 2
    assert not site.named("huge.event")


async def test_a_server_that_is_away_gets_everything_once_when_it_is_back(site: Site, page: Page) -> None:
    site.refuse_with = 503
    await page.goto(site.add("/", attributes=FULL))
    await site.until(lambda: site.hits, "the first attempt is made")
    await page.evaluate("kaskad('track', 'form.opened')")
    await page.wait_for_function("Object.keys(localStorage).filter(k => k.startsWith('kk.q.')).length == 2")
    assert [body["events"][0]["name"] for body in await kept(page)] == ["page.viewed", "form.opened"]
    site.refuse_with = 0
    await site.until_named("form.opened")
    assert [event["name"] for event in site.events] == ["page.viewed", "form.opened"]
    stored = [hit for hit in site.hits if hit.status == 204]
    assert len(stored) == 2
    assert stored[0].body["sent"] > site.hits[0].body["sent"], "each attempt says when it was made"
    await page.wait_for_function("!Object.keys(localStorage).some(k => k.startsWith('kk.q.'))")


async def test_what_the_server_cannot_store_is_not_sent_again(site: Site, page: Page) -> None:
    site.refuse_with = 422
    await page.goto(site.add("/", attributes=FULL))
    await site.until(lambda: site.hits, "it was sent")
    site.refuse_with = 0
    await page.evaluate("kaskad('track', 'next.event')")
    await site.until_named("next.event")
    assert [event["name"] for event in site.events] == ["next.event"]
    assert await kept(page) == []


async def test_an_id_that_was_erased_is_never_used_again(site: Site, page: Page) -> None:
    site.refuse_with = 410
    await page.goto(site.add("/", attributes=FULL))
    await site.until(lambda: site.hits, "it was sent")
    site.refuse_with = 0
    await page.evaluate("kaskad('track', 'next.event')")
    await site.until_named("next.event")
    erased, after = site.hits
    assert erased.body["anon"] and after.body["anon"]
    assert erased.body["anon"] != after.body["anon"]


async def test_who_identifies_on_a_shared_device_goes_on_to_the_new_id(site: Site, page: Page) -> None:
    """410 is also the answer where this browser is known as somebody else."""
    await page.goto(site.add("/", attributes=FULL))
    await site.until_named("page.viewed")
    site.refuse_with = 410
    await page.evaluate("kaskad('identify', {external_id: 'u-2', email: 'boris@example.com'})")
    await site.until(lambda: len(site.hits) == 2, "identify was sent")
    site.refuse_with = 0
    await site.until(lambda: len(site.hits) == 3, "it is said of the new id, though nothing else happens")
    await page.evaluate("kaskad('track', 'next.event')")
    await site.until_named("next.event")
    _, refused, again, after = site.hits
    assert again.body["ident"] == refused.body["ident"] == {"external_id": "u-2", "email": "boris@example.com"}
    assert refused.body["anon"] != again.body["anon"] == after.body["anon"]
    assert "ident" not in after.body, "once is enough"


async def test_what_waits_in_memory_is_handed_over_when_the_page_goes(site: Site, visitor: BrowserContext) -> None:
    """Without consent to storage nothing can be kept for the next page."""
    site.add("/next", tag="<!-- no snippet -->")
    for way in ("close", "location"):
        page = await visitor.new_page()
        await page.clock.install()  # the pause before another attempt never ends
        site.refuse_with = 503
        before = len(site.hits)
        await page.goto(site.add("/", attributes="data-events=''"))
        await page.wait_for_function("kaskad.on")
        await page.evaluate("way => { kaskad('track', 'first.' + way); kaskad('flush'); }", way)
        await site.until(lambda count=before: len(site.hits) == count + 1, "the attempt failed")  # type: ignore[misc]
        await page.evaluate("() => new Promise(requestAnimationFrame)")
        site.refuse_with = 0
        await page.evaluate("way => { kaskad('track', 'second.' + way); kaskad('flush'); }", way)
        assert site.named(f"second.{way}") == [], "it stands behind the first"
        if way == "close":
            await page.close(run_before_unload=True)
        else:
            await page.evaluate("location.href = '/next'")
        await site.until_named(f"first.{way}")
        await site.until_named(f"second.{way}")
        await page.close()
    assert max(Counter(event["id"] for hit in site.hits if hit.status == 204 for event in hit.events).values()) == 1


async def test_what_could_not_be_sent_is_sent_from_the_next_page(site: Site, visitor: BrowserContext) -> None:
    site.refuse_with = 503
    page = await visitor.new_page()
    await page.goto(site.add("/one", attributes=FULL))
    await page.wait_for_function("Object.keys(localStorage).some(k => k.startsWith('kk.q.'))")
    await page.close()
    site.refuse_with = 0
    page = await visitor.new_page()
    await page.goto(site.add("/two", attributes=FULL))
    views = await site.until_named("page.viewed", 2)
    assert {view["path"] for view in views} == {"/one", "/two"}
    anonymous = {hit.body["anon"] for hit in site.hits}
    assert len(anonymous) == 1


async def test_offline_and_back(site: Site, visitor: BrowserContext, page: Page) -> None:
    await page.goto(site.add("/", attributes=FULL))
    await site.until_named("page.viewed")
    await visitor.set_offline(True)
    await page.evaluate("for (const i of [1, 2, 3]) kaskad('track', 'note.written', {i}), kaskad('flush')")
    await page.wait_for_function("Object.keys(localStorage).filter(k => k.startsWith('kk.q.')).length == 3")
    assert site.named("note.written") == []
    await visitor.set_offline(False)
    assert await site.until_named("note.written", 3) == [{"i": 1}, {"i": 2}, {"i": 3}]
    assert set(wire_ids(site).values()) == {1}


async def test_leaving_while_offline_keeps_it_for_the_next_visit(site: Site, visitor: BrowserContext) -> None:
    url = site.add("/", attributes=FULL)
    page = await visitor.new_page()
    await page.goto(url)
    await site.until_named("page.viewed")
    await visitor.set_offline(True)
    await page.evaluate("kaskad('track', 'last.word')")
    await page.close(run_before_unload=True)
    await site.until(lambda: not visitor.pages, "the tab is closed")
    await visitor.set_offline(False)
    page = await visitor.new_page()
    await page.goto(url)
    await site.until_named("last.word")


async def test_two_tabs_send_what_waits_once(site: Site, visitor: BrowserContext) -> None:
    await _two_tabs(site, visitor, site.origin)


async def test_two_tabs_without_locks_send_what_waits_once(site: Site, visitor: BrowserContext) -> None:
    """Browsers have no Web Locks outside of secure contexts."""
    await _two_tabs(site, visitor, site.origin.replace("127.0.0.1", "portal.test"))


async def _two_tabs(site: Site, visitor: BrowserContext, origin: str) -> None:
    site.add("/", attributes=FULL)
    first, second = await visitor.new_page(), await visitor.new_page()
    await first.goto(f"{origin}/")
    await second.goto(f"{origin}/")
    await site.until_named("page.viewed", 2)
    assert await first.evaluate("!!navigator.locks") == (origin == site.origin)
    await visitor.set_offline(True)
    for tab, name in ((first, "first"), (second, "second")):
        for i in range(3):
            await tab.evaluate("([name, i]) => { kaskad('track', name + '.tab', {i}); kaskad('flush'); }", [name, i])
    await first.wait_for_function("Object.keys(localStorage).filter(k => k.startsWith('kk.q.')).length == 6")
    site.delay = 0.2  # long enough for the other tab to look, too
    await visitor.set_offline(False)
    await site.until_named("first.tab", 3)
    await site.until_named("second.tab", 3)
    await first.wait_for_function("!Object.keys(localStorage).some(k => k.startsWith('kk.q.'))")
    assert set(wire_ids(site).values()) == {1}
    assert len({hit.body["anon"] for hit in site.hits}) == 1, "both tabs are one visitor"


async def test_what_waits_is_bounded(site: Site, page: Page) -> None:
    site.refuse_with = 503
    await page.goto(site.add("/", attributes=FULL))
    await site.until(lambda: site.hits, "the first attempt failed")
    await page.wait_for_function("Object.keys(localStorage).some(k => k.startsWith('kk.q.'))")
    await page.evaluate("""() => {
        for (let i = 0; i < 80; i++) { kaskad('track', 'small.one', {i}); kaskad('flush'); } }""")
    waiting = await kept(page)
    assert len(waiting) == 50
    assert waiting[-1]["events"][0]["props"] == {"i": 79}, "the oldest went"
    await page.evaluate("""() => {
        const text = 'x'.repeat(25000);
        for (let i = 0; i < 20; i++) { kaskad('track', 'large.one', {i, text}); kaskad('flush'); } }""")
    assert len(json.dumps(await kept(page))) <= 252_000
    old = json.dumps({"v": 1, "key": "ks_test", "anon": None, "ctx": {}, "events": []})
    await page.evaluate("old => { localStorage['kk.q.1000000000000.0000.0'] = old; }", old)
    await page.evaluate("() => { kaskad('track', 'small.two'); kaskad('flush'); }")
    assert await page.evaluate("localStorage['kk.q.1000000000000.0000.0']") is None, "older than three days"


async def test_a_slow_network_delays_and_loses_nothing(site: Site, page: Page) -> None:
    site.delay = 1.5
    await page.goto(site.add("/", attributes=FULL))
    for i in range(3):
        await page.evaluate("i => { kaskad('track', 'slow.event', {i}); kaskad('flush'); }", i)
    await page.goto("about:blank")
    assert len(await site.until_named("slow.event", 3)) == 3
    assert set(wire_ids(site).values()) == {1}


async def test_another_origin_needs_no_preflight(page: Page) -> None:
    async with serving() as kaskad, serving() as site:
        tag = kaskad.tag(src=f"{kaskad.origin}/k/s.js")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
        await page.goto(site.add("/", tag=tag))
        await kaskad.until_named("page.viewed")
        await page.evaluate("kaskad('track', 'left.at_once')")
        await page.goto("about:blank")
        await kaskad.until_named("left.at_once")
        assert not [one for one in asked if one.startswith("OPTIONS")]
        assert kaskad.hits[0].headers["origin"] == site.origin


async def test_identify_travels_with_events_or_alone_and_reset_begins_anew(site: Site, page: Page) -> None:
    await page.goto(site.add("/", attributes=FULL))
    await site.until_named("page.viewed")
    await page.evaluate("kaskad('identify', {external_id: 'u-1'}, {first_name: 'Анна'})")
    await site.until(lambda: len(site.hits) == 2, "identify was sent")
    await page.evaluate("() => { kaskad('track', 'order.placed'); kaskad('reset'); kaskad('track', 'left.now'); }")
    await site.until_named("left.now")
    first, said, before, after = site.hits
    assert said.body["ident"] == {"external_id": "u-1", "attributes": {"first_name": "Анна"}}
    assert said.events == []
    assert "ident" not in before.body
    assert first.body["anon"] == said.body["anon"] == before.body["anon"] != after.body["anon"]


async def test_a_signature_stays_with_what_it_signs(site: Site, page: Page) -> None:
    await page.goto(site.add("/", attributes=FULL))
    await site.until_named("page.viewed")
    site.hits.clear()
    await page.evaluate("""() => {
        kaskad('identify', {phone: '+79160000000'});
        kaskad('identify', {external_id: 'u-1', signature: 's1'});
        kaskad('identify', {email: 'anna@example.com', signature: 's2'});
        kaskad('track', 'order.placed');
    }""")
    await site.until_named("order.placed")
    assert [hit.body.get("ident") for hit in site.hits] == [
        {"phone": "+79160000000"},
        {"external_id": "u-1", "signature": "s1"},
        {"email": "anna@example.com", "signature": "s2"},
    ]


async def test_without_an_id_every_body_says_who_it_is(site: Site, page: Page) -> None:
    url = site.add("/")
    await page.goto(url)
    await site.until_named("page.viewed")
    site.hits.clear()
    await page.evaluate("() => { kaskad('identify', {external_id: 'u-1'}); kaskad('track', 'order.placed'); }")
    await site.until_named("order.placed")
    await page.evaluate("kaskad('track', 'order.paid')")
    await site.until_named("order.paid")
    await page.evaluate("() => { kaskad('flush'); kaskad('flush'); }")
    await page.goto(url)
    await site.until_named("page.viewed")
    said = [(hit.body["anon"], hit.body.get("ident")) for hit in site.hits]
    assert said == [(None, {"external_id": "u-1"})] * 2 + [(None, None)], "and the next page has to say it again"
