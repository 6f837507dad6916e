"""Ports of the embedded servers; the same ones again after a restart, where they are still free."""

import contextlib
from pathlib import Path

import msgspec

from core.files import replace
from studio.stack import process


class Ports:
    """The ports of one data folder's servers."""

    def __init__(self, data: Path) -> None:
        self._path = data / "ports.json"
        self._ports: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
            self._ports = msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])

    def take(self, name: str) -> int:
        """A free port for a part; the one it had before, if that is free."""
        self._ports[name] = process.free_port(self._ports.get(name, 0))
        return self._ports[name]

    def keep(self) -> None:
        """Remember them for the next start."""
        replace(self._path, msgspec.json.encode(self._ports))
