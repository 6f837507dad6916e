"""The API app: every package's routes, errors as problem details, health and metrics."""

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.types import ASGIApp
from temporalio.client import Client
from temporalio.service import RPCError

import channels.email.routes
import channels.hooks
import channels.message_routes
import channels.provider_routes
import channels.routes
import contacts.routes
import engine.routes
import engine.simulating_routes
import journeys.routes
import reports.routes
import segments.routes
import studio.demo.routes
import tracker.routes
import tracker.site_routes
from channels.email import mailbox
from core import access, metrics, migrate
from core.database import Database
from core.errors import DatabaseUnavailable
from core.settings import Settings
from studio import pages, problems
from studio.guard import Guard, Lane, Upload
from studio.kept import Kept

# For programs, and for people who got a letter; each route asks for what it needs itself.
_OPEN_ROUTERS = (
    tracker.routes.router,
    tracker.site_routes.router,
    contacts.routes.router,
    journeys.routes.router,
    segments.routes.router,
    engine.routes.router,
    engine.simulating_routes.router,
    channels.routes.router,
    channels.message_routes.router,
    channels.provider_routes.router,
    channels.hooks.router,
    reports.routes.router,
)
# Pages that only whoever runs this installation may see.
_INNER_ROUTERS = (channels.email.routes.router, studio.demo.routes.router)

_HOT = {("POST", "/v1/events"): tracker.routes.send_events}

_FORM_BYTES = 100_000  # what a form needs around its file

_DESCRIPTION = """Send events and contacts, start journeys and read what became of them.

Every call needs an API key, sent as `Authorization: Bearer kk_…`; `kaskad key create` makes one. Errors are problem
details (RFC 9457): `detail` says what is wrong, `errors` lists every problem with its place and what to do about it."""

_PROBLEM: dict[str, Any] = {
    "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request cannot be carried out", **_PROBLEM},
    "5XX": {"description": "Kaskad or something it depends on failed; trying again later may help", **_PROBLEM},
}
health = APIRouter(tags=["health"])


class Readiness(BaseModel):
    """Whether each part that the API depends on answers."""

    ready: bool
    database: str = Field(description="`ok`, or what is wrong")
    temporal: str = Field(description="`ok`, or what is wrong; events are accepted meanwhile")


def create_app(settings: Settings, database: Database, temporal: Client | None = None) -> FastAPI:
    """The app over one installation.

    Args:
        settings: of this process.
        database: closed by the caller, after the app has shut down.
        temporal: may be a lazy client, so that events are taken in while Temporal is away.
    """
    app = _Api(
        title="Kaskad",
        version=importlib.metadata.version("kaskad") if _is_installed() else "0",
        summary="Marketing journeys that react to events",
        description=_DESCRIPTION,
        docs_url=None,  # those pages load scripts from other people's servers
        redoc_url=None,
        responses=_ERRORS,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.database = database
    app.state.temporal = temporal
    app.state.kept = Kept()
    problems.install(app)
    app.include_router(health)
    app.include_router(pages.router)
    for router in _OPEN_ROUTERS:
        app.include_router(router)
    for router in _INNER_ROUTERS:
        app.include_router(router, dependencies=[Depends(access.require_page)])
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """In demo mode the mailbox that catches letters runs beside the pages that show them."""
    settings: Settings = app.state.settings
    async with mailbox.running(app.state.database, settings) if settings.demo else nullcontext():
        yield


class _Api(FastAPI):
    """FastAPI behind the guard, with a lane past it, and with the problem-details schema in its OpenAPI document."""

    def build_middleware_stack(self) -> ASGIApp:
        """The app with what stands before it."""
        settings: Settings = self.state.settings
        largest = settings.import_bytes_limit + _FORM_BYTES
        uploads = {
            "/v1/contacts/import": Upload(largest, "contacts:write"),
            "/v1/segments/*/upload": Upload(largest, "segments:write"),
        }
        lane = Lane(super().build_middleware_stack(), self._hot)
        return Guard(lane, settings.request_bytes_limit, uploads, self.state.database)

    def _hot(self, method: str, path: str) -> Callable[[Request], Awaitable[Response]] | None:
        return _HOT.get((method, path)) or tracker.site_routes.handler(self, method, path)

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            schema = problems.ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= schema.pop("$defs", {}) | {"ProblemDetails": schema}
            self.openapi_schema = document
        return self.openapi_schema


@health.get("/healthz", summary="Whether this process runs")
async def healthz() -> dict[str, str]:
    """Answers as long as the process can answer at all; restart it when this stops."""
    return {"status": "ok"}


@health.get(
    "/readyz",
    responses={503: {"model": Readiness, "description": "Not ready"}},
    summary="Whether requests can be served",
)
async def readyz(request: Request) -> Readiness:
    """Ready means that the database answers and has this version's schema, and that Temporal answers."""
    state = request.app.state
    database, temporal = await asyncio.gather(_database_words(state.database), _temporal_words(state.temporal))
    result = Readiness(ready=(database, temporal) == ("ok", "ok"), database=database, temporal=temporal)
    return result if result.ready else JSONResponse(result.model_dump(), 503)  # type: ignore[return-value]


@health.get("/metrics", dependencies=[Depends(access.require_page)], include_in_schema=False)
async def show_metrics(request: Request) -> Response:
    """Metrics of this process for Prometheus."""
    body, content_type = metrics.exposition(request.headers.get("accept", ""))
    return Response(body, media_type=content_type)


async def _database_words(database: Database) -> str:
    try:
        async with asyncio.timeout(5):
            if not await migrate.is_current(database):
                return "its schema is not this version's: run `kaskad migrate`"
    except TimeoutError:
        return "did not answer within 5 s"
    except DatabaseUnavailable as error:
        return str(error).splitlines()[0]
    return "ok"


async def _temporal_words(client: Client | None) -> str:
    if client is None:
        return "not set up"
    try:
        await client.count_workflows("WorkflowType = 'none'", rpc_timeout=timedelta(seconds=5))
    except (RPCError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return "ok"


def _is_installed() -> bool:
    try:
        importlib.metadata.version("kaskad")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
