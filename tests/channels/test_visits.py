"""Telling people from machines: a table."""

from datetime import timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.visits import Earlier, Visit, machine

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:146.0) Gecko/20100101 Firefox/146.0"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("what", "agent", "address", "since", "why"),
    [
        ("opened", FIREFOX, "203.0.113.9", HOUR, None),
        ("clicked", FIREFOX, "2001:db8::1", HOUR, None),
        ("opened", "Mozilla/5.0", "203.0.113.9", HOUR, "program"),
        ("opened", "", "203.0.113.9", HOUR, "program"),
        ("clicked", "python-requests/2.32", "203.0.113.9", HOUR, "program"),
        ("clicked", "Mozilla/5.0 (compatible; Googlebot/2.1)", "203.0.113.9", HOUR, "program"),
        ("clicked", "Mozilla/5.0 … BingPreview/1.0b", "203.0.113.9", HOUR, "program"),
        ("clicked", FIREFOX, "40.94.1.1", HOUR, None),
        ("clicked", FIREFOX, "40.93.1.1", HOUR, "network"),
        ("opened", FIREFOX, "::ffff:17.58.1.1", HOUR, "network"),
        ("opened", GMAIL, "203.0.113.9", timedelta(seconds=5), "proxy"),
        ("opened", GMAIL, "203.0.113.9", HOUR, None),
        ("clicked", FIREFOX, "203.0.113.9", timedelta(seconds=1), "at once"),
        ("clicked", FIREFOX, "203.0.113.9", None, "at once"),
        ("opened", FIREFOX, "testclient", HOUR, None),
    ],
)
def test_who_it_is(
    what: Literal["opened", "clicked"], agent: str, address: str, since: timedelta | None, why: str | None
) -> None:
    assert machine(what, Visit(agent, address), since, "https://a.example") == why


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"url": ""}, "hidden link"),
        ({"earlier": [Earlier(timedelta(seconds=0.5), "https://b.example", False)]}, "many links"),
        ({"earlier": [Earlier(timedelta(seconds=0.5), "https://a.example", False)]}, None),
        ({"earlier": [Earlier(timedelta(seconds=2), "https://b.example", False)]}, None),
        ({"earlier": [Earlier(timedelta(seconds=30), "", True)]}, "hidden link"),
        ({"visit": Visit(FIREFOX, "203.0.113.9", prefetch=True)}, "prefetch"),
    ],
)
def test_what_gives_scanners_away(changes: dict[str, Any], why: str | None) -> None:
    values: dict[str, Any] = {"visit": Visit(FIREFOX, "203.0.113.9"), "since_sent": HOUR, "url": "https://a.example"}
    assert machine("clicked", **{**values, **changes}) == why


@given(st.text(), st.text())
def test_any_visitor_is_judged_without_an_error(agent: str, address: str) -> None:
    machine("clicked", Visit(agent, address), HOUR, "x")
