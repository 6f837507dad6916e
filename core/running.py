"""What a running embedded stack tells other processes: `stack.json` in the data folder, readable by its owner only."""

import os
from pathlib import Path

import msgspec

from core.files import replace
from core.settings import Settings

_FILE = "stack.json"


class Running(msgspec.Struct, frozen=True):
    """Where the parts of a stack are."""

    pid: int
    """Of the process that holds the stack together."""
    api: str
    """http://host:port of the API and the pages."""
    database: str
    temporal: str
    """host:port"""
    parts: dict[str, int] = {}
    """Process number of each part by its name, while it runs."""


def write(data: Path, running: Running) -> None:
    """Tell others; the file is replaced as a whole, so no reader sees half of it."""
    replace(data / _FILE, msgspec.json.format(msgspec.json.encode(running), indent=2))


def forget(data: Path) -> None:
    """Take the file away: the stack has stopped."""
    (data / _FILE).unlink(missing_ok=True)


def read(data: Path) -> Running | None:
    """What the stack over this data folder said; None if it is not running, or left the file behind when killed."""
    try:
        running = msgspec.json.decode((data / _FILE).read_bytes(), type=Running)
    except (FileNotFoundError, PermissionError, NotADirectoryError, msgspec.DecodeError):
        return None
    try:
        os.kill(running.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return running


def resolve(settings: Settings) -> Settings:
    """The settings, with the addresses of the running embedded stack where no external server is set."""
    running = read(settings.data)
    if running is None:
        return settings
    return settings.model_copy(
        update={
            "database": settings.database or running.database,
            "temporal": settings.temporal or running.temporal,
            "base_url": settings.base_url or running.api,
        }
    )
