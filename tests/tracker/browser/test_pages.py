"""What the snippet notices by itself: page views, links, scrolling and time."""

import time
from typing import Any
from uuid import UUID

from playwright.async_api import BrowserContext, Page

from benchmarks.hits import Crowd
from tests.tracker.browser.site import Site, serving


async def test_a_page_view_says_where_from_whence_and_in_which_browser(site: Site, page: Page) -> None:
    url = site.add("/support", title="Поддержка")
    before = int(time.time() * 1000)
    await page.goto(
        f"{url}?utm_source=letter&utm_campaign=spring&email=anna@x.example&yclid=7#top",
        referer="https://news.example/",
    )
    (view,) = await site.until_named("page.viewed")
    reported = f"{url}?utm_source=letter&utm_campaign=spring&yclid=7"
    assert view == {"url": reported, "path": "/support", "title": "Поддержка", "referrer": "https://news.example/"}
    (hit,) = site.hits
    assert hit.headers["content-type"] == "text/plain;charset=UTF-8"
    assert "cookie" not in hit.headers
    assert (hit.body["v"], hit.body["key"], hit.body["anon"]) == (1, "ks_test", None)
    assert hit.body["ctx"] == {
        **{"url": reported, "ref": "https://news.example/", "title": "Поддержка", "lang": "ru-RU"},
        **{"w": 1280, "h": 720, "tz": "Europe/Moscow"},
    }
    (event,) = hit.events
    assert before <= event["at"] <= hit.body["sent"] <= time.time() * 1000
    assert UUID(event["id"]).version == 4
    assert set(event) == {"id", "name", "at", "props"}


async def test_a_site_may_ask_for_all_of_the_query_and_the_fragment(site: Site, page: Page) -> None:
    url = site.add("/search", attributes="data-query=all data-hash")
    await page.goto(f"{url}?q=cable#/first")
    await page.evaluate("location.hash = '/second'")
    views = await site.until_named("page.viewed", 2)
    assert [view["url"] for view in views] == [f"{url}?q=cable#/first", f"{url}?q=cable#/second"]


async def test_a_single_page_application_is_seen_to_turn_its_pages(site: Site, page: Page) -> None:
    url = site.add("/app", title="First")
    await page.goto(url)
    await page.evaluate(
        """() => { history.pushState({}, '', '/app/two'); document.title = 'Second';
                   history.replaceState({}, '', '/app/two?tab=3#note'); }"""
    )
    await site.until_named("page.viewed", 2)
    await page.evaluate("history.back()")
    views = await site.until_named("page.viewed", 3)
    seen = [(view["path"], view["title"], view["referrer"]) for view in views]
    two = f"{site.origin}/app/two"
    # Going back, an application would set its title again; this one does not.
    assert seen == [("/app", "First", ""), ("/app/two", "Second", url), ("/app", "Second", two)]
    state = await page.evaluate("history.state")
    assert state is None


async def test_events_of_two_pages_in_one_body_keep_their_addresses(site: Site, page: Page) -> None:
    await page.goto(site.add("/app", attributes='data-events="pages time"'))
    await page.evaluate(
        "() => { kaskad('track', 'tab.opened'); history.pushState({}, '', '/app/two'); kaskad('track', 'tab.closed'); }"
    )
    await site.until_named("tab.closed")
    events = {event["name"]: event.get("url", hit.body["ctx"]["url"]) for hit in site.hits for event in hit.events}
    assert events["tab.opened"] == f"{site.origin}/app"
    assert events["tab.closed"] == f"{site.origin}/app/two"


async def test_pages_kept_in_memory_and_shown_again_are_viewed_again(site: Site, page: Page) -> None:
    first = site.add("/one")
    await page.goto(first)
    await site.until_named("page.viewed", 1)
    await page.evaluate("window.kept = true")
    await page.goto(site.add("/two"))
    await site.until_named("page.viewed", 2)
    await page.go_back(wait_until="commit")
    views = await site.until_named("page.viewed", 3)
    assert await page.evaluate("window.kept"), "the page was loaded anew, so this test shows nothing"
    assert [view["path"] for view in views] == ["/one", "/two", "/one"]


async def test_links_to_other_hosts_are_reported_and_others_are_not(site: Site, page: Page) -> None:
    async with serving() as other:
        away = other.add("/there")
        here = site.add("/here")
        body = f"""<a id=here href={here}>stay</a><a id=mail href=mailto:a@x.example>write</a>
            <p data-kaskad-off><a id=off href={away}>hidden</a></p>
            <a id=away href="{away}?utm_source=portal&token=s3cret"><b> Partner
            </b></a>"""
        await page.goto(site.add("/links", body))
        await page.evaluate("() => addEventListener('click', event => event.preventDefault())")
        for link in ("#here", "#mail", "#off"):
            await page.click(link)
        await page.goto(f"{site.origin}/links")
        await page.click("#away b")
        await page.wait_for_url(f"{away}*")
        assert await site.until_named("link.clicked") == [{"url": f"{away}?utm_source=portal", "text": "Partner"}]


async def test_scrolling_and_time_are_reported_when_asked_for(site: Site, page: Page, visitor: BrowserContext) -> None:
    url = site.add("/long", "<div style='height:4000px'>x</div>", 'data-events="pages scroll time"')
    await page.goto(url)
    await page.evaluate("scrollTo(0, 1400)")
    await site.until_named("page.scrolled", 2)
    await page.evaluate("scrollTo(0, 0)")
    await page.evaluate("scrollTo(0, 9999)")
    marks = await site.until_named("page.scrolled", 4)
    assert [mark["percent"] for mark in marks] == [25, 50, 75, 100]
    begun = time.monotonic()
    await page.evaluate("history.pushState({}, '', '/long/next')")
    (first,) = await site.until_named("page.left")
    assert first["path"] == "/long"
    await page.close()
    _, second = await site.until_named("page.left", 2)
    assert second["path"] == "/long/next"
    assert 0 < second["seconds"] <= time.monotonic() - begun + 0.1


async def test_nothing_is_noticed_that_was_not_asked_for(site: Site, page: Page) -> None:
    await page.goto(site.add("/quiet", "<div style='height:4000px'>x</div>", "data-events="))
    await page.evaluate("() => { scrollTo(0, 9999); history.pushState({}, '', '/quiet/2'); kaskad('page'); }")
    await page.evaluate("kaskad('track', 'done.now')")
    await site.until_named("done.now")
    assert [event["name"] for event in site.events] == ["page.viewed", "done.now"]
    assert site.named("page.viewed")[0]["path"] == "/quiet/2"


async def test_the_benchmark_sends_what_the_snippet_sends(site: Site, page: Page) -> None:
    """Names and order of the fields, and the kinds of their values; so that its figure is that of real hits."""
    await page.goto(site.add("/catalog", attributes="data-consent=full"))
    await site.until_named("page.viewed")
    (hit,) = site.hits
    made = Crowd("ks_test", 8000).body(visitor=1, events=1)
    assert shape(made) == shape(hit.body)
    assert hit.headers["content-type"] == "text/plain;charset=UTF-8"


def shape(value: Any) -> Any:
    """Names in their order, and types."""
    if isinstance(value, dict):
        return [(name, shape(inner)) for name, inner in value.items()]
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value)
