"""What a site's pages ask for: the script, and the endpoint that takes hits. At the paths the sites are set to."""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field

from core.clock import now
from core.errors import InvalidInput, NotFound, NotSignedIn
from tracker import hits, origins, script
from tracker.desk import Desk, Taken
from tracker.document import HITS_BODY
from tracker.ingest import Busy
from tracker.routes import BareRoute, EventProblem, body_of, intake_of
from tracker.sites import ENDPOINT_PATH, SCRIPT_PATH

_DAY = 86_400
_FOR_AN_HOUR = "public, max-age=3600"
_FOR_EVER = f"public, max-age={365 * _DAY}, immutable"
_JAVASCRIPT = "text/javascript; charset=utf-8"


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with desk_of(app).open():
        yield


router = APIRouter(route_class=BareRoute, lifespan=_lifespan, tags=["site"])


class HitResults(BaseModel):
    """What became of the events of one request, when some were not stored."""

    accepted: int = Field(description="How many are stored now, and were not before")
    duplicates: int = Field(description="How many were stored before")
    refused: int = Field(description="How many were not stored")
    errors: list[EventProblem]


def desk_of(app: FastAPI) -> Desk:
    """The process's desk, made by the first who needs it, since it needs the event loop."""
    desk: Desk | None = getattr(app.state, "desk", None)
    if desk is None:
        desk = app.state.desk = Desk(app.state.database, app.state.settings, intake_of(app))
    return desk


def handler(app: FastAPI, method: str, path: str) -> Callable[[Request], Awaitable[Response]] | None:
    """What serves a path of some site, if one has it."""
    desk: Desk | None = getattr(app.state, "desk", None)
    if desk is None:
        return None
    if desk.directory.is_endpoint(path):
        return {"POST": take_hits, "OPTIONS": answer_preflight}.get(method)
    if method not in {"GET", "HEAD"}:
        return None
    if desk.directory.is_script(path):
        return give_script
    part = desk.directory.part(path)
    return partial(give_part, part) if part else None


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": HitResults, "description": "Committed; some events were not stored, and `errors` says why"},
    204: {"description": "Committed, or left out on purpose (bots, internal traffic): there is nothing to send again"},
    401: {"description": "No site has this write key"},
    403: {"description": "The page's origin is none that the site allows"},
    410: {"description": "The anonymous id was erased, or is another person's: begin a new one"},
    413: {"description": "The body is larger than KASKAD_HIT_BYTES_LIMIT"},
    415: {"description": "The body is compressed"},
    422: {"description": "Nothing could be stored; each error says where, what and what to do"},
    429: {"description": "Too many from one address or for one key; send it again after `Retry-After` seconds"},
    503: {"description": "Too much to do, or no database; send it again"},
}


@router.post(
    ENDPOINT_PATH,
    status_code=204,
    responses=_RESPONSES,
    openapi_extra={"requestBody": HITS_BODY},
    summary="Send hits, as the site snippet does",
    operation_id="send_hits",
)
async def take_hits(request: Request) -> Response:
    """Store what a page reports and answer when it is committed.

    For browsers: the write key is public, and the page's origin has to be one of the site's. Sites may have other
    paths.
    """
    desk = desk_of(request.app)
    received = now()
    peer = request.client.host if request.client else ""
    caller = desk.gate.caller(peer, request.headers)
    # Until the site is known anyone may read what is wrong. It is nothing secret, and a snippet that could not see the
    # status would send again and again.
    request.state.headers = {"Access-Control-Allow-Origin": "*"}
    if not desk.gate.may_ask(caller, 1):
        raise _too_many()
    content = await body_of(request, request.app.state.settings.hit_bytes_limit)
    body = hits.read(content)
    site = await desk.directory.find(body.key)
    if site is None:
        raise NotSignedIn("no site has this write key: kaskad site key NAME tells it")
    request.state.headers = _cors(site.origins, caller.origin)
    if len(body.events) > 1 and not desk.gate.may_ask(caller, len(body.events) - 1):
        desk.tally.count(site.id, received, "limited", len(body.events))
        raise _too_many()
    try:
        taken = await desk.take(site, caller, body, received)
    except Busy as error:
        raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
    return _answer(taken, request.state.headers)


def _answer(taken: Taken, headers: dict[str, str]) -> Response:
    if taken.is_limited:
        raise _too_many()
    if taken.is_anew:
        raise HTTPException(410, "this anonymous id is not to be used any more: begin a new one")
    if not taken.problems:
        return Response(status_code=204, headers=headers)
    if not taken.accepted and not taken.duplicates and not taken.is_identified:
        raise InvalidInput(*taken.problems)
    results = {
        "accepted": taken.accepted,
        "duplicates": taken.duplicates,
        "refused": len(taken.problems),
        "errors": [{"path": one.path, "message": one.message, "mend": one.mend} for one in taken.problems],
    }
    return Response(msgspec.json.encode(results), 200, headers, media_type="application/json")


def _too_many() -> HTTPException:
    return HTTPException(429, "too many hits at once: wait a little", {"Retry-After": "5"})


def _cors(allowed: tuple[str, ...], origin: str | None) -> dict[str, str]:
    """Let the page's script read the answer, if it may report at all (Fetch, section 3.2)."""
    if origins.ANYWHERE in allowed:
        return {"Access-Control-Allow-Origin": "*"}
    if origin and origins.allows(allowed, origin):
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
    return {"Vary": "Origin"}


async def answer_preflight(request: Request) -> Response:
    """Let pages of any site send what is not `text/plain`. Which key they use is seen when they do."""
    origin = request.headers.get("origin")
    if not await desk_of(request.app).directory.allow(origin):
        raise HTTPException(403, "no site has this origin", {"Vary": "Origin"})
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Origin": origin or "*",
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": "content-type",
            "Access-Control-Max-Age": str(_DAY),
            "Vary": "Origin",
        },
    )


@router.get(SCRIPT_PATH, include_in_schema=False)
async def give_script(request: Request) -> Response:
    """The site snippet: the present one, one version for ever (`?v=`), or the stub alone (`?stub`)."""
    if "stub" in request.query_params:
        return _javascript(request, script.bundle().stub.encode(), _FOR_AN_HOUR)
    return _of_version(request, script.SCRIPT, script.bundle().script)


async def give_part(part: str, request: Request) -> Response:
    """A part of the snippet, which the snippet asks for in the version that it knows."""
    return _of_version(request, part, script.bundle().parts.get(part))


def _of_version(request: Request, part: str, present: bytes | None) -> Response:
    version = request.query_params.get("v")
    found = present if version is None else script.bundle().of_version(version, part)
    if found is None:
        raise NotFound("there is no such version of the snippet")
    return _javascript(request, found, _FOR_AN_HOUR if version is None else _FOR_EVER)


def _javascript(request: Request, content: bytes, lifetime: str) -> Response:
    headers = {
        "Access-Control-Allow-Origin": "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Cache-Control": lifetime,
        "Vary": "Accept-Encoding",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        content, headers = _packed(content), headers | {"Content-Encoding": "gzip"}
    return Response(content, headers=headers, media_type=_JAVASCRIPT)


@cache
def _packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)
