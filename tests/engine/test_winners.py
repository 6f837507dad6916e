"""When an arm of a split is better beyond doubt."""

import random

import pytest

from engine.winners import Figures, Looks, ahead, better, is_due, p_value
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
    assert not is_due({"a": Figures(99, 90), "b": Figures(500, 5)}, WINNER, Looks())
    assert is_due({"a": Figures(100, 90), "b": Figures(500, 5)}, WINNER, Looks())
    assert not is_due({"a": Figures(100, 90)}, WINNER, Looks())
    assert not is_due({"a": Figures(1000, 9), "b": Figures(1000, 0)}, WINNER, Looks())
    assert better({"a": Figures(100, 90), "b": Figures(500, 5)}, WINNER, 1) == "a"
    assert better({"a": Figures(1000, 100), "b": Figures(1000, 95)}, WINNER, 1) is None
    assert better({"a": Figures(200, 40), "b": Figures(200, 20)}, WINNER, 1) == "a"


def test_it_is_looked_again_at_twice_the_successes_and_each_look_asks_for_more() -> None:
    figures = {"a": Figures(200, 40), "b": Figures(200, 20)}
    assert not is_due(figures, WINNER, Looks(1, 31))
    assert is_due(figures, WINNER, Looks(1, 30))
    p = p_value(figures["a"], figures["b"])
    asked = [0.05 / (look * (look + 1)) for look in range(1, 4)]
    assert [better(figures, WINNER, look) for look in range(1, 4)] == ["a" if p <= most else None for most in asked]
    assert asked[1] > p > asked[2]
    assert sum(0.05 / (look * (look + 1)) for look in range(1, 10_000)) <= 0.05


def test_more_arms_ask_for_more_and_the_best_has_to_beat_every_other() -> None:
    figures = {"a": Figures(200, 38), "b": Figures(200, 20), "c": Figures(200, 20), "d": Figures(200, 20)}
    assert better({"a": figures["a"], "b": figures["b"]}, WINNER, 1) == "a"
    assert better(figures, WINNER, 1) is None
    assert better({**figures, "d": Figures(200, 34), "a": Figures(200, 80)}, WINNER, 1) == "a"
    assert better({"a": Figures(400, 100), "b": Figures(400, 10), "c": Figures(400, 95)}, WINNER, 1) is None


def watch(dice: random.Random, rates: dict[str, float], looks: int = 100, each: int = 50) -> str | None:
    """The winner of arms into which contacts come a few at a time, when it is asked after each few."""
    figures, before = dict.fromkeys(rates, Figures(0, 0)), Looks()
    for _ in range(looks):
        for arm, rate in rates.items():
            more = sum(dice.random() < rate for _ in range(each))
            figures[arm] = Figures(figures[arm].contacts + each, figures[arm].successes + more)
        if is_due(figures, WINNER, before):
            before = Looks(before.number + 1, sum(one.successes for one in figures.values()))
            won = better(figures, WINNER, before.number)
            if won is not None:
                return won
    return None


@pytest.mark.parametrize("arms", ["ab", "abc"])
def test_chance_alone_wins_no_more_often_than_promised_however_often_it_is_asked(arms: str) -> None:
    dice = random.Random(7)
    wins = sum(watch(dice, dict.fromkeys(arms, 0.1)) is not None for _ in range(300))
    assert wins / 300 <= 0.05


def test_a_better_arm_is_found() -> None:
    dice = random.Random(7)
    found = [watch(dice, {"a": 0.1, "b": 0.14}) for _ in range(50)]
    assert found.count("b") >= 45
    assert found.count("a") <= 1


def test_who_is_ahead_at_the_deadline_is_no_holdout() -> None:
    arms = tuple(Arm(name=name, weight=1, next=0) for name in ("a", "b", "holdout"))
    split = Split(id="s", salt="s", arms=arms, holdout="holdout")
    assert ahead({"a": Figures(10, 1), "b": Figures(10, 2), "holdout": Figures(10, 9)}, split) == "b"
    assert ahead({}, split) == "a"
