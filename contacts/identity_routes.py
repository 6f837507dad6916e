"""The API of identities: say who somebody is, merge contacts and undo that, look at conflicts."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identifying, merging, profiles, wire
from contacts.profiles import Limits
from core.access import Key, require
from core.errors import Unavailable

router = APIRouter(tags=["contacts"])

_ATTEMPTS = 5
_RETRIED = {"40P01", "40001", "23505"}
_Number = Annotated[int, Path(ge=1, le=2**63 - 1)]
_Before = Annotated[int | None, Query(ge=1, le=2**63 - 1, description="The last `id` of the page before")]
_Contact = Annotated[str | None, Query(description="Only of this contact: a number, or email:anna@example.com …")]
_T = TypeVar("_T")


class IdentifyIn(BaseModel):
    """Who somebody is: what is known of one person."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"anonymous_id": "0b5c0c1e", "external_id": "u-17"}]}
    )

    anonymous_id: str | None = Field(None, description="Of the browser or device that the person uses just now")
    external_id: str | None = Field(None, description="The id in your own system")
    email: str | None = None
    phone: str | None = None


class IdentifiedOut(BaseModel):
    """Who it is."""

    contact_id: int
    merges: list[int] = Field(description="The merges that came of it; each can be undone")
    conflicts: list[wire.IdentityRef] = Field(description="Identities that belong to other contacts, and stay theirs")
    anew: bool = Field(description="The anonymous id belongs to another contact: the device has to take a new one")


class MergeIn(BaseModel):
    """Into whom."""

    model_config = ConfigDict(extra="forbid")

    into: str = Field(description="A contact's number, or `email:anna@example.com` and so on", examples=["17"])


class MergedOut(BaseModel):
    """A merge that was done."""

    merge: int = Field(description="Its number, by which it can be undone")
    contact_id: int = Field(description="The contact that both are now")


class MergeOut(BaseModel):
    """A merge."""

    id: int
    loser_id: int = Field(description="The contact that is no more")
    winner_id: int = Field(description="Into which it was merged")
    now_id: int = Field(description="Who that is now: winners can be merged, too")
    merged_at: datetime
    source: str
    merged_by: str | None
    undone_at: datetime | None
    undone_by: str | None
    can_be_undone: bool


class MergePage(BaseModel):
    """Merges, newest first."""

    merges: list[MergeOut]


class UndoneOut(BaseModel):
    """What became of undoing a merge."""

    contact_id: int = Field(description="The contact that is there again")
    winner_id: int
    ended: list[int] = Field(description="Enrollments that the merge ended, which stay ended")


class ConflictOut(BaseModel):
    """An identity that one contact was said to have, and another one has."""

    id: int
    contact_id: int
    owner_id: int
    kind: str
    value: str
    noted_at: datetime
    source: str


class ConflictPage(BaseModel):
    """Conflicts, newest first."""

    conflicts: list[ConflictOut]


async def _repeated(request: Request, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
    """Do work in a transaction; again where it met others who held what it needed."""
    for _ in range(_ATTEMPTS):
        try:
            async with request.app.state.database.begin() as connection:
                return await work(connection)
        except exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _RETRIED:
                raise
    raise Unavailable("others keep writing the same contacts; try again")


@router.post(
    "/v1/identify",
    dependencies=[Depends(require("contacts:write"))],
    summary="Say who somebody is",
    operation_id="identify",
)
async def identify(request: Request, body: IdentifyIn) -> IdentifiedOut:
    """Find or make the contact; a visitor who turns out to be a known contact is merged into it.

    Two known contacts never merge this way, unless a setting allows it for emails or phones.
    """
    settings = request.app.state.settings
    said = body.model_dump(exclude_none=True)
    device = said.pop("anonymous_id", None)

    async def work(connection: AsyncConnection) -> identifying.Identified:
        return await identifying.identify(
            connection,
            device,
            said,
            rules=identifying.Rules.of(settings),
            source="api",
            limits=Limits.of(settings),
            region=settings.phone_region,
        )

    done = await _repeated(request, work)
    conflicts = [wire.IdentityRef(kind=kind, value=value) for kind, value in done.conflicts]
    return IdentifiedOut(contact_id=done.contact_id, merges=list(done.merges), conflicts=conflicts, anew=done.anew)


@router.post("/v1/contacts/{contact}/merge", summary="Merge a contact into another", operation_id="merge_contacts")
async def merge_contacts(
    request: Request, contact: str, body: MergeIn, key: Annotated[Key, Depends(require("contacts:write"))]
) -> MergedOut:
    """Make two contacts one. What both have comes from the one it is merged into."""
    settings = request.app.state.settings

    async def work(connection: AsyncConnection) -> MergedOut:
        loser = await profiles.find(connection, contact, settings.phone_region)
        winner = await profiles.find(connection, body.into, settings.phone_region)
        number = await merging.merge(
            connection, loser, winner, source="api", by=f"key {key.id}", limits=Limits.of(settings)
        )
        return MergedOut(merge=number, contact_id=winner)

    return await _repeated(request, work)


@router.get(
    "/v1/merges",
    dependencies=[Depends(require("contacts:read"))],
    summary="List merges",
    operation_id="list_merges",
)
async def list_merges(
    request: Request, contact: _Contact = None, before: _Before = None, limit: wire.Limit = 100
) -> MergePage:
    """Merges, newest first."""
    async with request.app.state.database.begin() as connection:
        rows = await merging.listing(connection, await _meant(request, connection, contact), before, limit)
    return MergePage.model_validate({"merges": rows})


@router.post("/v1/merges/{merge}/undo", summary="Undo a merge", operation_id="undo_merge")
async def undo_merge(
    request: Request, merge: _Number, key: Annotated[Key, Depends(require("contacts:write"))]
) -> UndoneOut:
    """Make two contacts again of what the merge made one.

    Messages that were sent stay sent, enrollments that the merge ended stay ended, and events that have come since stay
    with the winner.
    """

    async def work(connection: AsyncConnection) -> merging.Undone:
        return await merging.unmerge(connection, merge, by=f"key {key.id}")

    done = await _repeated(request, work)
    return UndoneOut(**vars(done))


@router.get(
    "/v1/conflicts",
    dependencies=[Depends(require("contacts:read"))],
    summary="List conflicts of identities",
    operation_id="list_conflicts",
)
async def list_conflicts(
    request: Request, contact: _Contact = None, before: _Before = None, limit: wire.Limit = 100
) -> ConflictPage:
    """Identities that one contact was said to have and another one has: nothing was merged."""
    async with request.app.state.database.begin() as connection:
        rows: list[dict[str, Any]] = await identifying.conflicts(
            connection, await _meant(request, connection, contact), before, limit
        )
    return ConflictPage.model_validate({"conflicts": rows})


async def _meant(request: Request, connection: AsyncConnection, contact: str | None) -> int | None:
    if contact is None:
        return None
    return await profiles.find(connection, contact, request.app.state.settings.phone_region)
