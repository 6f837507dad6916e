"""The API of reports."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from core.access import require
from core.clock import now
from reports import asking, counting, shown

router = APIRouter(tags=["reports"], dependencies=[Depends(require("reports:read"))])


class Column(BaseModel):
    """A column of a report."""

    slug: str
    label: str
    unit: Literal["count", "share", "value"] | None = Field(description="Null for a dimension")


class ReportOut(BaseModel):
    """A report: rows by the slugs of their columns."""

    since: datetime
    until: datetime = Field(description="Not included")
    time_zone: str
    columns: list[Column]
    rows: list[dict[str, int | float | date | str | None]]
    truncated: bool = Field(description="Whether there are more rows than the limit")


class MeasureRow(BaseModel):
    """A measure that may be asked for."""

    measure: str
    label: str
    unit: str
    description: str
    by: list[str] = Field(description="The dimensions it can be cut by")


class DimensionRow(BaseModel):
    """A dimension that may be asked for."""

    dimension: str
    label: str
    description: str


class Catalogue(BaseModel):
    """What may be asked for."""

    measures: list[MeasureRow]
    dimensions: list[DimensionRow]


_Words = Annotated[str, Query(max_length=60)]
_Name = Annotated[str, Field(max_length=200)]


@router.get("/v1/report", summary="Count", operation_id="show_report")
async def show_report(
    request: Request,
    measure: Annotated[list[_Name], Query(max_length=50, description="May be repeated")],
    by: Annotated[list[_Name], Query(max_length=20, description="A dimension; may be repeated")] = [],  # noqa: B006
    since: Annotated[_Words, Query(description="`30d` ago, a day or a moment")] = "30d",
    until: Annotated[_Words | None, Query(description="The same, not included; now unless given")] = None,
    time_zone: Annotated[_Words | None, Query(description="An IANA name; the installation's unless given")] = None,
    journey: Annotated[list[_Name], Query(max_length=100, description="Only these")] = [],  # noqa: B006
    channel: Annotated[list[_Name], Query(max_length=100, description="Only messages of these")] = [],  # noqa: B006
    limit: Annotated[int, Query(ge=1, description="Rows at most")] = 1000,
) -> ReportOut:
    """Measures over a period, cut by dimensions."""
    settings = request.app.state.settings
    wanted = asking.read(
        settings, now(), measures=measure, by=by, since=since, until=until, zone=time_zone, limit=limit,
        journeys=journey, channels=channel,
    )  # fmt: skip
    async with request.app.state.database.begin() as connection:
        report = await counting.count(connection, wanted, settings.report_seconds)
    return ReportOut(**shown.document(wanted, report))


@router.get("/v1/report/measures", summary="List measures and dimensions", operation_id="list_measures")
async def list_measures() -> Catalogue:
    """What a report may be made of."""
    found: dict[str, Any] = shown.catalogue()
    return Catalogue(**found)
