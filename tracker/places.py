"""Where an address is, told by a database file the operator supplies (MaxMind's format). Nothing is asked over a
network.
"""

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import maxminddb
import msgspec
import structlog

from core.addresses import Address
from core.errors import Misconfigured

_LOOK_EVERY = 60.0
_REMEMBERED = 8192
_log = structlog.get_logger()


class Place(msgspec.Struct, frozen=True, gc=False):
    """A place as far as it is known: the country's ISO 3166 code, the region's and the city's English name."""

    country: str | None = None
    region: str | None = None
    city: str | None = None


NOWHERE = Place()


class Places:
    """The places of addresses. A file that is replaced is read anew within a minute.

    Raises:
        Misconfigured: there is a path, but no such database there.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._reader = _open(path) if path else None
        self._changed_at = path.stat().st_mtime_ns if path else 0
        self._look_at = time.monotonic() + _LOOK_EVERY
        self._find = lru_cache(_REMEMBERED)(self._look_up)

    @property
    def is_known(self) -> bool:
        """Whether there is a database at all."""
        return self._reader is not None

    def of(self, address: Address | None) -> Place:
        """Where an address is; NOWHERE if nobody knows."""
        if self._reader is None or address is None:
            return NOWHERE
        if time.monotonic() >= self._look_at:
            self._renew()
        return self._find(address)

    def close(self) -> None:
        """Let the file go."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _renew(self) -> None:
        assert self._path is not None  # noqa: S101 - a reader has one
        self._look_at = time.monotonic() + _LOOK_EVERY
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at == self._changed_at:
                return
            reader = _open(self._path)
        except (OSError, Misconfigured) as error:  # half written, perhaps: the old one goes on
            _log.warning("the new geography database cannot be read yet", path=str(self._path), reason=str(error))
            return
        self.close()
        self._reader, self._changed_at = reader, changed_at
        self._find.cache_clear()

    def _look_up(self, address: Address) -> Place:
        try:
            found = self._reader.get(address) if self._reader else None
        except (ValueError, maxminddb.InvalidDatabaseError):  # an IPv6 address in a database of IPv4
            return NOWHERE
        if not isinstance(found, dict):
            return NOWHERE
        regions = found.get("subdivisions")
        return Place(
            country=_text(_inner(found, "country") or _inner(found, "registered_country"), "iso_code"),
            region=_name(regions[0]) if isinstance(regions, list) and regions else None,
            city=_name(_inner(found, "city")),
        )


def _open(path: Path) -> maxminddb.Reader:
    try:
        return maxminddb.open_database(path)
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise Misconfigured(f"KASKAD_GEOIP: {path} cannot be read as a MaxMind database: {error}") from error


def _inner(record: Any, name: str) -> Any:
    return record.get(name) if isinstance(record, dict) else None


def _text(record: Any, name: str) -> str | None:
    found = _inner(record, name)
    return found[:100] if isinstance(found, str) and found else None


def _name(record: Any) -> str | None:
    return _text(_inner(record, "names"), "en") or _text(record, "iso_code")
