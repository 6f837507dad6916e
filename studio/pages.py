"""The status pages: plain HTML made on the server, without scripts."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from sqlalchemy.ext.asyncio import AsyncConnection

from core import access
from core.clock import now
from studio import status
from studio.kept import Kept

T = TypeVar("T")
_FOLDER = Path(__file__).with_name("templates")
_REFRESH_SECONDS = 5
_templates = Environment(
    loader=FileSystemLoader(_FOLDER),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["count"] = lambda number: f"{number:,}".replace(",", "\u202f")

router = APIRouter(include_in_schema=False)


@router.get("/", dependencies=[Depends(access.require_page)])
async def index(request: Request) -> Response:
    """The installation at a glance."""
    counted = await _kept(request).get("overview", lambda: _count(request, status.overview))
    return page(request, "index.html", figures=counted.figures, at=counted.at)


@router.get("/journeys/{name}", dependencies=[Depends(access.require_page)])
async def journey(request: Request, name: str) -> Response:
    """One journey: who stands where, what was sent, how it ended."""
    counted = await _kept(request).get(("journey", name), lambda: _count(request, partial(status.journey, name=name)))
    return page(request, "journey.html", figures=counted.figures, at=counted.at)


def _kept(request: Request) -> Kept:
    """The figures of this process; every page asks for them each 5 seconds, whoever looks at it."""
    kept: Kept = request.app.state.kept
    return kept


async def _count(request: Request, figures: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    async with request.app.state.database.begin() as connection:
        return await figures(connection)


@router.get("/static/kaskad.css")
async def style() -> Response:
    """The style sheet of all pages."""
    return FileResponse(_FOLDER / "kaskad.css", media_type="text/css", headers={"Cache-Control": "max-age=300"})


def page(request: Request, template: str, **values: object) -> HTMLResponse:
    """A page made of one of the templates."""
    has_mailbox = request.app.state.settings.demo
    values = {"refresh": _REFRESH_SECONDS, "at": now(), "has_mailbox": has_mailbox, **values}
    text = _templates.get_template(template).render(**values)
    return HTMLResponse(text, headers={"Cache-Control": "no-store"})
