"""Reading the CSV files of this package: prices, number ranges."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from core.errors import InvalidInput, Problem

LIMIT = 50_000_000
"""Bytes of one file."""
_PROBLEMS = 50
_Row = TypeVar("_Row")


class Unfit(ValueError):
    """A row that cannot be used; its words say what is wrong, and its second argument how to mend it."""

    @property
    def mend(self) -> str:
        """What to do about it."""
        return str(self.args[1]) if len(self.args) > 1 else ""


def read(
    data: bytes, file: str, columns: Sequence[str], needed: Sequence[str], row: Callable[[dict[str, str]], _Row]
) -> list[tuple[int, _Row]]:
    """The rows of a CSV file (UTF-8, comma or semicolon) with their lines.

    Args:
        data: the file.
        file: its name, for the problems.
        columns: all it may have.
        needed: those it must have.
        row: makes one row of its cells, or raises Unfit.

    Raises:
        InvalidInput: every row that cannot be used; after fifty of them the rest is not named.
    """
    found: list[tuple[int, _Row]] = []
    problems: list[Problem] = []
    for line, cells in _lines(data, file, columns, needed):
        try:
            found.append((line, row(cells)))
        except Unfit as error:
            problems.append(Problem(str(error.args[0]), error.mend, file=file, line=line))
            if len(problems) == _PROBLEMS:
                break
    if problems:
        raise InvalidInput(*problems)
    if not found:
        raise InvalidInput(Problem("there are no rows", f"write lines of {','.join(columns)}", file=file))
    return found


def _lines(
    data: bytes, file: str, columns: Sequence[str], needed: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    if len(data) > LIMIT:
        raise InvalidInput(Problem(f"the file has more than {LIMIT:,} bytes", "split it", file=file))
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(Problem("the file is not UTF-8", "save it as UTF-8", file=file)) from error
    first = content.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(content, newline=""), delimiter=";" if first.count(";") > first.count(",") else ",", strict=True
    )
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    wrong = [name for name in names if name not in columns] + [name for name in needed if name not in names]
    if wrong:
        raise InvalidInput(
            Problem(
                f"the first line does not fit: {', '.join(wrong)}", f"it reads {','.join(columns)}", file=file, line=1
            )
        )
    reader.fieldnames = names
    try:
        for cells in reader:
            extra = cells.pop(None, None)
            if extra:
                raise InvalidInput(Problem("the line has too many cells", "", file=file, line=reader.line_num))
            yield reader.line_num, {name: (value or "").strip() for name, value in cells.items()}
    except csv.Error as error:
        raise InvalidInput(Problem(f"this is no CSV: {error}", "", file=file, line=reader.line_num)) from error
