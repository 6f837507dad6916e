"""`kaskad` as a process over a data folder of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from core import running
from core.running import Running

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


class Installation:
    """A data folder and the `kaskad` commands that run over it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.started: list[subprocess.Popen[str]] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("KASKAD_")},
            "KASKAD_DATA": str(data),
            "KASKAD_PORT": "0",
            "KASKAD_POSTGRES_USER": "nobody",
            "COLUMNS": "400",
        }

    def command(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "studio.cli", *words],
            cwd=ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start `kaskad up` and give its process at once."""
        process = subprocess.Popen(
            [sys.executable, "-m", "studio.cli", "up", *words],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def up(self) -> tuple[subprocess.Popen[str], Running]:
        """Start the stack with the API alone, and wait until it is ready."""
        process = self.begin("--role", "api")
        await_true(lambda: process.poll() is not None or self.is_ready(), "the stack is up")
        there = running.read(self.data)
        assert there is not None, process.communicate()[0]
        return process, there

    def is_ready(self) -> bool:
        """Whether the API says that everything it needs is there."""
        there = running.read(self.data)
        if there is None or "api" not in there.parts:
            return False
        try:
            return httpx.get(f"{there.api}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


def await_true(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does, as long as PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


@pytest.fixture
def installation() -> Iterator[Installation]:
    """A fresh data folder, gone afterwards with everything that ran over it."""
    folder = Path(tempfile.mkdtemp(prefix="kaskad-"))
    folder.chmod(0o755)
    result = Installation(folder / "data")
    try:
        yield result
    finally:
        for process in result.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)
        shutil.rmtree(folder)
