"""Nothing is lost and nothing doubled while parts are killed; `python -m tests.chaos` plays it with more to say."""

import json

import pytest

from tests.chaos.killer import PARTS
from tests.chaos.play import Options, Result, play


def check(result: Result) -> None:
    """Nothing was lost or doubled, and what was to happen did happen."""
    assert not result.judgement.defects, json.dumps(result.figures(), indent=1)
    assert set(PARTS) <= result.killed.keys()
    assert sum(result.killed.values()) == result.options.kills
    counts = result.judgement.counts
    for outcome in ("silent", "returned", "submitted", "told"):
        assert counts[f"outcome {outcome}"], result.figures()
    assert result.judgement.counts["answers that came too late"] <= result.options.contacts / 10


@pytest.mark.timeout(600)
async def test_each_part_is_killed_once() -> None:
    options = Options(
        contacts=150,
        kills=len(PARTS),
        seed=7,
        wait_seconds=12,
        spread_seconds=8,
        pause_seconds=(0.5, 2.5),
        faults={"cut": 0.03, "swallow": 0.03, "never": 0.03},  # not those after which a letter waits for a minute
    )
    check(await play(options))


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("seed", [1, 2])
async def test_many_kills_of_two_thousand_contacts(seed: int) -> None:
    check(await play(Options(seed=seed)))
