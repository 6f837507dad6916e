"""What two contacts become as one, and what each gets back."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts.combining import Facts, Stated, agree, combine, disagree, lay_over, separate
from contacts.profiles import Limits

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
names = st.sampled_from(["city", "age", "score", "plan"])
facts = st.builds(
    Facts,
    st.integers(0, 9).map(lambda n: BEGAN + timedelta(days=n)),
    st.dictionaries(names, st.integers(1, 5)),
    st.lists(st.sampled_from("abcd"), unique=True).map(tuple),
    st.sampled_from([None, "ru", "en"]),
    st.sampled_from([None, "Europe/Moscow"]),
    st.sampled_from([None, 1, 2]),
)


def test_the_winner_counts_and_the_loser_fills_gaps() -> None:
    winner = Facts(BEGAN, {"city": "Moscow", "score": 5}, ("a", "b"), "ru", None, 7)
    loser = Facts(
        BEGAN - timedelta(days=1), {"city": "Tver", "score": 2, "age": 30}, ("c", "a"), "en", "Europe/Moscow", 8
    )
    merged = combine(winner, loser, ["score"], Limits())
    assert merged == Facts(
        BEGAN - timedelta(days=1), {"city": "Moscow", "score": 7, "age": 30}, ("a", "b", "c"), "ru", "Europe/Moscow", 7
    )


def test_what_exceeds_the_limits_is_left_out() -> None:
    winner = Facts(BEGAN, {"a": 1}, ("x",))
    loser = Facts(BEGAN, {"b": 1, "c": 1}, ("y", "z"))
    merged = combine(winner, loser, [], Limits(attributes=2, tags=2))
    assert (merged.attributes, merged.tags) == ({"a": 1, "b": 1}, ("x", "y"))


@given(facts, facts)
def test_separating_at_once_gives_the_winner_as_it_was(winner: Facts, loser: Facts) -> None:
    merged = combine(winner, loser, ["score"], Limits())
    assert separate(merged, merged, winner, loser, ["score"]) == winner


@given(facts, facts, st.dictionaries(names, st.integers(6, 9)))
def test_what_was_written_since_stays(winner: Facts, loser: Facts, since: dict[str, int]) -> None:
    merged = combine(winner, loser, [], Limits())
    now = Facts(merged.created_at, {**merged.attributes, **since}, merged.tags, merged.language, merged.time_zone)
    apart = separate(now, merged, winner, loser, [])
    assert apart.attributes == {**winner.attributes, **since}


def test_scores_given_since_stay_with_the_winner() -> None:
    winner, loser = Facts(BEGAN, {"score": 5}), Facts(BEGAN, {"score": 2})
    merged = combine(winner, loser, ["score"], Limits())
    now = Facts(BEGAN, {"score": 17})
    assert separate(now, merged, winner, loser, ["score"]).attributes == {"score": 15}


def test_late_words_count_over_earlier_ones_and_scores_add() -> None:
    winner = Facts(BEGAN, {"city": "Moscow", "score": 5}, ("a",), "ru")
    late = Facts(BEGAN, {"city": "Tver", "score": 1}, ("b",), None)
    assert lay_over(winner, late, ["score"], Limits()) == Facts(
        BEGAN, {"city": "Tver", "score": 6}, ("a", "b"), "ru", None
    )


KEY = ("email", "marketing")
EARLY, LATE = BEGAN, BEGAN + timedelta(days=1)


@pytest.mark.parametrize(
    ("winner", "loser", "held"),
    [
        (None, (True, EARLY), (True, EARLY)),
        ((False, EARLY), None, (False, EARLY)),
        ((False, EARLY), (True, LATE), (False, EARLY)),  # the visitor's click undoes nothing
        ((True, EARLY), (False, LATE), (False, LATE)),
        ((True, LATE), (False, EARLY), (True, LATE)),  # the known contact agreed later
        ((True, EARLY), (False, EARLY), (False, EARLY)),
        ((True, EARLY), (True, LATE), (True, LATE)),
    ],
)
def test_a_refusal_wins_unless_the_known_contact_agreed_later(
    winner: Stated | None, loser: Stated | None, held: Stated
) -> None:
    mine, other = ({KEY: winner} if winner else {}), ({KEY: loser} if loser else {})
    both = agree(mine, other)
    assert both == {KEY: held}
    assert disagree(both, both, mine, other) == (mine, other)


def test_a_refusal_since_the_merge_counts_for_both() -> None:
    both = agree({}, {KEY: (True, EARLY)})
    refused = (False, LATE)
    assert disagree({KEY: refused}, both, {}, {KEY: (True, EARLY)}) == ({KEY: refused}, {KEY: refused})
