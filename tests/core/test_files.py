"""Secrets in files: made once however many ask at once, never read by halves, never by others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from core import files
from core.errors import Misconfigured
from core.settings import Settings

# Each says that it is there, waits until all may go, and tells the secret that it found.
_ASK = """
import sys, pathlib
from core.settings import Settings
settings = Settings(data=pathlib.Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(settings.secret.decode(), flush=True)
"""


def test_of_many_processes_that_ask_at_once_all_have_the_same_secret(tmp_path: Path) -> None:
    data = tmp_path / "data"
    asking = [
        subprocess.Popen([sys.executable, "-c", _ASK, data], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for one in asking:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    for one in asking:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    answers = {one.communicate(timeout=60)[0] for one in asking}
    assert len(answers) == 1 and len(answers.pop()) > 40
    assert (data / "secret.key").stat().st_mode & 0o777 == 0o600
    assert list(data.iterdir()) == [data / "secret.key"]


def test_whoever_reads_while_a_file_is_made_does_not_see_it_yet(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    seen: list[bool] = []

    def make() -> bytes:
        seen.append(path.exists())
        return b"x" * 20

    def make_second() -> bytes:
        assert files.kept(path, make, 16) == b"x" * 20  # another process, which is quicker
        return b"y" * 20

    assert files.kept(path, make_second, 16) == b"x" * 20
    assert seen == [False] and list(path.parent.iterdir()) == [path]


def test_a_file_cut_short_is_refused_and_left_alone(settings: Settings) -> None:
    settings.data.mkdir()
    path = settings.data / "secret.key"
    path.write_bytes(b"")
    with pytest.raises(Misconfigured, match=r"secret\.key holds 0 bytes and needs 16: put the right one back"):
        _ = settings.secret
    assert path.read_bytes() == b""


@pytest.mark.parametrize("short", ["", "fifteen bytes.."])
def test_a_short_secret_in_the_environment_is_refused(short: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASKAD_SECRET_KEY", short)
    with pytest.raises(ValidationError, match="16 bytes or more"):
        Settings()


def test_a_replaced_file_is_whole_and_its_owner_s_only(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    for content in (b"a" * 100_000, b"b"):
        files.replace(path, content)
        assert path.read_bytes() == content and path.stat().st_mode & 0o777 == 0o600
    os.chmod(path, 0o644)
    files.replace(path, b"c")
    assert path.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [path]
