"""What a running embedded stack tells other processes: `stack.json` in the data folder, readable by its owner only.

That it runs is told by the lock on `stack.lock`, which the kernel gives back however the stack ends: a file may be left
behind, and the process number in it may be a stranger's by now.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from pydantic import SecretStr

from core.errors import Conflict
from core.files import replace
from core.settings import Settings

_FILE = "stack.json"
_LOCK = "stack.lock"
_TRIES = 20


class Reach(msgspec.Struct, frozen=True):
    """What the way to Temporal takes beside its address; by itself, the way to the embedded server."""

    namespace: str = "default"
    tls: bool = False
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    api_key: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Reach":
        """As settings have it."""
        ca, cert, key = (
            None if path is None else str(path.absolute())
            for path in (settings.temporal_tls_ca, settings.temporal_tls_cert, settings.temporal_tls_key)
        )
        secret = settings.temporal_api_key
        api_key = None if secret is None else secret.get_secret_value()
        return cls(settings.temporal_namespace, settings.temporal_tls, ca, cert, key, api_key)

    def settings(self) -> dict[str, Any]:
        """For an update of settings."""
        files = {"temporal_tls_ca": self.tls_ca, "temporal_tls_cert": self.tls_cert, "temporal_tls_key": self.tls_key}
        return {
            "temporal_namespace": self.namespace,
            "temporal_tls": self.tls,
            **{name: None if path is None else Path(path) for name, path in files.items()},
            "temporal_api_key": None if self.api_key is None else SecretStr(self.api_key),
        }


class Running(msgspec.Struct, frozen=True):
    """Where the parts of a stack are."""

    pid: int
    """Of the process that holds the stack together."""
    api: str
    """http://host:port of the API and the pages."""
    database: str
    temporal: str
    """host:port"""
    reach: Reach = Reach()
    parts: dict[str, int] = {}
    """Process number of each part by its name, while it runs."""


def write(data: Path, running: Running) -> None:
    """Tell others; the file is replaced as a whole, so no reader sees half of it."""
    replace(data / _FILE, msgspec.json.format(msgspec.json.encode(running), indent=2))


def forget(data: Path) -> None:
    """Take the file away: the stack has stopped."""
    (data / _FILE).unlink(missing_ok=True)


@contextmanager
def holding(data: Path) -> Iterator[None]:
    """Be the one stack of a data folder while the block lasts.

    Raises:
        Conflict: another is; with its process number, where it says it.
        OSError: the folder cannot be used.
    """
    with os.fdopen(os.open(data / _LOCK, os.O_CREAT | os.O_RDWR, 0o600), "r+") as file:
        if not _lock(file.fileno()):
            raise Conflict(f"pid {file.read() or 'unknown'}")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _lock(handle: int) -> bool:
    """Take the lock; tried for a second, since whoever only looks whether it is free has it for a moment."""
    for attempt in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt < _TRIES - 1:
                time.sleep(1 / _TRIES)
        else:
            return True
    return False


def read(data: Path) -> Running | None:
    """What the stack over this data folder said; None if it is not running, or left the file behind when killed."""
    try:
        found = msgspec.json.decode((data / _FILE).read_bytes(), type=Running)
        return found if _is_held(data / _LOCK) else None
    except (FileNotFoundError, PermissionError, NotADirectoryError, msgspec.DecodeError):
        return None


def _is_held(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def resolve(settings: Settings) -> Settings:
    """The settings, with the addresses of the running embedded stack where no external server is set."""
    running = read(settings.data)
    if running is None:
        return settings
    temporal = {} if settings.temporal else {"temporal": running.temporal, **running.reach.settings()}
    return settings.model_copy(
        update={
            "database": settings.database or running.database,
            "base_url": settings.base_url or running.api,
            **temporal,
        }
    )
