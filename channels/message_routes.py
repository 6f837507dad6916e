"""The API of the ledger: find messages, see what happened to one, settle and retry by hand."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, Field

from channels import byhand, messages, story
from channels.messages import Wanted
from contacts import profiles
from core.access import Key, require
from core.clock import now

router = APIRouter(tags=["messages"])
_read = Depends(require("messages:read"))


class MessageOut(BaseModel):
    """A message as it stands in a list."""

    id: UUID
    created_at: datetime
    contact_id: int
    channel: str
    purpose: str
    state: str = Field(description="queued, skipped, handing, in_doubt, failed, accepted, delivered or bounced")
    journey: str | None
    template: str | None
    provider: str | None
    address: str | None
    attempts: int
    reason: str | None


class MessagePage(BaseModel):
    """Messages, newest first."""

    messages: list[MessageOut]
    next: str | None = Field(description="Ask with this `page` for the next one; null at the end")
    since: datetime | None = Field(description="How far back was looked; null: as far as there is anything")


class MomentOut(BaseModel):
    """Something that happened to a message."""

    at: datetime
    what: str
    about: dict[str, Any]


class EnclosedOut(BaseModel):
    """A file that went with a message."""

    name: str
    content_type: str
    bytes: int
    picture: bool = Field(description="Shown by the HTML; otherwise there to be opened")


class ContentOut(BaseModel):
    """What a message said."""

    sender: str | None
    subject: str
    html: str
    text: str
    attachments: list[EnclosedOut]


class MessageDetail(MessageOut):
    """Everything that is known of a message."""

    version: int | None
    step: str | None
    template_version: int | None
    tried: list[str] = Field(description="Providers that had it before this one")
    accepted_at: datetime | None
    delivered_at: datetime | None
    opened_at: datetime | None
    clicked_at: datetime | None
    provider_message_id: str | None
    why: str | None = Field(description="The reason in a sentence")
    happened: list[MomentOut] = Field(description="Oldest first")
    content: ContentOut | None = Field(description="As it was rendered; null where it is not kept any more")


class Settling(BaseModel):
    """What is decided about a message that is in doubt."""

    outcome: Literal["sent", "not-sent"]
    why: str | None = Field(None, max_length=500)


class Retrying(BaseModel):
    """Why a message is sent again."""

    why: str | None = Field(None, max_length=500)


@router.get("/v1/messages", dependencies=[_read], summary="Find messages", operation_id="list_messages")
async def list_messages(
    request: Request,
    contact: Annotated[str | None, Query(description="A contact's number, or email:anna@example.com")] = None,
    address: Annotated[str | None, Query(max_length=2000)] = None,
    state: Annotated[str | None, Query(description="queued, skipped, in_doubt, failed …")] = None,
    provider: str | None = None,
    journey: str | None = None,
    channel: str | None = None,
    since: AwareDatetime | None = None,
    before: AwareDatetime | None = None,
    page: Annotated[str | None, Query(description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> MessagePage:
    """Messages, newest first. Without a contact or `since` a list goes seven days back."""
    async with request.app.state.database.begin() as connection:
        region = request.app.state.settings.phone_region
        contact_id = await profiles.find(connection, contact, region) if contact else None
        wanted = Wanted(state, contact_id, address, provider, journey, channel, since, before, page)
        found = await messages.listing(connection, wanted, now(), limit)
    return MessagePage.model_validate(vars(found))


@router.get("/v1/messages/{message}", dependencies=[_read], summary="Show a message", operation_id="show_message")
async def show_message(request: Request, message: UUID) -> MessageDetail:
    """Everything that happened to a message, with what it said and why it was not sent."""
    async with request.app.state.database.begin() as connection:
        return MessageDetail.model_validate(await story.show(connection, request.app.state.settings, message))


@router.post(
    "/v1/messages/{message}/resolve",
    status_code=204,
    summary="Settle a message that is in doubt",
    operation_id="resolve_message",
)
async def resolve_message(
    request: Request, message: UUID, body: Settling, key: Annotated[Key, Depends(require("messages:write"))]
) -> None:
    """Say whether a message that is in doubt was sent. The key's name is kept with it."""
    async with request.app.state.database.begin() as connection:
        await byhand.resolve(connection, message, body.outcome == "sent", f"key {key.name}", body.why)


@router.post(
    "/v1/messages/{message}/retry",
    status_code=202,
    summary="Send a message again",
    operation_id="retry_message",
)
async def retry_message(
    request: Request, message: UUID, body: Retrying, key: Annotated[Key, Depends(require("messages:write"))]
) -> None:
    """Send a failed message, or one in doubt, again: a worker does so within seconds. The key's name is kept."""
    async with request.app.state.database.begin() as connection:
        await byhand.retry(connection, message, f"key {key.name}", body.why)
