"""Duties beside a process's work: they go on after any error, wait longer after each, and end when they are told to."""

import asyncio
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

from core import periodic
from core.errors import DatabaseUnavailable
from core.periodic import repeat, repeating


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EventDict]]:
    """What is logged; retries come after milliseconds."""
    monkeypatch.setattr(periodic, "_SOONEST", 0.001)
    monkeypatch.setattr(periodic, "_LATEST", 0.004)
    monkeypatch.setattr(periodic, "_log", structlog.get_logger())
    with capture_logs() as logs:
        yield logs


class Turns:
    """A duty that fails as often as it is told, and then asks to stop."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.done = 0
        self.stop = asyncio.Event()

    async def __call__(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.done += 1
        self.stop.set()


async def test_any_error_is_logged_and_tried_again_later_each_time(said: list[EventDict]) -> None:
    turns = Turns(KeyError("a"), ValueError("b"), KeyError("c"), KeyError("d"))
    await repeat(turns, 60, name="counting", stop=turns.stop)
    assert turns.done == 1
    assert [one["again_in"] for one in said] == [0.001, 0.002, 0.004, 0.004]
    assert {one["log_level"] for one in said} == {"error"} and {one["duty"] for one in said} == {"counting"}
    assert [type(one["exc_info"]) for one in said] == [KeyError, ValueError, KeyError, KeyError]


async def test_what_was_foreseen_is_a_warning_without_a_traceback(said: list[EventDict]) -> None:
    turns = Turns(DatabaseUnavailable("PostgreSQL does not answer: x"))
    await repeat(turns, 60, stop=turns.stop)
    (one,) = said
    assert one["log_level"] == "warning" and one["error"] == "PostgreSQL does not answer: x" and "exc_info" not in one


async def test_a_success_starts_the_waiting_anew(said: list[EventDict]) -> None:
    stop = asyncio.Event()
    fates = iter([KeyError(), KeyError(), None, KeyError(), None])

    async def turn() -> float:
        fate = next(fates, stop)
        if fate is stop:
            stop.set()
        elif isinstance(fate, Exception):
            raise fate
        return 0.0

    await repeat(turn, 60, stop=stop)
    assert [one["again_in"] for one in said] == [0.001, 0.002, 0.001]


async def test_the_block_s_end_stops_the_turn_under_way() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def turn() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with repeating(turn, 60):
        await begun.wait()
    assert ended.is_set()


async def test_stop_ends_a_pause_and_waiting_first_does_nothing_before_it() -> None:
    turns, stop = Turns(), asyncio.Event()
    task = asyncio.create_task(repeat(turns, 60, stop=stop, wait_first=True))
    for _ in range(10):
        await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(task, 5)
    assert turns.done == 0
