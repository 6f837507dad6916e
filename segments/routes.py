"""The API of segments: write and read them, count, compare and export their members."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Query, Request, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from core import access
from core.access import require
from core.database import bounded
from core.errors import InvalidInput, NotAllowed, Problem
from segments import criteria as language
from segments import export, growth, members, overlap, sql, store, upload, versions
from segments.resolving import problems_of

router = APIRouter(tags=["segments"])

_SOURCE_LIMIT = 200_000
_REJECTS = 1000
_Read = Depends(require("segments:read"))
_Write = Depends(require("segments:write"))
_ReadContacts = Depends(require("contacts:read"))
"""Where ids or addresses are shown, or it can be told whether an address is known."""


class SegmentIn(BaseModel):
    """A segment as written."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(max_length=_SOURCE_LIMIT, description="The segment's YAML")


class CriteriaIn(BaseModel):
    """Criteria that nobody has stored."""

    model_config = ConfigDict(extra="forbid")

    criteria: dict[str, Any]
    limit: int = Field(10, ge=0, le=1000, description="How many contacts to show")


class SegmentRow(BaseModel):
    """A segment in a list."""

    name: str
    title: str
    kind: Literal["criteria", "list"]
    version: int
    contacts: int | None = Field(description="Where the number is kept")
    changed_at: datetime


class SegmentDetail(SegmentRow):
    """A segment with what it says."""

    created_at: datetime
    words: str | None
    source: str


class Published(BaseModel):
    """What publishing came to."""

    segment: str
    changed: bool


class Count(BaseModel):
    """How many contacts are in a segment."""

    segment: str
    contacts: int


class Member(BaseModel):
    """A contact in a segment."""

    id: int
    email: str | None
    since: datetime | None


class MemberPage(BaseModel):
    """Members, and where the next page begins."""

    members: list[Member]
    after: int | None


class Preview(BaseModel):
    """What criteria would come to."""

    contacts: int
    words: str
    newest: list[Member]


class Overlap(BaseModel):
    """What two segments have in common."""

    one: int
    other: int
    both: int
    only_one: int
    only_other: int
    either: int
    share: float | None


class Shown(BaseModel):
    """SQL, with its values apart."""

    sql: str
    parameters: dict[str, Any]


class Day(BaseModel):
    """A segment on one day."""

    day: date
    members: int
    entered: int | None
    gone: int | None


class VersionRow(BaseModel):
    """One publication."""

    version: int
    published_at: datetime
    published_by: str
    changed: str


class RejectedRow(BaseModel):
    """A row of an uploaded file that named nobody."""

    line: int
    value: str
    reason: str


class Uploaded(BaseModel):
    """What became of an uploaded file; at most 1,000 rejects are shown."""

    rows: int
    found: int
    added: int
    rejected: int
    rejects: list[RejectedRow]


@asynccontextmanager
async def _asking(request: Request) -> AsyncIterator[AsyncConnection]:
    """A transaction for a question about contacts, whose time is bounded."""
    seconds = request.app.state.settings.segment_seconds
    mend = "narrow the criteria, have the segment kept, or raise KASKAD_SEGMENT_SECONDS"
    async with request.app.state.database.begin() as connection, bounded(connection, seconds, "the segment", mend):
        yield connection


@router.get("/v1/segments", dependencies=[_Read], summary="List segments", operation_id="list_segments")
async def list_segments(request: Request) -> list[SegmentRow]:
    """All segments, in the order of their names."""
    async with request.app.state.database.begin() as connection:
        return [SegmentRow(**row) for row in await store.listing(connection)]


@router.post("/v1/segments", summary="Create or update a segment", operation_id="publish_segment")
async def publish_segment(
    request: Request, body: SegmentIn, key: Annotated[access.Key, Depends(require("segments:write"))]
) -> Published:
    """Publish a segment; what changed becomes its next version. Addresses on a list ask for `contacts:read` as well."""
    if store.parse(body.source).members and not key.allows("contacts:read"):
        raise NotAllowed("whoever lists addresses learns which are known: the key needs the scope contacts:read")
    async with request.app.state.database.begin() as connection:
        done = await store.publish(connection, body.source, by=f"key {key.name}")
    return Published(segment=done.name, changed=done.changed)


@router.post(
    "/v1/segments/preview",
    dependencies=[_Read, _ReadContacts],
    summary="Try criteria out",
    operation_id="preview_segment",
)
async def preview_segment(request: Request, body: CriteriaIn) -> Preview:
    """How many contacts meet criteria, and the newest of them; nothing is stored."""
    parsed = language.parse(body.criteria, "/criteria")
    async with _asking(request) as connection:
        if problems := await problems_of(connection, parsed, "/criteria"):
            raise InvalidInput(*problems)
        return Preview.model_validate(await members.preview(connection, parsed, body.limit))


@router.get("/v1/segments/overlap", dependencies=[_Read], summary="Compare two segments", operation_id="overlap")
async def compare(
    request: Request,
    one: Annotated[str, Query(max_length=100)],
    other: Annotated[str, Query(max_length=100)],
) -> Overlap:
    """Who is in both of two segments, and in either, as numbers."""
    async with _asking(request) as connection:
        return Overlap(**await overlap.overlap(connection, one, other))


@router.get("/v1/segments/{name}", dependencies=[_Read], summary="Show a segment", operation_id="show_segment")
async def show_segment(request: Request, name: str) -> SegmentDetail:
    """One segment, as written and in words."""
    async with request.app.state.database.begin() as connection:
        return SegmentDetail(**await store.get(connection, name))


@router.delete(
    "/v1/segments/{name}",
    status_code=204,
    dependencies=[_Write],
    summary="Delete a segment",
    operation_id="delete_segment",
)
async def delete_segment(request: Request, name: str) -> None:
    """Delete a segment that nothing names; its contacts stay."""
    async with request.app.state.database.begin() as connection:
        await store.delete_segment(connection, name)


@router.get("/v1/segments/{name}/count", dependencies=[_Read], summary="Count members", operation_id="count_segment")
async def count_segment(
    request: Request,
    name: str,
    exactly: Annotated[bool, Query(description="Ask anew even where the number is kept")] = False,
) -> Count:
    """How many contacts are in a segment; `all` is everybody."""
    async with _asking(request) as connection:
        return Count(segment=name, contacts=await members.count(connection, name, exactly=exactly))


@router.get(
    "/v1/segments/{name}/members",
    dependencies=[_Read, _ReadContacts],
    summary="List members",
    operation_id="list_members",
)
async def list_members(
    request: Request,
    name: str,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="`after` of the page before")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> MemberPage:
    """A page of a segment's members, in the order of their numbers."""
    async with _asking(request) as connection:
        rows = await members.page(connection, name, after, limit)
    return MemberPage(members=[Member(**row) for row in rows], after=rows[-1]["id"] if len(rows) == limit else None)


@router.get(
    "/v1/segments/{name}/export",
    dependencies=[_Read, _ReadContacts],
    summary="Export members as CSV",
    operation_id="export_segment",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def export_segment(
    request: Request,
    name: str,
    columns: Annotated[str, Query(max_length=5000, description="By commas; id, email and since if left out")] = "",
) -> StreamingResponse:
    """All members of a segment as CSV, sent while it is made."""
    wanted = [one.strip() for one in columns.split(",") if one.strip()]

    async def pieces() -> AsyncIterator[str]:
        async with _asking(request) as connection:
            async for piece in export.export(connection, name, wanted):
                yield piece.text

    body = pieces()
    # What is wrong with the request, or takes too long, is said before the answer begins.
    begun = await anext(body) + await anext(body, "")

    async def whole() -> AsyncIterator[str]:
        yield begun
        async for piece in body:
            yield piece

    return StreamingResponse(whole(), media_type="text/csv; charset=utf-8")


@router.get("/v1/segments/{name}/sql", dependencies=[_Read], summary="Show the SQL", operation_id="segment_sql")
async def segment_sql(request: Request, name: str) -> Shown:
    """The SQL that a segment becomes, with its values apart."""
    async with request.app.state.database.begin() as connection:
        found = await sql.sql(connection, await store.members_are(connection, name))
    return Shown(sql=found["sql"], parameters={key: _plain(value) for key, value in found["parameters"].items()})


@router.get("/v1/segments/{name}/growth", dependencies=[_Read], summary="Show growth", operation_id="segment_growth")
async def segment_growth(request: Request, name: str, days: Annotated[int, Query(ge=1, le=3650)] = 30) -> list[Day]:
    """How many contacts were in a segment, day by day."""
    async with request.app.state.database.begin() as connection:
        return [Day(**row) for row in await growth.growth(connection, name, days)]


@router.get(
    "/v1/segments/{name}/versions", dependencies=[_Read], summary="List versions", operation_id="segment_versions"
)
async def segment_versions(request: Request, name: str) -> list[VersionRow]:
    """The publications of a segment, newest first."""
    async with request.app.state.database.begin() as connection:
        return [VersionRow(**row) for row in await versions.history(connection, name)]


@router.post(
    "/v1/segments/{name}/upload",
    dependencies=[_Write, _ReadContacts],
    summary="Put a file of identities on a list",
    operation_id="upload_segment",
)
async def upload_segment(
    request: Request,
    name: str,
    file: Annotated[UploadFile, File(description="CSV or XLSX; its first row names the columns")],
    column: Annotated[str | None, Query(max_length=50, description="email, phone … or id")] = None,
) -> Uploaded:
    """Put the contacts that a file names on a segment's list."""
    suffix = Path(file.filename or "").suffix[:10]
    handle, place = tempfile.mkstemp(suffix=suffix if suffix.isascii() else "")
    path = Path(place)
    try:
        with os.fdopen(handle, "wb") as target:
            await asyncio.to_thread(shutil.copyfileobj, file.file, target)
        async with request.app.state.database.begin() as connection:
            done = await upload.upload(connection, name, path, column, request.app.state.settings.phone_region)
    except InvalidInput as error:
        raise InvalidInput(*(Problem(one.message, one.mend, line=one.line) for one in error.problems)) from None
    finally:
        await asyncio.to_thread(path.unlink)
    return Uploaded(
        rows=done.rows,
        found=done.found,
        added=done.added,
        rejected=len(done.rejects),
        rejects=[RejectedRow(**vars(one)) for one in done.rejects[:_REJECTS]],
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)
