"""The rejects file of an import: rows that were left out, each with its place and the reason.

Rows are written before the transaction that refuses them is committed, and count once it is: what no commit followed
is overwritten by the next rows, or taken away when the import is taken up again. A file that was there before, which
somebody may have mended, is moved aside and never written to.
"""

import csv
import io
import itertools
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from contacts import sheets
from core.errors import Conflict, InvalidInput, Problem, Unavailable

ENDING = ".rejects.csv"
DRY_ENDING = ".dry-run.rejects.csv"


def beside(path: Path, *, dry_run: bool) -> Path:
    """Where the rejects of a file go, if nobody says otherwise. A dry run has its own."""
    return path.with_name(path.name + (DRY_ENDING if dry_run else ENDING))


class RejectsFile:
    """The rejects of one import. Its methods wait for the disk."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        """
        Args:
            path: where it is, or will be when there is something to write.
            header: names of the columns; the first one holds a row's place in the file, as a number.
        """
        self.path = path
        self._header = sheets.defused(header)
        self._is_own = False
        self._size = 0
        self._end = 0

    def open(self, last: int, count: int) -> None:
        """Find out whether it can be written, and take up what earlier runs of the import wrote.

        Args:
            last: the place up to which rows are taken in.
            count: how many of these were rejected. A file that holds others is not this import's.

        Raises:
            InvalidInput: it cannot be written.
        """
        if self.path.exists() and not self.path.is_file():
            raise InvalidInput(Problem("the rejects cannot go here: it is no file", "move it", path=str(self.path)))
        try:
            with tempfile.TemporaryFile(dir=self.path.parent):
                pass
        except OSError as error:
            mend = "put the file into a folder that can be written to"
            raise InvalidInput(
                Problem(f"the rejects cannot be written: {error.strerror}", mend, path=str(self.path))
            ) from None
        if count and self.path.exists():
            kept = self._rows_up_to(last)
            if kept is not None and len(kept) == count:
                self._replace(kept)

    def append(self, rows: Iterable[Sequence[object]]) -> None:
        """Write rows down after those that count, on disk when it returns; texts that could be formulas are defused.

        Raises:
            Unavailable: the disk is full, or was taken away.
            Conflict: another process writes to the file.
        """
        content = self._written(rows)
        if not content and self._end == self._size:
            return
        try:
            if not self._is_own:
                self._begin()
            with self.path.open("r+b") as file:
                if file.seek(0, os.SEEK_END) < self._size:
                    raise Conflict(f"another process writes to {self.path}: is this file being imported twice?")
                file.seek(self._size)
                file.truncate()
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                self._end = file.tell()
        except OSError as error:
            raise Unavailable(f"the rejects cannot be written to {self.path}: {error.strerror}") from error

    def confirm(self) -> None:
        """What was appended counts: its transaction is committed."""
        self._size = self._end

    def _begin(self) -> None:
        """Make the file, beside an older one of its name."""
        if self.path.exists():
            os.replace(self.path, next(other for other in _numbered(self.path) if not other.exists()))
        self._replace([])

    def _replace(self, rows: Iterable[Sequence[str]]) -> None:
        """Put header and rows, as they are, in the file's place."""
        beside = self.path.with_name(self.path.name + ".new")
        with beside.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([self._header, *rows])
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        self._is_own = True
        self._size = self._end = self.path.stat().st_size

    def _rows_up_to(self, last: int) -> list[list[str]] | None:
        """The rows up to a place; None if the file has another header."""
        with self.path.open(
            encoding="utf-8", newline="", errors="replace"
        ) as file:  # a kill may have torn the last row
            header, *rows = list(csv.reader(file)) or [[]]
        if header != self._header:
            return None
        return [row for row in rows if len(row) > 1 and row[0].isdigit() and int(row[0]) <= last]

    @staticmethod
    def _written(rows: Iterable[Sequence[object]]) -> bytes:
        content = io.StringIO(newline="")
        csv.writer(content).writerows([row[0], *sheets.defused([str(cell) for cell in row[1:]])] for row in rows)
        return content.getvalue().encode(errors="surrogatepass")


def _numbered(path: Path) -> Iterable[Path]:
    return (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
