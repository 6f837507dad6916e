"""Reading files of past events: CSV tables and JSON lines become the JSON that the API takes, a piece for each row."""

import hashlib
import itertools
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec

from contacts import sheets
from core.documents import did_you_mean
from core.errors import InvalidInput, Problem
from tracker.wire import IDENTITIES

_LINE_LIMIT = 1_000_000
_TYPES = ("text", "number", "boolean", "json")
_OWN = ("event", "at", "id", *IDENTITIES)
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Options:
    """What a file does not say by itself."""

    event: str | None = None
    """The event that all rows are, in a CSV file without such a column."""
    mapping: Mapping[str, str] = field(default_factory=dict)
    """Column to what it means: event, at, id, an identity, the name of a property, or - for nothing."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Property to text, number, boolean or json; text unless given, save `value`, which is a number."""
    zone: str | None = None
    """The IANA time zone of times without an offset."""
    encoding: str | None = None
    delimiter: str | None = None
    live: bool = False
    """Whether journeys may begin and go on by these events."""


@dataclass(frozen=True)
class Row:
    """One row: where it stands, what it is in JSON or why it cannot be one, and as it was written."""

    line: int
    piece: bytes
    text: str
    problem: Problem | None = None


@dataclass(frozen=True)
class EventFile:
    """A file that was looked through once."""

    path: Path
    kind: Literal["csv", "jsonl"]
    digest: str
    """SHA-256 of the file's bytes."""
    rows: int
    """Rows, empty ones included."""
    _sheet: sheets.Sheet | None
    _options: Options

    def read(self, after: int = 0) -> Iterator[Row]:
        """The rows after the first so many."""
        rows = self._lines() if self._sheet is None else self._records(self._sheet)
        return itertools.islice(rows, after, None)

    def _lines(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            for number, line in enumerate(_bounded(file), 1):
                piece = line.strip()
                if number == 1:
                    piece = piece.removeprefix(b"\xef\xbb\xbf")
                problem = None
                if len(piece) > _LINE_LIMIT:
                    problem, piece = Problem(f"the line is longer than {_LINE_LIMIT:,} bytes"), piece[:1000]
                yield Row(number, piece, piece.decode(errors="replace"), problem)

    def _records(self, sheet: sheets.Sheet) -> Iterator[Row]:
        table = _Table(sheet.header, self._options, str(self.path))
        for line, cells in sheet.read():
            text = msgspec.json.encode(cells).decode()
            if not any(cells):
                yield Row(line, b"", text)
                continue
            try:
                yield Row(line, table.piece(cells), text)
            except InvalidInput as error:
                yield Row(line, b"", text, error.problems[0])


def open_file(path: Path, options: Options) -> EventFile:
    """Look through a file: what it is, its checksum, how many rows it has, and whether its columns make sense.

    Args:
        path: `.jsonl`, `.ndjson` or `.json` holds JSON lines, anything else a table (CSV, XLSX).
        options: what the file does not say.

    Raises:
        InvalidInput: it is missing or cannot be read, or the columns or options make no sense.
    """
    _check(options)
    if path.suffix.lower() in {".jsonl", ".ndjson", ".json"}:
        if not path.is_file():
            raise InvalidInput(Problem("there is no such file", file=str(path), path=str(path)))
        given = [name for name in ("event", "mapping", "types", "zone") if getattr(options, name)]
        if given:
            raise InvalidInput(Problem(f"{', '.join(given)} are for tables", "JSON lines say it themselves"))
        digest, rows = _look_through(path)
        return EventFile(path, "jsonl", digest, rows, None, options)
    sheet = sheets.open_sheet(path, options.encoding, options.delimiter)
    _Table(sheet.header, options, str(path))
    return EventFile(path, "csv", sheet.digest, sheet.records, sheet, options)


def _check(options: Options) -> None:
    wrong = {name: kind for name, kind in options.types.items() if kind not in _TYPES}
    problems = [
        Problem(f"there is no type {kind!r}", did_you_mean(kind, _TYPES), path=name) for name, kind in wrong.items()
    ]
    if options.zone is not None and options.zone not in zoneinfo.available_timezones():
        problems.append(Problem(f"there is no time zone {options.zone!r}", "an IANA name like Europe/Moscow"))
    if problems:
        raise InvalidInput(*problems)


def _bounded(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, no more of each than it takes to see that it is too long: there may be no end to it."""
    most = _LINE_LIMIT + len(b"\xef\xbb\xbf\r\n") + 1
    while line := file.readline(most):
        yield line
        while len(line) == most and not line.endswith(b"\n"):
            line = file.readline(most)  # what is left of it; shorter at its end


def _look_through(path: Path) -> tuple[str, int]:
    digest, rows, last = hashlib.sha256(), 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            rows += block.count(b"\n")
            last = block[-1:]
    return digest.hexdigest(), rows + (last != b"\n")


class _Table:
    """What the columns of a table mean."""

    def __init__(self, header: Sequence[str], options: Options, file: str) -> None:
        self._meanings = [options.mapping.get(name.strip(), name.strip()) for name in header]
        self._types = {"value": "number", **options.types}
        self._event = options.event
        self._zone = zoneinfo.ZoneInfo(options.zone) if options.zone else None
        unknown = [name for name in options.mapping if name not in {one.strip() for one in header}]
        problems = [
            Problem(f"there is no column {name!r}", did_you_mean(name, tuple(header)), file=file) for name in unknown
        ]
        if "event" not in self._meanings and options.event is None:
            problems.append(Problem("no column says which event it was", "name it with --event", file=file, line=1))
        if not set(IDENTITIES) & set(self._meanings):
            mend = 'one of external_id, email, phone or anonymous_id; --map "Column=email" says so'
            problems.append(Problem("no column says whose events these are", mend, file=file, line=1))
        if problems:
            raise InvalidInput(*problems)

    def piece(self, cells: Sequence[str]) -> bytes:
        """A record as the JSON of an event. The first identity that has a value is taken.

        Raises:
            InvalidInput: a cell is not of its type, or there are more cells than columns.
        """
        if len(cells) > len(self._meanings) and any(cells[len(self._meanings) :]):
            raise InvalidInput(Problem(f"the row has {len(cells)} cells and the header {len(self._meanings)}"))
        said: dict[str, str] = {}
        properties: dict[str, Any] = {}
        for meaning, cell in zip(self._meanings, cells, strict=False):
            if not cell or meaning == "-" or not meaning:
                continue
            if meaning in _OWN:
                said[meaning] = sheets.restored(cell) if cell[:1] == "'" else cell.strip()
            else:
                properties[meaning] = self._value(meaning, cell)
        event: dict[str, Any] = {"event": said.get("event", self._event)}
        event["contact"] = next(({kind: said[kind]} for kind in IDENTITIES if kind in said), {})
        if "id" in said:
            event["id"] = said["id"]
        if "at" in said:
            event["at"] = self._time(said["at"])
        if properties:
            event["properties"] = properties
        return msgspec.json.encode(event)

    def _time(self, cell: str) -> str:
        if self._zone is None:
            return cell.replace(" ", "T", 1)
        try:
            moment = datetime.fromisoformat(cell)
        except ValueError:
            raise InvalidInput(Problem(f"{cell[:40]!r} is no time", "like 2026-03-01 10:00:00", path="at")) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).isoformat()

    def _value(self, name: str, cell: str) -> Any:
        kind = self._types.get(name, "text")
        try:
            match kind:
                case "number":
                    number = float(cell)
                    return int(cell) if cell.strip().lstrip("+-").isdecimal() else number
                case "boolean":
                    return _BOOLEANS[cell.strip().lower()]
                case "json":
                    return msgspec.json.decode(cell)
        except (ValueError, KeyError, RecursionError):
            raise InvalidInput(Problem(f"{cell[:40]!r} is no {kind}", path=f"properties.{name}")) from None
        return cell
