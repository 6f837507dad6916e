"""A page of the export portal that the letters lead to, so that a click ends somewhere; there in demo mode only."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import eventlog
from core.clock import now
from core.errors import NotFound
from studio.demo.story import JOURNEY, PORTAL_PATH, SUBMITTED
from studio.pages import page


def _only_in_demo(request: Request) -> None:
    if not request.app.state.settings.demo:
        raise NotFound("the portal's pages are there in demo mode only: `kaskad demo`")


router = APIRouter(prefix=PORTAL_PATH, include_in_schema=False, dependencies=[Depends(_only_in_demo)])


@router.get("/{application_id}")
async def application(request: Request, application_id: str) -> Response:
    """The draft that the visitor left, with a button that submits it."""
    async with request.app.state.database.begin() as connection:
        run = await _run(connection, application_id)
    return page(request, "portal.html", application=application_id, run=run, journey=JOURNEY)


@router.post("/{application_id}")
async def submit(request: Request, application_id: str) -> Response:
    """What the button does: the event that a real portal would send to POST /v1/events."""
    async with request.app.state.database.begin() as connection:
        run = await _run(connection, application_id)
        properties = {"application_id": application_id, "status": "submitted"}
        await eventlog.record(connection, SUBMITTED, run["contact_id"], now(), properties)
    return RedirectResponse(f"{PORTAL_PATH}/{application_id}?sent=1", status_code=303)


async def _run(connection: AsyncConnection, application_id: str) -> dict[str, Any]:
    """The latest run through the journey for an application."""
    rows = await connection.execute(
        text(
            "select e.contact_id, c.attributes ->> 'first_name' as first_name, c.attributes ->> 'company' as company, "
            "e.state, e.outcome from enrollment e join journey j on j.id = e.journey_id "
            "join contact c on c.id = e.contact_id where j.name = :journey and e.key = :key order by e.id desc limit 1"
        ),
        {"journey": JOURNEY, "key": application_id},
    )
    row = rows.mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no application {application_id}")
    return dict(row)
