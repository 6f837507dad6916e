"""Sessions: cutting hits, and fitting hits into sessions that are there, in whatever order they come."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.campaigns import arrival
from tracker.spans import Span, Step, count, cut, fit

GAP = timedelta(minutes=30)
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
URLS = ("https://a.example/", "https://a.example/?utm_source=x", "https://a.example/?utm_source=y")


def step(minutes: float, campaign: int = 0, referrer: str | None = None, is_page: bool = True) -> Step:
    url = URLS[campaign]
    return Step(START + timedelta(minutes=minutes), url, referrer, arrival(url, referrer), is_page)


def told(spans: list[Span]) -> list[tuple[object, ...]]:
    return [(one.started_at, one.ended_at, one.pages, one.exit_url, one.traffic) for one in spans]


def test_a_session_ends_after_silence_and_with_a_new_campaign() -> None:
    spans = cut([step(0), step(30), step(60.1), step(61, 1), step(62), step(63, 1), step(64, 2)], GAP)
    assert [(one.pages, one.traffic.source) for one in spans] == [(2, "direct"), (1, "direct"), (3, "x"), (1, "y")]
    assert spans[2].exit_url == URLS[1]
    assert spans[0].ended_at - spans[0].started_at == GAP


def test_only_page_views_are_pages() -> None:
    (span,) = cut([step(0), step(1, is_page=False), step(2)], GAP)
    assert span.pages == 2


def test_a_referrer_begins_no_session() -> None:
    (span,) = cut([step(0, referrer="https://www.google.com/"), step(1, referrer="https://vk.com/")], GAP)
    assert (span.traffic.source, span.traffic.medium) == ("google", "organic")


def arrive(batches: list[list[Step]]) -> list[Span]:
    """What is written when hits come in batches: as `sessions.record` does, with a list for the table and the log."""
    table: list[Span] = []
    log: list[Step] = []
    for batch in batches:
        steps = sorted(batch, key=lambda one: one.at)
        first, last = steps[0].at, steps[-1].at + GAP
        before = [one for one in table if one.started_at <= first]
        near = before[-1:] + [one for one in table if first < one.started_at <= last]
        fitted = fit(near, steps, GAP)
        log = sorted([*log, *steps], key=lambda one: one.at)
        if fitted is None:
            table = cut(log, GAP)
        else:
            table = sorted(
                [*[one for one in table if all(one is not other for other in near)], *fitted],
                key=lambda one: one.started_at,
            )
    return table


hits = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 2), st.booleans()),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one[0],
)


@given(hits, st.randoms(use_true_random=False), st.integers(1, 3))
def test_the_order_in_which_hits_arrive_does_not_matter(
    found: list[tuple[int, int, bool]], chance: object, size: int
) -> None:
    steps = [step(minutes, campaign, is_page=is_page) for minutes, campaign, is_page in found]
    wanted = told(cut(sorted(steps, key=lambda one: one.at), GAP))
    chance.shuffle(steps)  # type: ignore[attr-defined]
    batches = [steps[at : at + size] for at in range(0, len(steps), size)]
    assert told(arrive(batches)) == wanted


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_late_campaign_splits_a_session(order: tuple[int, ...]) -> None:
    steps = [step(0), step(10), step(20, 1), step(30)]
    assert [one.pages for one in arrive([[steps[number]] for number in order])] == [2, 2]


@given(hits, hits)
def test_what_is_only_counted_counts_once_and_keeps_the_order(
    there: list[tuple[int, int, bool]], late: list[tuple[int, int, bool]]
) -> None:
    spans = cut(sorted((step(*one) for one in [(m, c) for m, c, _ in there]), key=lambda one: one.at), GAP)
    pages = sum(one.pages for one in spans) + len(late)
    steps = sorted((step(minutes, campaign) for minutes, campaign, _ in late), key=lambda one: one.at)
    counted = count(spans, steps, GAP)
    assert sum(one.pages for one in counted) == pages
    assert [one.started_at for one in counted] == sorted(one.started_at for one in counted)
    assert all(one.started_at <= one.ended_at for one in counted)
