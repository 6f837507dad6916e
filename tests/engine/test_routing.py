"""What a round of events comes to: entries, news, re-entry, and the same again after a crash."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Literal

import pytest

from engine.routing import ENTER, Enrolled, LoggedEvent, Round, Routed
from engine.versions import Version
from journeys.plan import (
    ANY_EVENT,
    FINISHED,
    OWN_ENROLLMENT,
    End,
    Entry,
    EventFilter,
    Plan,
    Subscription,
    Until,
    Wait,
)

START = datetime(2026, 11, 1, tzinfo=UTC)


def version(
    *, reenter: Literal["never", "after_exit", "always"] = "after_exit", cooldown: float = 0, criteria: bool = False
) -> Version:
    same = {"application": {"same": "application"}}
    plan = Plan(
        journey="unfinished",
        title="Unfinished",
        entry=Entry(
            event=EventFilter(event="saved", where={"status": "draft"}),
            criteria={"contact.consents": "email"} if criteria else None,
            key="application",
            reenter=reenter,
            cooldown_seconds=cooldown,
        ),
        steps=(
            Wait(id="w", seconds=60, until=(Until(subscription=0, next=1),), next=1),
            End(id="end", outcome="end"),
        ),
        subscriptions=(
            Subscription(role="wait", filter=EventFilter(event="changed", where=same)),
            Subscription(role="goal", filter=EventFilter(event="submitted", where=same), outcome="submitted"),
        ),
    )
    return Version(3, 1, "unfinished", plan, plan.model_dump(mode="json"))


def event(number: int, name: str, contact: int = 1, **properties: Any) -> LoggedEvent:
    at = START + timedelta(seconds=number)
    return LoggedEvent(number, at, at, contact, name, properties)


def saved(number: int, application: Any = "a", contact: int = 1) -> LoggedEvent:
    return event(number, "saved", contact, status="draft", application=application)


def route(
    events: Sequence[LoggedEvent],
    enrolled: Sequence[Enrolled] = (),
    one: Version | None = None,
    *,
    allowed: bool = True,
) -> Routed:
    one = one or version()
    ids = count(100)
    work = Round(
        {one.id: one},
        {"saved": [one], ENTER: [one]},
        enrolled,
        lambda _version, _contact: allowed,
        lambda: next(ids),
    )
    for item in events:
        work.take(item)
    return work.end()


def running(number: int = 50, key: str = "a", **changes: Any) -> Enrolled:
    values: dict[str, Any] = {
        "id": number,
        "contact_id": 1,
        "cohort_id": 9,
        "version_id": 3,
        "journey_id": 1,
        "key": key,
        "entered_at": START,
        "entry_event_id": 1,
        "closed_by": None,
        "finished": False,
        "entering": False,
        "correlation": {"application": key},
    }
    return Enrolled(**{**values, **changes})


def test_event_that_matches_begins_an_enrollment_with_its_key_and_correlation() -> None:
    (entry,) = route([saved(10, 42)]).entries
    assert (entry.contact_id, entry.key, entry.correlation, entry.exclusive) == (1, "42", {"application": 42}, True)


def test_event_whose_properties_differ_begins_nothing() -> None:
    assert route([event(10, "saved", status="final")]).entries == []


def test_contact_that_does_not_meet_the_criteria_stays_out() -> None:
    assert route([saved(10)], one=version(criteria=True), allowed=False).entries == []
    assert len(route([saved(10)], one=version(criteria=True), allowed=True).entries) == 1


def test_one_enrollment_for_each_key() -> None:
    assert [entry.key for entry in route([saved(10, "a"), saved(11, "b"), saved(12, "a")]).entries] == ["a", "b"]


def test_correlated_event_is_news_only_to_its_own_enrollment() -> None:
    both = [running(50, "a"), running(51, "b")]
    assert route([event(10, "changed", application="b")], both).heard == [(10, 51, 0, 3)]


def test_goal_closes_and_frees_the_place_within_one_round() -> None:
    routed = route([saved(10), event(11, "submitted", application="a"), saved(12)])
    first, second = routed.entries
    assert routed.closed == {first.id: 11}
    assert routed.heard == [(11, first.id, 1, 3)]
    assert second.event.id == 12


def test_entry_before_the_goal_is_refused() -> None:
    routed = route([saved(10), event(11, "submitted", application="a")], [running()])
    assert routed.entries == []
    assert routed.closed == {50: 11}


def test_closed_enrollment_hears_nothing_more() -> None:
    events = [event(10, "submitted", application="a"), event(11, "changed", application="a")]
    assert route(events, [running()]).heard == [(10, 50, 1, 3)]


def test_event_from_before_the_entry_is_not_news_to_it() -> None:
    assert route([event(10, "changed", application="a")], [running(entry_event_id=12)]).heard == []


@pytest.mark.parametrize(
    ("reenter", "earlier", "enters"),
    [
        ("never", running(finished=True), False),
        ("never", running(key="b", finished=True), True),
        ("after_exit", running(), False),
        ("after_exit", running(finished=True), True),
        ("after_exit", running(closed_by=5), True),
        ("always", running(), True),
    ],
)
def test_reentry(reenter: Literal["never", "after_exit", "always"], earlier: Enrolled, enters: bool) -> None:
    assert bool(route([saved(10)], [earlier], version(reenter=reenter)).entries) is enters


def test_cooldown_counts_from_the_last_entry() -> None:
    cool = version(cooldown=100)
    assert route([saved(99)], [running(finished=True)], cool).entries == []
    assert len(route([saved(100)], [running(finished=True)], cool).entries) == 1


def test_without_a_cooldown_an_entry_that_was_written_down_late_keeps_nobody_out() -> None:
    late = running(entered_at=START + timedelta(seconds=60))
    assert len(route([saved(10)], [late], version(reenter="always")).entries) == 1


def test_entering_by_request_names_the_journey() -> None:
    assert len(route([event(10, ENTER, journey="unfinished", key="x")]).entries) == 1
    assert route([event(10, ENTER, journey="other", key="x")]).entries == []


def test_round_done_again_makes_nothing_twice_and_tells_again_what_may_not_have_been_heard() -> None:
    events = [saved(10), event(11, "changed", application="a"), event(12, "submitted", application="a"), saved(13)]
    first = route(events)
    # What the first try wrote, before it died without telling anybody:
    written = [
        running(
            entry.id,
            entry_event_id=entry.event.id,
            closed_by=first.closed.get(entry.id),
            entering=True,
            entered_at=entry.event.received_at,
        )
        for entry in first.entries
    ]
    again = route(events, written)
    assert again.entries == []
    assert again.unsure == {entry.id for entry in first.entries}
    assert again.heard == first.heard
    assert again.closed == first.closed


def test_long_keys_are_shortened_and_still_tell_apart() -> None:
    one, other = route([saved(10, "x" * 500 + "a"), saved(11, "x" * 500 + "b")]).entries
    assert len(one.key) == 64
    assert one.key != other.key


def parented(number: int, journey: str = "unfinished", contact: int = 1) -> LoggedEvent:
    return event(number, ENTER, contact, journey=journey, key="a", parent=77)


def test_a_request_of_another_journey_that_comes_to_nothing_is_told() -> None:
    routed = route([parented(10)], [running()])
    assert (routed.entries, [one.id for one in routed.refused]) == ([], [10])
    assert [one.id for one in route([parented(10, "nowhere")]).refused] == [10]
    assert route([parented(10)]).refused == []
    assert route([event(10, ENTER, journey="unfinished", key="a")], [running()]).refused == []


def test_a_round_that_is_repeated_refuses_nobody_who_has_entered() -> None:
    assert route([parented(10)], [running(entry_event_id=10)]).refused == []


def test_a_watch_hears_every_event_and_closes_nothing() -> None:
    plan = version().plan
    watch = Subscription(role="watch", filter=EventFilter(event=ANY_EVENT))
    watching = plan.model_copy(update={"subscriptions": (*plan.subscriptions, watch)})
    one = Version(3, 1, "unfinished", watching, {})
    happened = [event(10, "page.viewed"), event(11, "changed", application="a"), event(12, "page.viewed", contact=2)]
    routed = route(happened, [running(), running(51, contact_id=2)], one)
    # Of the first contact's events the last is told.
    assert routed.heard == [(11, 50, 0, 3), (11, 50, 2, 3), (12, 51, 2, 3)]
    assert routed.closed == {}


def test_the_end_of_another_journey_is_news_to_the_parent_alone() -> None:
    plan = version().plan
    own = EventFilter(event=FINISHED, where={"parent": {"same": OWN_ENROLLMENT}})
    parent = plan.model_copy(update={"subscriptions": (Subscription(role="wait", filter=own),)})
    routed = route(
        [event(10, FINISHED, parent=51, outcome="done")],
        [running(50), running(51, "b")],
        Version(3, 1, "unfinished", parent, {}),
    )
    assert routed.heard == [(10, 51, 0, 3)]
