"""Journeys over HTTP: publishing, reading, pausing."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from core.access import Key, require
from journeys import store
from journeys.edits import placed
from journeys.steps.known import Abilities

router = APIRouter(prefix="/v1/journeys", tags=["journeys"])

State = Literal["active", "paused", "finishing", "stopped"]
_Name = Annotated[str, Path(max_length=100, description="The journey's name")]


_Places = Annotated[
    Sequence[str],
    Query(max_length=500, description="Where contacts go from a step that is gone: old-step=new-step, or =end"),
]


class JourneyRow(BaseModel):
    """One journey in the list."""

    name: str
    title: str
    state: State
    paused_because: str | None = Field(None, description="Why it paused itself; nothing where people did")
    version: int
    published_at: datetime
    running: int = Field(description="Contacts in it now")
    finished: int = Field(description="Runs that ended")


class JourneyDetails(BaseModel):
    """One journey with its present version."""

    name: str
    title: str
    state: State
    version_id: int
    number: int
    published_at: datetime
    published_by: str | None
    source: str = Field(description="The YAML as published")
    plan: dict[str, Any] = Field(description="What it was compiled to")


class StandingRow(BaseModel):
    """The contacts on one step of an earlier version."""

    version: int
    step: str
    kind: str
    edit: Literal["same", "rerouted", "changed", "retimed", "gone"]
    contacts: int
    to: str | None = Field(description="The step they go to, or `end`; null if that has to be said")


class PublishAnswer(BaseModel):
    """What publishing came to."""

    journey: str
    version_id: int
    number: int
    changed: bool = Field(description="False if this is the present version already")
    standing: list[StandingRow] = Field(default=[], description="With `move`: where those stood who are moved")
    moving: int = Field(default=0, description="With `move`: how many contacts that is")


class StateAnswer(BaseModel):
    """What a journey's state was and is."""

    journey: str
    before: str
    state: str


@router.get("", dependencies=[Depends(require("journeys:read"))], summary="All journeys")
async def list_journeys(request: Request) -> list[JourneyRow]:
    """The published journeys, by name."""
    async with request.app.state.database.begin() as connection:
        return [JourneyRow(**row) for row in await store.listing(connection)]


@router.get("/{name}", dependencies=[Depends(require("journeys:read"))], summary="One journey")
async def show_journey(name: _Name, request: Request) -> JourneyDetails:
    """A journey with the version that newcomers get."""
    async with request.app.state.database.begin() as connection:
        found = await store.find(connection, name)
    facts = asdict(found)
    del facts["id"]
    return JourneyDetails(**facts | {"plan": found.plan.model_dump(mode="json")})


@router.post(
    "",
    summary="Publish a journey",
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/yaml": {"schema": {"type": "string"}}}},
    },
)
async def publish_journey(
    request: Request,
    key: Annotated[Key, Depends(require("journeys:write"))],
    move: Annotated[bool, Query(description="Take contacts who are under way along")] = False,
    place: _Places = (),
    backfill: Annotated[bool, Query(description="Let in those, too, who are members of its segment already")] = False,
) -> PublishAnswer:
    """Publish the YAML in the body as the journey's next version. Problems name line, column and mend."""
    source = await request.body()
    async with request.app.state.database.begin() as connection:
        done = await store.publish(
            connection,
            source,
            "body",
            f"key {key.name}",
            move=move,
            placement=placed(place),
            backfill=backfill,
            abilities=Abilities.of(request.app.state.settings),
        )
    return PublishAnswer(**asdict(done))


@router.post(
    "/preview",
    summary="What publishing would mean for contacts under way",
    dependencies=[Depends(require("journeys:read"))],
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/yaml": {"schema": {"type": "string"}}}},
    },
)
async def preview_journey(request: Request, place: _Places = ()) -> list[StandingRow]:
    """Whom publishing the YAML in the body with `move` would move, and where to. Changes nothing."""
    source = await request.body()
    async with request.app.state.database.begin() as connection:
        found = await store.preview(connection, source, "body", placement=placed(place))
    return [StandingRow(**asdict(one)) for one in found]


@router.post("/{name}/pause", dependencies=[Depends(require("journeys:write"))], summary="Pause a journey")
async def pause_journey(name: _Name, request: Request) -> StateAnswer:
    """Hold everyone where they are, and newcomers at the door."""
    return await _change(request, name, "paused")


@router.post("/{name}/resume", dependencies=[Depends(require("journeys:write"))], summary="Resume a journey")
async def resume_journey(name: _Name, request: Request) -> StateAnswer:
    """Let a paused or stopped journey go on."""
    return await _change(request, name, "active")


@router.post("/{name}/stop", dependencies=[Depends(require("journeys:write"))], summary="Stop a journey")
async def stop_journey(
    name: _Name,
    request: Request,
    finish: Annotated[bool, Query(description="Let those inside go on to their end")] = False,
) -> StateAnswer:
    """Let nobody in any more, and end the journey for everyone in it."""
    return await _change(request, name, "finishing" if finish else "stopped")


async def _change(request: Request, name: str, state: str) -> StateAnswer:
    async with request.app.state.database.begin() as connection:
        before = await store.set_state(connection, name, state)
    return StateAnswer(journey=name, before=before, state=state)
