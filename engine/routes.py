"""The API of enrollments: entering a journey, and what became of it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from contacts.profiles import find
from core.access import Key, require
from core.clock import now
from core.errors import InvalidInput
from engine import broadcasts, entering, history, moves
from tracker.wire import Limits

router = APIRouter(prefix="/v1", tags=["journeys"])


class EnterRequest(BaseModel):
    """Who enters: contacts by reference, or a segment."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"contacts": ["email:ann@example.com"], "properties": {"cart": 42}}]},
    )

    contacts: Annotated[list[str], Field(max_length=entering.LIST_LIMIT)] = []
    """Numbers, or `email:…`, `external_id:…`."""
    segment: str | None = None
    """A segment's name; `all` is every contact."""
    key: Annotated[str, Field(max_length=200)] = ""
    properties: dict[str, Any] = {}
    """With contacts: what templates and `same:` find as `event.…`, within the limits of an event's."""
    occasion: Annotated[str | None, Field(max_length=200)] = None
    """With a segment: repeating a request with the same occasion changes nothing."""


class EnterAnswer(BaseModel):
    """What was asked for; entering itself follows within moments."""

    journey: str
    contacts: int | None = None
    broadcast: int | None = None
    """Null when this occasion was taken before."""


@router.post("/journeys/{name}/enter", status_code=202, dependencies=[Depends(require("journeys:write"))])
async def enter(name: str, body: EnterRequest, request: Request) -> EnterAnswer:
    """Let contacts, or a segment, into a journey."""
    if bool(body.contacts) == (body.segment is not None):
        raise InvalidInput("give either contacts or a segment")
    if body.properties and body.segment is not None:
        raise InvalidInput("properties belong to contacts that are named, not to a segment")
    entering.check(body.properties, Limits.of(request.app.state.settings))
    async with request.app.state.database.begin() as connection:
        if body.segment is None:
            ids = [await find(connection, reference) for reference in body.contacts]
            return EnterAnswer(
                journey=name, contacts=await entering.enter(connection, name, ids, body.key, body.properties)
            )
        occasion = f"api:{name}:{body.occasion or now().isoformat()}"
        number = await broadcasts.start(connection, name, occasion=occasion, segment=body.segment)
        return EnterAnswer(journey=name, broadcast=number)


class MoveRequest(BaseModel):
    """Where a contact is to go on."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"step": "second-letter"}]})

    step: Annotated[str, Field(min_length=1, max_length=100)]
    """The id of a step of its version."""


class EndRequest(BaseModel):
    """How an enrollment is to end."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"outcome": "refunded"}]})

    outcome: Annotated[str, Field(min_length=1, max_length=100)] = "taken out"


class OrderAnswer(BaseModel):
    """What was asked for; it is done within moments."""

    order: int


_Number = Annotated[int, Path(ge=1, lt=2**63)]


@router.post("/enrollments/{enrollment_id}/move", status_code=202)
async def move(
    enrollment_id: _Number, body: MoveRequest, request: Request, key: Annotated[Key, Depends(require("journeys:write"))]
) -> OrderAnswer:
    """Let a contact go on at another step. What is being sent to it goes out."""
    async with request.app.state.database.begin() as connection:
        number = await moves.order(connection, enrollment_id, step=body.step, by=f"key {key.name}")
    return OrderAnswer(order=number)


@router.post("/enrollments/{enrollment_id}/end", status_code=202)
async def end(
    enrollment_id: _Number, body: EndRequest, request: Request, key: Annotated[Key, Depends(require("journeys:write"))]
) -> OrderAnswer:
    """Take a contact out of its journey."""
    async with request.app.state.database.begin() as connection:
        number = await moves.order(connection, enrollment_id, outcome=body.outcome, by=f"key {key.name}")
    return OrderAnswer(order=number)


@router.get("/enrollments/{enrollment_id}", dependencies=[Depends(require("journeys:read"))])
async def show(enrollment_id: _Number, request: Request) -> history.History:
    """What happened to an enrollment, and what it waits for."""
    async with request.app.state.database.begin() as connection:
        return await history.of_enrollment(connection, enrollment_id)
