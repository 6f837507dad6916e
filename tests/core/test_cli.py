"""What all commands share: errors in words, tables and JSON, and finding the installation."""

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from pydantic import SecretStr
from rich.console import Console

from core import cli, metrics, running, temporal
from core.errors import (
    Conflict,
    InvalidInput,
    KaskadError,
    Misconfigured,
    NotFound,
    Problem,
    TemporalUnavailable,
    Unavailable,
)
from core.running import Reach, Running
from core.settings import Settings


@pytest.fixture
def there(settings: Settings) -> Iterator[Running]:
    """A stack that runs over the data folder."""
    settings.data.mkdir()
    reach = Reach(namespace="marketing")
    found = Running(
        os.getpid(), "http://127.0.0.1:8000", "postgresql://u:p@127.0.0.1/k", "127.0.0.1:7233", reach, {"api": 1}
    )
    with running.holding(settings.data):
        running.write(settings.data, found)
        yield found


def _exit_code(raising: Callable[[], None]) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        raising()
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotFound("no journey [welcome]"), ["error: no journey [welcome]"]),
        (
            InvalidInput(Problem("is no step", "did you mean send?", "a.yaml", 3, 5), "another"),
            ["error: a.yaml:3:5: is no step (did you mean send?)", "error: another", "2 problems"],
        ),
    ],
)
def test_errors_are_words_and_exit_with_1(
    error: KaskadError, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "complaints", Console(stderr=True, width=40))

    async def fail() -> None:
        raise error

    assert _exit_code(lambda: cli.run(fail())) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == words and printed.out == ""


def test_interrupting_exits_with_130() -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    assert _exit_code(lambda: cli.run(interrupted())) == 130


def test_json_output_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "id": UUID(int=1),
        "at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        "cost": Decimal("1.50"),
        "tags": ("a", "b"),
        "name": "[bold]ok",
    }
    cli.output([row], json=True)
    assert json.loads(capsys.readouterr().out) == [
        {
            "id": "00000000-0000-0000-0000-000000000001",
            "at": "2026-01-02T03:04:00Z",
            "cost": "1.50",
            "tags": ["a", "b"],
            "name": "[bold]ok",
        }
    ]


def test_tables_show_text_as_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "console", Console(width=100))
    cli.output([{"name": "[red]x[/]", "members": 12345, "active": True, "gone": None}], json=False)
    cli.output([], json=False, empty="No journey yet.")
    printed = capsys.readouterr().out
    assert "[red]x[/]" in printed and "12,345" in printed and "yes" in printed and "–" in printed
    assert "No journey yet." in printed


def test_a_running_stack_is_found(settings: Settings, there: Running) -> None:
    found = running.resolve(settings)
    assert (found.database, found.temporal, found.public_url) == (there.database, there.temporal, there.api)
    external = settings.model_copy(update={"database": "postgresql://elsewhere/k"})
    assert running.resolve(external).database == "postgresql://elsewhere/k"


def test_a_stack_that_was_killed_is_not_found_though_its_number_is_in_use(settings: Settings) -> None:
    settings.data.mkdir()
    with running.holding(settings.data):
        running.write(settings.data, Running(os.getpid(), "http://127.0.0.1:8000", "postgresql://k@h/k", "h:7233"))
        assert running.read(settings.data) is not None
    assert running.read(settings.data) is None and running.resolve(settings).database is None


def test_there_is_one_stack_a_folder(settings: Settings, there: Running) -> None:
    with pytest.raises(Conflict, match=f"pid {os.getpid()}"), running.holding(settings.data):
        pass


def test_a_stack_starts_while_somebody_looks(settings: Settings) -> None:
    settings.data.mkdir()
    with (settings.data / "stack.lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.2, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with running.holding(settings.data):
            assert (settings.data / "stack.lock").read_text() == str(os.getpid())


_KEYS = {
    "temporal_namespace": "other",
    "temporal_tls": True,
    "temporal_tls_ca": Path("ca.pem"),
    "temporal_api_key": SecretStr("hunter2"),
}


def test_the_way_to_the_embedded_temporal_takes_nothing_that_is_meant_for_another(
    settings: Settings, there: Running
) -> None:
    found = running.resolve(settings.model_copy(update=_KEYS))
    assert (found.temporal_namespace, found.temporal_tls, found.temporal_tls_ca) == ("marketing", False, None)
    assert found.temporal_api_key is None
    elsewhere = settings.model_copy(update={**_KEYS, "temporal": "temporal.example:7233"})
    assert running.resolve(elsewhere).temporal_api_key == SecretStr("hunter2")


def test_the_way_to_an_external_temporal_is_told_whole(settings: Settings, there: Running) -> None:
    reach = Reach.of(settings.model_copy(update=_KEYS))
    running.write(settings.data, msgspec.structs.replace(there, reach=reach))
    found = running.resolve(settings)
    assert {name: getattr(found, name) for name in _KEYS} == {**_KEYS, "temporal_tls_ca": Path("ca.pem").absolute()}


def test_a_damaged_state_file_is_no_stack(settings: Settings, there: Running) -> None:
    (settings.data / "stack.json").write_text("{")
    assert running.read(settings.data) is None
    running.forget(settings.data)
    assert running.read(settings.data) is None


def test_without_a_stack_the_ways_out_are_named(settings: Settings) -> None:
    with pytest.raises(Unavailable, match=r"kaskad up.*--data.*KASKAD_DATABASE"):
        cli.database_url(settings)


async def test_temporal_that_is_not_known_or_has_unreadable_keys(settings: Settings) -> None:
    with pytest.raises(Misconfigured, match="KASKAD_TEMPORAL=host:port"):
        await temporal.connect(settings)
    missing = settings.model_copy(update={"temporal_tls_ca": settings.data / "missing.pem"})
    with pytest.raises(Misconfigured, match=r"missing\.pem"):
        await temporal.connect(missing, "127.0.0.1:1")
    with pytest.raises(TemporalUnavailable, match=r"127\.0\.0\.1:1 "):
        await temporal.connect(settings, "127.0.0.1:1")


def test_metrics_on_a_port_that_is_taken(settings: Settings, unused_tcp_port: int) -> None:
    chosen = settings.model_copy(update={"metrics_port": unused_tcp_port})
    metrics.serve(chosen)
    with pytest.raises(Misconfigured, match="KASKAD_METRICS_PORT"):
        metrics.serve(chosen)
