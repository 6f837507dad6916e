"""Commands about reports."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from core.cli import connected, console, load_settings, output, plain_errors, run
from core.clock import now
from reports import asking, counting, shown
from reports.counting import Report
from reports.query import Wanted

app = typer.Typer(no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_BAR = 24


@app.command()
def show(
    measure: Annotated[list[str], typer.Option(help="What to count; may be repeated.")],
    by: Annotated[list[str] | None, typer.Option(help="A dimension to cut by; may be repeated.")] = None,
    since: Annotated[str, typer.Option(help="30d ago, a day or a moment.")] = "30d",
    until: Annotated[str | None, typer.Option(help="The same, not included; now if left out.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="Where days begin; the installation's if left out.")] = None,
    journey: Annotated[list[str] | None, typer.Option(help="Only this journey; may be repeated.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="Only messages of this channel.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 1000,
    csv: Annotated[Path | None, typer.Option(dir_okay=False, writable=True, help="Write a CSV file instead.")] = None,
    json: _Json = False,
) -> None:
    """Count over a period, cut by dimensions; bars are of the first measure."""
    with plain_errors():
        settings = load_settings()
        wanted = asking.read(
            settings, now(), measures=measure, by=by or (), since=since, until=until, zone=time_zone, limit=limit,
            journeys=journey or (), channels=channel or (),
        )  # fmt: skip

    async def work() -> Report:
        async with connected() as database, database.begin() as connection:
            return await counting.count(connection, wanted, settings.report_seconds)

    report = run(work())
    if csv is not None:
        with csv.open("w", encoding="utf-8", newline="") as file:
            shown.write_csv(file, wanted, report)
        output({"file": str(csv), "rows": len(report.rows), "truncated": report.truncated}, json=json)
    elif json:
        output(shown.document(wanted, report), json=True)
    else:
        _print(wanted, report)


@app.command("measures")
def list_measures(json: _Json = False) -> None:
    """List the measures and dimensions that there are."""
    found = shown.catalogue()
    if json:
        output(found, json=True)
        return
    output(found["measures"], json=False)
    output(found["dimensions"], json=False)


def _print(wanted: Wanted, report: Report) -> None:
    if not report.rows:
        console.print("Nothing in this period.")
        return
    first = wanted.measures[0]
    most = max((row[first.slug] or 0 for row in report.rows), default=0)
    table = Table(*(one.label for one in wanted.dimensions))
    for one in wanted.measures:
        table.add_column(one.label, justify="right")
    if wanted.dimensions:
        table.add_column("")
    for row in report.rows:
        cells = [escape(_text(row[one.slug])) for one in wanted.dimensions]
        cells += [_figure(row[one.slug], one.unit) for one in wanted.measures]
        if wanted.dimensions:
            cells.append("█" * round(_BAR * max(0, row[first.slug] or 0) / most) if most > 0 else "")
        table.add_row(*cells)
    console.print(table)
    if report.truncated:
        console.print(f"There are more than {wanted.limit:,} rows: raise --limit, or cut by less.", highlight=False)


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


def _figure(value: Any, unit: str) -> str:
    if value is None:
        return "–"
    return {"count": f"{value:,}", "share": f"{value:.1%}", "value": f"{value:,.2f}"}[unit]
