"""Reports as data and as CSV: the same for the command line and the API."""

import csv
from typing import Any, TextIO

from contacts.sheets import defused
from reports.counting import Report
from reports.declarations import Measure, Rate
from reports.dimensions.registry import DIMENSIONS
from reports.measures.registry import MEASURES
from reports.query import Wanted, parts


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """What may be asked for: measures and dimensions, by their slugs, and which dimensions a measure can be cut by."""
    return {
        "measures": [
            {
                "measure": one.slug,
                "label": one.label,
                "unit": one.unit,
                "description": one.description,
                "by": [cut.slug for cut in DIMENSIONS if cut.fits(_source_of(one).source)],
            }
            for one in MEASURES
        ],
        "dimensions": [
            {"dimension": one.slug, "label": one.label, "description": one.description} for one in DIMENSIONS
        ],
    }


def _source_of(measure: Measure | Rate) -> Measure:
    return parts((measure,))[0]


def document(wanted: Wanted, report: Report) -> dict[str, Any]:
    """A report with what it is about."""
    return {
        "since": wanted.since,
        "until": wanted.until,
        "time_zone": wanted.zone,
        "columns": [
            *({"slug": one.slug, "label": one.label, "unit": None} for one in wanted.dimensions),
            *({"slug": one.slug, "label": one.label, "unit": one.unit} for one in wanted.measures),
        ],
        "rows": report.rows,
        "truncated": report.truncated,
    }


def write_csv(file: TextIO, wanted: Wanted, report: Report) -> None:
    """Write the rows as CSV (RFC 4180), slugs in the header. No text can be taken for a formula; a negative number
    stays a number."""
    slugs = [one.slug for one in (*wanted.dimensions, *wanted.measures)]
    writer = csv.writer(file)
    writer.writerow(slugs)
    for row in report.rows:
        writer.writerow([defused([value])[0] if isinstance(value, str) else value for value in map(row.get, slugs)])
