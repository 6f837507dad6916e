"""Where a visit came from, told by the page's URL and its referrer. Pure.

A URL that carries campaign parameters (`utm_*`) or an advertiser's click id belongs to a campaign. Otherwise the
referrer decides: a search engine is `organic`, a social network `social`, a web mail `email`, any other site
`referral`, and none, or the site itself, `direct`. The tables hold what a marketer looks for by name; hosts that are
in none of them are referrals under their own name, so nothing gets lost.
"""

from functools import lru_cache
from urllib.parse import parse_qsl, urlsplit

import msgspec

VALUE_LENGTH = 200
_REMEMBERED = 4096
_PARAMETERS = 100

CLICKS = {
    "gclid": ("google", "cpc"),
    "gbraid": ("google", "cpc"),
    "wbraid": ("google", "cpc"),
    "dclid": ("google", "display"),
    "yclid": ("yandex", "cpc"),
    "msclkid": ("bing", "cpc"),
    "ttclid": ("tiktok", "cpc"),
    "twclid": ("twitter", "cpc"),
    "li_fat_id": ("linkedin", "cpc"),
    "rb_clickid": ("vk", "cpc"),
}
"""Parameters that advertisers add to links people paid for, and the source and medium they stand for."""

_UNPAID_CLICKS = {"fbclid": ("facebook", "social"), "ysclid": ("yandex", "organic")}
"""Added to every outgoing link, paid for or not: they name the source and are no campaign."""

_SOURCES = ("utm_source", "source", "ref", "from")

_SEARCH = {
    "google": "google",
    "bing": "bing",
    "yandex": "yandex",
    "ya.ru": "yandex",
    "duckduckgo": "duckduckgo",
    "baidu": "baidu",
    "yahoo": "yahoo",
    "ecosia": "ecosia",
    "qwant": "qwant",
    "startpage": "startpage",
    "search.brave": "brave",
    "naver": "naver",
    "seznam": "seznam",
    "kagi": "kagi",
    "sogou": "sogou",
    "so.com": "so.com",
    "go.mail.ru": "mail.ru",
    "nova.rambler": "rambler",
    "ask.com": "ask.com",
    "aol": "aol",
    "petalsearch": "petalsearch",
    "swisscows": "swisscows",
    "mojeek": "mojeek",
}
_SOCIAL = {
    "facebook.com": "facebook",
    "fb.com": "facebook",
    "fb.me": "facebook",
    "instagram.com": "instagram",
    "t.co": "twitter",
    "twitter.com": "twitter",
    "x.com": "twitter",
    "linkedin.com": "linkedin",
    "lnkd.in": "linkedin",
    "vk.com": "vk",
    "vk.ru": "vk",
    "ok.ru": "odnoklassniki",
    "t.me": "telegram",
    "telegram.org": "telegram",
    "youtube.com": "youtube",
    "youtu.be": "youtube",
    "pinterest.com": "pinterest",
    "reddit.com": "reddit",
    "tiktok.com": "tiktok",
    "threads.net": "threads",
    "threads.com": "threads",
    "whatsapp.com": "whatsapp",
    "wa.me": "whatsapp",
    "bsky.app": "bluesky",
    "weibo.com": "weibo",
    "dzen.ru": "dzen",
    "quora.com": "quora",
    "tumblr.com": "tumblr",
    "discord.com": "discord",
    "snapchat.com": "snapchat",
    "xing.com": "xing",
    "habr.com": "habr",
}
_APPS = {"com.google.android.googlequicksearchbox": ("google", "organic"), "com.google.android.gm": ("gmail", "email")}
_MAIL = {
    "mail.google.com": "gmail",
    "mail.yahoo.com": "yahoo",
    "outlook.live.com": "outlook",
    "outlook.office.com": "outlook",
    "outlook.office365.com": "outlook",
    "e.mail.ru": "mail.ru",
    "mail.yandex.ru": "yandex",
    "mail.yandex.com": "yandex",
}


class Traffic(msgspec.Struct, frozen=True, gc=False):
    """What brought a visit: each at most 200 characters."""

    source: str
    medium: str
    campaign: str | None = None
    term: str | None = None
    content: str | None = None


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """What a page's URL and referrer say about how somebody came to it."""

    traffic: Traffic
    is_campaign: bool = False
    click: str | None = None
    """An advertiser's click id with its parameter's name, as in `gclid=…`."""


DIRECT = Arrival(Traffic("direct", "direct"))


@lru_cache(_REMEMBERED)
def arrival(url: str, referrer: str | None) -> Arrival:
    """Tell how somebody came to a page.

    Args:
        url: of the page, as `hits` lets it pass.
        referrer: the page before, if it is on another host, which `outside` tells.
    """
    found = _from_parameters(url) if "?" in url else None
    return found or (_from_referrer(referrer) if referrer else DIRECT)


def outside(url: str, referrer: str | None) -> str | None:
    """The referrer, unless it is a page of the same host."""
    if not referrer or referrer.partition("://")[2].partition("/")[0] == url.partition("://")[2].partition("/")[0]:
        return None
    return referrer


def _from_parameters(url: str) -> Arrival | None:
    given: dict[str, str] = {}
    query = url.partition("#")[0].partition("?")[2]
    for name, value in parse_qsl(query, max_num_fields=_PARAMETERS) if query.count("&") < _PARAMETERS else ():
        if text := _clean(value):
            given.setdefault(name.lower(), text)
    click = next((name for name in CLICKS if name in given), None)
    paid = CLICKS[click] if click else None
    named = next((given[name] for name in _SOURCES if name in given), None)
    if named or click or "utm_campaign" in given or "utm_medium" in given:
        traffic = Traffic(
            source=named or (paid[0] if paid else "unknown"),
            medium=given.get("utm_medium")
            or (paid[1] if paid else None)
            or ("campaign" if "utm_campaign" in given else "referral"),
            campaign=given.get("utm_campaign"),
            term=given.get("utm_term"),
            content=given.get("utm_content"),
        )
        return Arrival(traffic, is_campaign=True, click=f"{click}={given[click]}" if click else None)
    for name, (source, medium) in _UNPAID_CLICKS.items():
        if name in given:
            return Arrival(Traffic(source, medium))
    return None


def _clean(value: str) -> str:
    """A told value on one line, without what PostgreSQL cannot store."""
    return " ".join(value.replace("\0", "").split())[:VALUE_LENGTH]


def _from_referrer(referrer: str) -> Arrival:
    try:
        host = _clean(urlsplit(referrer).hostname or "").removeprefix("www.")
    except ValueError:
        host = ""
    if not host:
        return DIRECT
    source, medium = _APPS.get(host) or _known(host) or (host, "referral")
    return Arrival(Traffic(source, medium))


def _known(host: str) -> tuple[str, str] | None:
    """The source and medium of a web mail, a social network or a search engine."""
    if host in _MAIL:
        return _MAIL[host], "email"
    for known, name in _SOCIAL.items():
        if host == known or host.endswith("." + known):
            return name, "social"
    return next(((name, "organic") for engine, name in _SEARCH.items() if _is_of(host, engine)), None)


def _is_of(host: str, engine: str) -> bool:
    """Whether a host is a search engine's: with any top-level domain if the table names none (google.de,
    google.co.uk).
    """
    if host == engine:
        return True
    before, found, after = f".{host}".rpartition(f".{engine}")
    if not found:
        return False
    if "." in engine and engine not in {"search.brave", "nova.rambler"}:
        return not after
    # Only the engine's own pages: news.google.com refers, too, but is no search. A top-level domain has one or two
    # parts.
    return before in {"", ".m", ".search", ".cse"} and after.startswith(".") and after.count(".") <= 2
