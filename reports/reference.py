"""Writes the tables of docs/reports.md anew: `python -m reports.reference docs/reports.md` (`make reference`)."""

import sys
from pathlib import Path

from core.markdown import marks, put_between, table
from reports import shown

MARKS = marks("make reference")


def markdown() -> str:
    """What may be asked for, as tables."""
    found = shown.catalogue()
    return f"{table(found['measures'])}\n\n{table(found['dimensions'])}"


def put_into(page: str) -> str:
    """A page with the tables in the place of those it has. ValueError if it has no place for them."""
    return put_between(page, MARKS, markdown())


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(put_into(path.read_text(encoding="utf-8")), encoding="utf-8")
