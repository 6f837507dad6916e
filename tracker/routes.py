"""POST /v1/events: the way in for what happened to contacts."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal

import msgspec
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from core import access
from core.clock import now
from core.errors import InvalidInput, Problem
from tracker.document import REQUEST_BODY
from tracker.ingest import Busy, Duplicate, Fate, Intake, Stored
from tracker.wire import Incoming, Parsed, Refused, parse

SCOPE = "events:write"


class BareRoute(APIRoute):
    """A route whose function gets the request itself and gives the response.

    FastAPI's way of solving dependencies costs more than all the rest of taking in one event. What stands in
    `dependencies` is documented all the same; the function has to see to it.
    """

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The function of the route, as it is."""
        endpoint: Callable[[Request], Awaitable[Response]] = self.endpoint
        return endpoint


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    intake: Intake | None = getattr(app.state, "intake", None)
    if intake is not None:
        await intake.close()


router = APIRouter(route_class=BareRoute, lifespan=_lifespan, tags=["events"])


class EventProblem(BaseModel):
    """One thing that is wrong with an event."""

    path: str = Field(description="Where: a field of the event", examples=["events[3].at"])
    message: str = Field(description="What is wrong")
    mend: str = Field(description="What to do about it")


class EventResult(BaseModel):
    """What became of one event."""

    id: str | None = Field(default=None, description="The id it came with, if it had one")
    status: Literal["accepted", "duplicate", "refused"] = Field(
        description="`accepted`: it is stored. `duplicate`: one with this id was stored before. `refused`: it is not."
    )
    errors: list[EventProblem] = Field(default=[], description="Why it was refused; left out otherwise")


class EventResults(BaseModel):
    """What became of the events of one request, in the order they were sent."""

    accepted: int = Field(description="How many are stored now, and were not before")
    duplicates: int = Field(description="How many were stored before")
    refused: int = Field(description="How many were not stored; send them again when they are mended")
    events: list[EventResult]


class _Result(msgspec.Struct, omit_defaults=True):
    status: str
    id: str | None = None
    errors: list[dict[str, str]] = []


class _Results(msgspec.Struct):
    accepted: int
    duplicates: int
    refused: int
    events: list[_Result]


_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"model": EventResults, "description": "Committed: at least one event is stored, now or from before"},
    401: {"description": "No API key, or none that is known"},
    403: {"description": f"The API key is not good for {SCOPE}"},
    413: {"description": "The body is larger than KASKAD_REQUEST_BYTES_LIMIT"},
    415: {"description": "The body is compressed"},
    422: {"description": "No event could be stored; each error says where, what and what to do"},
    503: {"description": "Too much to do, or no database; send it again. With ids, no event is stored twice"},
}


@router.post(
    "/v1/events",
    status_code=202,
    responses=_RESPONSES,
    openapi_extra={"requestBody": REQUEST_BODY},
    dependencies=[Depends(access.require(SCOPE))],
    summary="Send events",
    operation_id="send_events",
)
async def send_events(request: Request) -> Response:
    """Store one event or up to 1,000 and answer when they are committed.

    Events with an id are stored once, however often they are sent within 7 days by the same API key. The log keeps
    the order of a request. An event that cannot be stored does not keep its neighbours out.
    """
    state = request.app.state
    key = await access.check(state.database, access.sent_key(request), SCOPE)
    body = await body_of(request, state.settings.request_bytes_limit)
    intake = intake_of(request.app)
    parsed = parse(body, intake.limits, now())
    good = [item for item in parsed.items if isinstance(item, Incoming)]
    try:
        fates = await intake.take(good, key.id)
    except Busy as error:
        raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
    return Response(_answer(parsed, fates), 202, media_type="application/json")


def intake_of(app: FastAPI) -> Intake:
    """The process's intake, made by the first request, since it needs the event loop."""
    intake: Intake | None = getattr(app.state, "intake", None)
    if intake is None:
        intake = app.state.intake = Intake(app.state.database, app.state.settings)
    return intake


async def body_of(request: Request, limit: int) -> bytes:
    """The request's body, never holding much more than `limit` bytes."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "the body is compressed: send it plain", {"Accept-Encoding": "identity"})
    body = b""
    async for chunk in request.stream():
        body = body + chunk if body else chunk
        if len(body) > limit:
            raise HTTPException(413, f"the body is larger than {limit:,} bytes: send fewer events at a time")
    return body


def _answer(parsed: Parsed, fates: Sequence[Fate]) -> bytes:
    """The body of the answer.

    Raises:
        InvalidInput: no event was stored, now or before.
    """
    left = iter(fates)
    results, problems = [], []
    accepted = duplicates = 0
    for item in parsed.items:
        fate = item.problem if isinstance(item, Refused) else next(left)
        if isinstance(fate, Stored):
            accepted += 1
            results.append(_Result("accepted", item.id))
        elif isinstance(fate, Duplicate):
            duplicates += 1
            results.append(_Result("duplicate", item.id))
        else:
            problem = fate if isinstance(item, Refused) else _placed(fate, item.index, parsed.single)
            problems.append(problem)
            error = {"path": problem.path, "message": problem.message, "mend": problem.mend}
            results.append(_Result("refused", item.id, [error]))
    if len(problems) == len(results):
        raise InvalidInput(*problems)
    return msgspec.json.encode(_Results(accepted, duplicates, len(problems), results))


def _placed(problem: Problem, index: int, single: bool) -> Problem:
    """The problem with the event's place in the request before its path."""
    if single:
        return problem
    place = f"events[{index}]"
    return replace(problem, path=f"{place}.{problem.path}" if problem.path else place)
