"""A role of Kaskad (api, worker, router) as a child process of the stack."""

import asyncio
import os
import sys
from pathlib import Path

from pydantic import SecretStr

import studio
from core.errors import Unavailable
from core.settings import Settings
from studio.stack import process

ROLES = ("api", "worker", "router")
_START_TIMEOUT = 60


class Role:
    """`kaskad api`, `kaskad worker` or `kaskad router`, with the stack's addresses in its environment."""

    def __init__(self, name: str, settings: Settings, log: Path) -> None:
        self.name = name
        self.log = log
        self._settings = settings
        self.process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The role's process number while it runs."""
        return self.process.pid if self.process and self.process.returncode is None else None

    async def start(self) -> None:
        """Start the process; the API counts as started when it answers.

        Raises:
            Unavailable: it ended at once, or does not answer.
        """
        self.process = await process.spawn(
            [sys.executable, "-m", "studio.cli", self.name], self.log, environment=environment(self._settings)
        )
        if self.name == "api":
            await self._answer()

    async def stop(self) -> None:
        """Let the role finish what it has in hand, then end it."""
        if self.process is not None:
            await process.stop(self.process, patience=30)

    async def _answer(self) -> None:
        assert self.process is not None  # noqa: S101 - called by start() only
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_TIMEOUT
        while not await _listens(self._settings.host, self._settings.port):
            if self.process.returncode is not None:
                raise Unavailable(f"the {self.name} did not start; {process.tail(self.log)}")
            if loop.time() > deadline:
                await self.stop()
                raise Unavailable(f"the {self.name} does not answer; {process.tail(self.log)}")
            await asyncio.sleep(0.05)


async def _listens(host: str, port: int) -> bool:
    try:
        _reader, writer = await asyncio.open_connection(process.reachable(host), port)
    except OSError:
        return False
    writer.close()
    return True


def environment(settings: Settings) -> dict[str, str]:
    """Our environment for a child, with exactly these settings in it, however they came about."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KASKAD_")}
    ours = {f"KASKAD_{name.upper()}": _text(getattr(settings, name)) for name in Settings.model_fields}
    source = str(Path(studio.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [source, inherited.get("PYTHONPATH")]))
    return inherited | {name: value for name, value in ours.items() if value is not None} | {"PYTHONPATH": path}


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value.absolute())
    return str(value)
