"""What is told from URLs, referrers, User-Agent headers, addresses and origins."""

import ipaddress
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from core import addresses
from core.errors import InvalidInput
from core.settings import Settings
from tests.tracker.site_world import FIREFOX, IPHONE
from tracker import agents, hits, origins
from tracker.campaigns import Traffic, arrival, outside
from tracker.gate import Gate
from tracker.throttle import Throttle

PAGE = "https://a.example/"


@pytest.mark.parametrize(
    ("url", "referrer", "traffic", "is_campaign", "click"),
    [
        ("", "", ("direct", "direct"), False, None),
        (
            "?utm_source=a&utm_medium=b&utm_campaign=c&utm_term=d&utm_content=e",
            "",
            ("a", "b", "c", "d", "e"),
            True,
            None,
        ),
        ("?utm_campaign=may", "https://www.google.com/", ("unknown", "campaign", "may"), True, None),
        ("?UTM_Source=%20two%20%20words%0A", "", ("two words", "referral"), True, None),
        ("?utm_source=&x=1", "", ("direct", "direct"), False, None),
        ("?gclid=abc", "https://www.google.com/", ("google", "cpc"), True, "gclid=abc"),
        ("?gclid=abc&utm_source=n&utm_medium=m", "", ("n", "m"), True, "gclid=abc"),
        ("?yclid=1", "", ("yandex", "cpc"), True, "yclid=1"),
        ("?fbclid=1", "", ("facebook", "social"), False, None),
        ("?ysclid=1", "https://yandex.ru/", ("yandex", "organic"), False, None),
        ("?ref=partner", "", ("partner", "referral"), True, None),
        ("#?utm_source=x", "", ("direct", "direct"), False, None),
        ("", "https://www.google.de/", ("google", "organic"), False, None),
        ("", "https://www.google.co.uk/search?q=1", ("google", "organic"), False, None),
        ("", "https://google.evil.example.com/", ("google.evil.example.com", "referral"), False, None),
        ("", "https://notgoogle.com/", ("notgoogle.com", "referral"), False, None),
        ("", "https://ya.ru/", ("yandex", "organic"), False, None),
        ("", "https://aya.ru/", ("aya.ru", "referral"), False, None),
        ("", "https://search.brave.com/", ("brave", "organic"), False, None),
        ("", "https://go.mail.ru/search", ("mail.ru", "organic"), False, None),
        ("", "https://l.facebook.com/l.php", ("facebook", "social"), False, None),
        ("", "https://t.co/x", ("twitter", "social"), False, None),
        ("", "https://www.vk.com/away", ("vk", "social"), False, None),
        ("", "https://mail.google.com/mail/u/0", ("gmail", "email"), False, None),
        ("", "android-app://com.google.android.gm/", ("gmail", "email"), False, None),
        ("", "https://news.example/x?y", ("news.example", "referral"), False, None),
        ("", "https://[::1", ("direct", "direct"), False, None),
        ("", "https://\0", ("direct", "direct"), False, None),
        ("", "https://a\0b.example/", ("ab.example", "referral"), False, None),
    ],
)
def test_arrivals(url: str, referrer: str, traffic: tuple[str, ...], is_campaign: bool, click: str | None) -> None:
    found = arrival(PAGE + url, referrer)
    assert (found.traffic, found.is_campaign, found.click) == (Traffic(*traffic), is_campaign, click)


@given(st.text(), st.text())
def test_any_url_tells_something_that_can_be_stored(url: str, referrer: str) -> None:
    found = arrival(f"{PAGE}?utm_source={url}&utm_term={url}", f"https://{referrer}")
    for text in (found.traffic.source, found.traffic.medium, found.traffic.term, found.click):
        assert text is None or (0 < len(text) <= 220 and "\0" not in text)


def test_pages_of_the_same_host_are_no_referrers() -> None:
    assert outside("https://a.example/x", "https://a.example/y") is None
    assert outside("https://a.example/x", "https://b.a.example/y") == "https://b.a.example/y"


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (FIREFOX, ("Firefox", "Linux", "desktop")),
        (IPHONE, ("Safari", "iOS", "mobile")),
        (IPHONE.replace("iPhone; CPU iPhone OS", "iPad; CPU OS"), ("Safari", "iOS", "tablet")),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 "
            "Mobile Safari/537.36",
            ("Chrome", "Android", "mobile"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 13; SM-T870) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 "
            "Safari/537.36",
            ("Chrome", "Android", "tablet"),
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 "
            "YaBrowser/25.10.0.0 Safari/537.36",
            ("Yandex Browser", "Windows", "desktop"),
        ),
        (
            "Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/538.1 Version/6.0 TV Safari/538.1",
            ("Safari", "Tizen", "tv"),
        ),
        ("nothing that anybody knows", (None, None, None)),
    ],
)
def test_agents(header: str, told: tuple[str | None, ...]) -> None:
    found = agents.read(header)
    assert not found.is_bot
    assert (found.browser, found.os, found.device) == told


@pytest.mark.parametrize(
    ("header", "make"),
    [
        (IPHONE, ("Apple", "iPhone")),
        ("Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 Chrome/142.0.0.0", ("Samsung", "SM-S918B")),
        ("Mozilla/5.0 (Linux; Android 13; 2201116SG) AppleWebKit/537.36 Chrome/142.0.0.0", (None, "2201116SG")),
        ("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/142.0.0.0 Mobile", (None, None)),
        (FIREFOX, (None, None)),
    ],
)
def test_who_made_the_device_is_told_where_the_header_says_it(header: str, make: tuple[str | None, ...]) -> None:
    found = agents.read(header)
    assert (found.brand, found.model) == make


def test_of_long_headers_little_is_remembered(settings: Settings) -> None:
    """In bytes: a hundred headers of a megabyte, each another one."""
    gate = Gate(settings.model_copy(update={"trusted_proxies": "127.0.0.1"}))
    agents.prepare()
    assert agents.read(FIREFOX + "x" * 100_000).browser == "Firefox"

    def ask(number: int) -> None:
        long = str(number) + "x" * 1_000_000
        headers = Headers({"user-agent": f"{long} {FIREFOX}", "x-forwarded-for": f"192.0.2.1, {long}"})
        caller = gate.caller("127.0.0.1", headers)
        assert caller.agent.browser is None and caller.agent_header.startswith(str(number))

    ask(-1)
    tracemalloc.start()
    try:
        for number in range(100):
            ask(number)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


def test_who_asks_too_often_is_turned_away_before_the_agent_is_looked_at(settings: Settings) -> None:
    """That takes a hundred times as long as all else."""
    gate = Gate(settings)
    looked = agents._read.cache_info().misses
    caller = gate.caller("192.0.2.1", Headers({"user-agent": f"{FIREFOX} of somebody new"}))
    assert gate.may_ask(caller, 1)
    assert agents._read.cache_info().misses == looked
    assert caller.agent.browser == "Firefox"
    assert agents._read.cache_info().misses == looked + 1


@pytest.mark.parametrize(
    ("peer", "forwarded", "wanted"),
    [
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("10.0.0.1", "1.2.3.4, 192.0.2.7, 10.0.0.9", "192.0.2.7"),
        ("192.0.2.9", "1.2.3.4", "192.0.2.9"),
        ("10.0.0.1", "1.2.3.4, what", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ("::ffff:10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("nobody", "1.2.3.4", None),
    ],
)
def test_the_visitors_address(peer: str, forwarded: str, wanted: str | None) -> None:
    found = addresses.visitor(peer, forwarded, addresses.networks(["10.0.0.0/8"]))
    assert found == (ipaddress.ip_address(wanted) if wanted else None)


@given(st.ip_addresses())
def test_truncating_keeps_the_network_and_nothing_else(address: addresses.Address) -> None:
    bits = 24 if address.version == 4 else 48
    assert addresses.truncated(address) == ipaddress.ip_network((address, bits), strict=False).network_address


def test_one_subscriber_is_one_bucket() -> None:
    one, other = addresses.read("2001:db8::1:2:3:4"), addresses.read("2001:db8::9")
    assert addresses.bucket(addresses.read("2001:db8:0:0:1::1")) == addresses.bucket(other) == "2001:db8::"
    assert addresses.bucket(one) == "2001:db8::"
    assert addresses.bucket(addresses.read("2001:db8:0:1::1")) != addresses.bucket(other)


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ("https://Example.COM/", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://*.example.com", "https://*.example.com"),
        ("https://пример.рф", "https://xn--e1afmkfd.xn--p1ai"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("*", "*"),
    ],
)
def test_origins_have_one_form(given_: str, wanted: str) -> None:
    assert origins.normalise(given_) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "ftp://a.example",
        "https://a.example/b",
        "https://a@b.example",
        "https://a.*.example",
        "null",
        "https://a.example:99999",
        "https://a.example\r\nx: y",
        "https://",
        "https://?",
    ],
)
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(InvalidInput):
        origins.normalise(text)


def test_buckets_fill_again_and_are_bounded() -> None:
    throttle = Throttle(rate=2, burst=4, remembered=3)
    assert [throttle.allows("a", 2, 0) for _ in range(3)] == [True, True, False]
    assert not throttle.allows("a", 2, 0.5)
    assert throttle.allows("a", 2, 1.0)
    assert throttle.allows("b", 100, 0), "what is larger than the bucket passes when it is full"
    assert not throttle.allows("b", 1, 0)
    for number in range(100):
        throttle.allows(f"c{number}", 1, 2)
    assert len(throttle) == 3


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("ru-RU", "ru-RU"), ("EN-us", "en-US"), ("zh-hant-tw", "zh-Hant-TW"), ("x" * 40, None), ("<b>", None), ("", None)],
)
def test_languages(text: str, wanted: str | None) -> None:
    assert hits.language(text) == wanted
