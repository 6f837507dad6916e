"""When an arm of a split is better beyond doubt."""

import random

import pytest

from engine.winners import Figures, ahead, better, p_value
from journeys.plan import Arm, Split, Winner

WINNER = Winner(metric="clicked", sample=100)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Figures(200, 40), Figures(200, 20), 0.0051),  # z = 2.8006
        (Figures(1000, 100), Figures(1000, 95), 0.7062),
        (Figures(100, 0), Figures(100, 0), 1.0),
        (Figures(100, 100), Figures(100, 100), 1.0),
    ],
)
def test_p_value_of_the_two_proportion_z_test(one: Figures, other: Figures, expected: float) -> None:
    assert p_value(one, other) == pytest.approx(expected, abs=0.0001)
    assert p_value(other, one) == pytest.approx(expected, abs=0.0001)


def test_a_winner_needs_its_sample_and_significance() -> None:
    assert better({"a": Figures(99, 90), "b": Figures(500, 5)}, WINNER) is None
    assert better({"a": Figures(100, 90), "b": Figures(500, 5)}, WINNER) == "a"
    assert better({"a": Figures(1000, 100), "b": Figures(1000, 95)}, WINNER) is None
    assert better({"a": Figures(200, 40), "b": Figures(200, 20)}, WINNER) == "a"


def test_more_arms_ask_for_more_and_the_best_has_to_beat_every_other() -> None:
    figures = {"a": Figures(200, 34), "b": Figures(200, 20), "c": Figures(200, 20), "d": Figures(200, 20)}
    assert better({"a": figures["a"], "b": figures["b"]}, WINNER) == "a"
    assert better(figures, WINNER) is None
    assert better({**figures, "d": Figures(200, 34), "a": Figures(200, 80)}, WINNER) == "a"
    assert better({"a": Figures(400, 100), "b": Figures(400, 10), "c": Figures(400, 95)}, WINNER) is None


def test_chance_alone_seldom_wins() -> None:
    dice = random.Random(7)
    wins = sum(
        better({arm: Figures(300, sum(dice.random() < 0.1 for _ in range(300))) for arm in "abc"}, WINNER) is not None
        for _ in range(400)
    )
    assert wins / 400 < 0.07


def test_who_is_ahead_at_the_deadline_is_no_holdout() -> None:
    arms = tuple(Arm(name=name, weight=1, next=0) for name in ("a", "b", "holdout"))
    split = Split(id="s", salt="s", arms=arms, holdout="holdout")
    assert ahead({"a": Figures(10, 1), "b": Figures(10, 2), "holdout": Figures(10, 9)}, split) == "b"
    assert ahead({}, split) == "a"
