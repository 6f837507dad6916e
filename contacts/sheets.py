"""Reading tables from CSV and XLSX files as records of text, with the line that each began on."""

import codecs
import contextlib
import csv
import hashlib
import io
import itertools
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path

import python_calamine

from core.errors import InvalidInput, Problem

DELIMITERS = (",", ";", "\t", "|")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
UNPACKED_LIMIT = 256 << 20
"""Bytes that a workbook may unpack to. They are read as a whole, and take a few times as much memory."""
_BLOCK = 1 << 20

Record = tuple[int, list[str]]
"""The line (from 1) that a record begins on, and its cells."""


@dataclass(frozen=True)
class Sheet:
    """A table that was looked through once and can be read: every record of it is sound."""

    path: Path
    header: list[str]
    digest: str
    """SHA-256 of the file's bytes."""
    records: int
    """Records below the header, empty ones included."""
    encoding: str = "utf-8-sig"
    delimiter: str = ","
    unpacked_limit: int = UNPACKED_LIMIT

    def read(self) -> Iterator[Record]:
        """All records below the header, in their order."""
        if _is_workbook(self.path):
            rows = iter(_workbook_rows(self.path, self.unpacked_limit))
            next(rows)
            yield from rows
        else:
            with self.path.open(encoding=self.encoding, newline="") as file:
                reader = csv.reader(file, delimiter=self.delimiter)
                next(reader)
                line = reader.line_num + 1
                for cells in reader:
                    yield line, cells
                    line = reader.line_num + 1


def open_sheet(
    path: Path, encoding: str | None = None, delimiter: str | None = None, unpacked_limit: int = UNPACKED_LIMIT
) -> Sheet:
    """Look through a whole file: its header, its checksum, how many records it has, and whether all can be read.

    Args:
        path: a CSV file, or the first sheet of an XLSX workbook (.xlsx, .xlsm, .xls, .ods).
        encoding: of a CSV file; UTF-8, with or without a byte order mark, unless given.
        delimiter: of a CSV file; found out from its first lines unless given.
        unpacked_limit: bytes that a workbook may unpack to.

    Raises:
        InvalidInput: it is missing, empty, damaged, too large, in another encoding, or its header repeats a name.
    """
    if not path.is_file():
        raise InvalidInput(Problem("there is no such file", file=str(path), path=str(path)))
    digest = _digest(path)
    if _is_workbook(path):
        sheet = _workbook(path, digest, unpacked_limit)
    else:
        sheet = _text_sheet(path, digest, encoding, delimiter)
    _check_header(sheet)
    return sheet


def _is_workbook(path: Path) -> bool:
    return path.suffix.lower() in {".xlsx", ".xlsm", ".xls", ".ods", ".xlsb"}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_header(sheet: Sheet) -> None:
    names = [name.strip().casefold() for name in sheet.header if name.strip()]
    if not names:
        mend = "the first line must name the columns"
        raise InvalidInput(Problem("the file has no header", mend, file=str(sheet.path), line=1, column=1))
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        words = ", ".join(sorted(twice))
        raise InvalidInput(Problem(f"columns are named twice: {words}", "rename one", file=str(sheet.path), line=1))


# --- CSV


def _text_sheet(path: Path, digest: str, encoding: str | None, delimiter: str | None) -> Sheet:
    encoding = _encoding(encoding or "utf-8-sig")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
        mend = "one character that is no quotation mark, such as ; or a tab"
        raise InvalidInput(Problem(f"{delimiter[:20]!r} cannot part columns", mend, path="delimiter"))
    try:
        delimiter = delimiter or _sniff(path, encoding)
        header, records = _look_through(path, encoding, delimiter)
    except UnicodeError:
        raise InvalidInput(_undecodable(path, encoding)) from None
    return Sheet(path, header, digest, records, encoding, delimiter)


def _encoding(name: str) -> str:
    """An encoding of texts, with the byte order mark of UTF-8 left out."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name).read()  # Python also calls compressions and the like encodings
        return "utf-8-sig" if codecs.lookup(name).name == "utf-8" else name
    except (LookupError, ValueError):
        mend = "utf-8, cp1251, koi8-r …"
        raise InvalidInput(Problem(f"there is no encoding {name[:40]!r}", mend, path="encoding")) from None


def _look_through(path: Path, encoding: str, delimiter: str) -> tuple[list[str], int]:
    """The header, and how many records follow it."""
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            return next(reader, []), sum(1 for _ in reader)
        except csv.Error as error:
            mend = "a quotation mark may be open, look above this line"
            what = f"the file cannot be read: {error}"
            raise InvalidInput(Problem(what, mend, file=str(path), line=reader.line_num, column=1)) from None


def _sniff(path: Path, encoding: str) -> str:
    """The delimiter that splits the header into the most columns and agrees with the lines below it."""

    def score(delimiter: str) -> tuple[int, int]:
        rows: list[list[str]] = []
        with path.open(encoding=encoding, newline="") as file, contextlib.suppress(csv.Error):  # it is said later
            rows.extend(row for row in itertools.islice(csv.reader(file, delimiter=delimiter), 20) if row)
        width = len(rows[0]) if rows else 0
        return sum(len(row) == width for row in rows) if width > 1 else 0, width

    return max(DELIMITERS, key=score)


def _undecodable(path: Path, encoding: str) -> Problem:
    """Where the first bytes stand that are not of this encoding."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            try:
                line += decoder.decode(block).count("\n")
            except UnicodeDecodeError as error:
                line += block[: max(error.start, 0)].count(b"\n")
                break
            except UnicodeError:  # of some encodings, which do not say where
                break
    mend = "say which encoding it has, such as --encoding cp1251, or save it as UTF-8"
    name = encoding.removesuffix("-sig")
    return Problem(f"the file is not {name}", mend, file=str(path), line=line, column=1)


# --- workbooks


def _workbook(path: Path, digest: str, limit: int) -> Sheet:
    rows = iter(_workbook_rows(path, limit))
    _, header = next(rows, (0, []))
    return Sheet(path, header, digest, sum(1 for _ in rows), unpacked_limit=limit)


def _workbook_rows(path: Path, limit: int) -> Iterator[Record]:
    """The rows of the first sheet from the first one that is not empty; formulas give the values last computed."""
    _check_size(path, limit)
    try:
        sheet = python_calamine.CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0)
        first = (sheet.start or (0, 0))[0] + 1
        for line, row in enumerate(sheet.iter_rows(), first):
            yield line, [_cell(value) for value in row]
    except (python_calamine.CalamineError, OSError) as error:
        raise InvalidInput(_damaged(path, error)) from None


def _check_size(path: Path, limit: int) -> None:
    """Refuse an archive that unpacks to more than memory should hold, whatever it says of itself."""
    if not zipfile.is_zipfile(path):
        return
    left = limit
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                entry.file_size = 1 << 62  # reading goes on to its end, and not to the size it claims
                with archive.open(entry) as part:
                    while block := part.read(_BLOCK):
                        left -= len(block)
                        if left < 0:
                            what = f"the workbook unpacks to more than {limit:,} bytes"
                            raise InvalidInput(Problem(what, "save it as CSV", path=str(path)))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InvalidInput(_damaged(path, error)) from None


def _damaged(path: Path, error: Exception) -> Problem:
    mend = "open it in a spreadsheet program and save it again"
    return Problem(f"the workbook cannot be read: {error}", mend, path=str(path))


def _cell(value: object) -> str:
    """A cell as text that reads back as the same value."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case datetime():
            return value.isoformat(timespec="seconds" if not value.microsecond else "microseconds")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return str(value)
    return str(value)


# --- cells that programs would run


def defused(cells: Sequence[str]) -> list[str]:
    """Cells that no spreadsheet program takes for a formula: an apostrophe goes before those that could be one."""
    return ["'" + cell if cell.startswith(_FORMULA) else cell for cell in cells]


def restored(cell: str) -> str:
    """Take away the apostrophe that `defused` put there, so that a mended rejects file reads as it was."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
