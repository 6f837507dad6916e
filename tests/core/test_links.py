"""Links that lead to the same place are one link, and others stay apart."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.links import normal


@pytest.mark.parametrize(
    ("written", "one"),
    [
        ("https://shop.example", "https://shop.example/"),
        ("HTTPS://Shop.Example:443/Good", "https://shop.example/Good"),
        ("http://shop.example:80?a=1", "http://shop.example/?a=1"),
        ("https://shop.example:8443/", "https://shop.example:8443/"),
        (" https://shop.example/%7euser/%d0%bf\n", "https://shop.example/~user/%D0%BF"),
        ("https://shop.example/п?q=да#ё", "https://shop.example/%D0%BF?q=%D0%B4%D0%B0#%D1%91"),
        ("https://пример.рф/", "https://xn--e1afmkfd.xn--p1ai/"),
        ("https://[2001:DB8::1]:443/x", "https://[2001:db8::1]/x"),
        ("https://Anna:Se%2fcret@shop.example/", "https://Anna:Se%2fcret@shop.example/"),
        ("https://shop.example/a%2fb", "https://shop.example/a%2Fb"),
    ],
)
def test_one_place_is_one_link(written: str, one: str) -> None:
    assert normal(written) == one


@pytest.mark.parametrize(
    "url", ["https://a.example/x/", "https://a.example/?b=1&a=2", "https://a.example/#no", "mailto:Anna@a.example", "ж"]
)
def test_what_may_lead_elsewhere_stays(url: str) -> None:
    assert normal(url) == url


@given(st.text())
def test_anything_comes_back(url: str) -> None:
    assert normal(normal(url)) == normal(url)


_PIECE = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/?#\\%"), max_size=8)


@given(st.lists(_PIECE, max_size=3), st.dictionaries(st.text("abc", min_size=1), _PIECE, max_size=3))
def test_a_server_is_told_the_same(path: list[str], query: dict[str, str]) -> None:
    pairs = [(name, value.replace("&", "").replace("+", "").strip()) for name, value in query.items()]
    url = "https://a.example/" + "/".join(piece.strip() for piece in path) + "?" + "&".join("=".join(p) for p in pairs)
    once = normal(url)
    assert normal(once) == once
    found = dict(parse_qsl(urlsplit(once).query, keep_blank_values=True))
    assert found == dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
