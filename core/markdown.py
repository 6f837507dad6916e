"""Tables that documents get from the code: made anew between two marks of a page."""

from collections.abc import Mapping, Sequence
from typing import Any


def marks(command: str) -> tuple[str, str]:
    """The first and the last line around what a command makes."""
    return f"<!-- made by `{command}`: begin -->", "<!-- end -->"


def put_between(page: str, marks: tuple[str, str], made: str) -> str:
    """A page with something made in the place of what stood between the marks.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = marks
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no place for it: put {begin} and {end} on lines of their own")
    return f"{before}{begin}\n\n{made}\n\n{end}{after}"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as a table. Keys become the head, with spaces for underscores; URLs are set as code."""
    names = list(rows[0])
    lines = [" | ".join(name.replace("_", " ") for name in names), " | ".join("---" for _ in names)]
    lines += [" | ".join(_cell(row[name]) for name in names) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"`{value}`" if isinstance(value, str) and "://" in value else str(value)
