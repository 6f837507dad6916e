"""What figures cost does not depend on how many look, and their age is known."""

import asyncio

import pytest

from core.errors import NotFound
from studio.kept import SHORTEST, TIMES, Kept


class Tables:
    """Something that takes a while to count, by a clock that moves only with it."""

    def __init__(self, seconds: float) -> None:
        self.clock = 100.0
        self.seconds = seconds
        self.counted = 0

    async def count(self) -> int:
        await asyncio.sleep(0)
        self.clock += self.seconds
        self.counted += 1
        return self.counted


async def test_many_who_look_at_once_cause_one_count() -> None:
    tables = Tables(0.5)
    kept = Kept(lambda: tables.clock)
    found = await asyncio.gather(*(kept.get("overview", tables.count) for _ in range(50)))
    assert {one.figures for one in found} == {1} and tables.counted == 1
    assert len({one.at for one in found}) == 1


@pytest.mark.parametrize(("cost", "kept_for"), [(0.001, SHORTEST), (3.0, 3.0 * TIMES)])
async def test_what_is_dear_is_kept_longer(cost: float, kept_for: float) -> None:
    tables = Tables(cost)
    kept = Kept(lambda: tables.clock)
    await kept.get("overview", tables.count)
    tables.clock += kept_for - 0.01
    assert (await kept.get("overview", tables.count)).figures == 1
    tables.clock += 0.02
    assert (await kept.get("overview", tables.count)).figures == 2


async def test_figures_of_different_names_are_apart_and_failures_are_not_kept() -> None:
    tables = Tables(0.1)
    kept = Kept(lambda: tables.clock)

    async def missing() -> int:
        raise NotFound("there is no journey")

    for _ in range(2):
        with pytest.raises(NotFound):
            await kept.get("nothing", missing)
    assert (await kept.get("one", tables.count)).figures == 1
    assert (await kept.get("two", tables.count)).figures == 2
    for number in range(200):
        await kept.get(number, tables.count)
    assert len(kept._figures) <= 100
