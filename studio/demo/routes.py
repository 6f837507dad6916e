"""The pages of the export portal that the letters lead to, so that a click ends somewhere; there in demo mode only.

They do what a real portal does: begin an application and submit it, each with an event.
"""

import secrets
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import eventlog
from core.clock import now
from core.errors import NotFound
from studio.demo.story import JOURNEY, PORTAL_PATH, SAVED, SUBMITTED
from studio.pages import page


def _only_in_demo(request: Request) -> None:
    if not request.app.state.settings.demo:
        raise NotFound("the portal's pages are there in demo mode only: `kaskad demo`")


router = APIRouter(prefix=PORTAL_PATH, include_in_schema=False, dependencies=[Depends(_only_in_demo)])


@router.get("")
async def portal(request: Request) -> Response:
    """Where somebody begins an application of their own."""
    return page(request, "portal.html", application=None, run=None, journey=JOURNEY)


@router.post("")
async def begin(request: Request) -> Response:
    """Save the draft of an application, in the name of somebody who agreed to letters."""
    async with request.app.state.database.begin() as connection:
        contact_id = await _somebody(connection)
        application_id = f"MY-{secrets.token_hex(3).upper()}"
        target = f"{PORTAL_PATH}/{application_id}"
        properties = {"status": "draft", "link": f"{str(request.base_url).rstrip('/')}{target}"}
        await _report(connection, SAVED, contact_id, application_id, properties)
    return RedirectResponse(target, status_code=303)


@router.get("/{application_id}")
async def application(request: Request, application_id: str) -> Response:
    """The draft that the visitor left, with a button that submits it."""
    async with request.app.state.database.begin() as connection:
        run = await _run(connection, application_id)
    return page(request, "portal.html", application=application_id, run=run, journey=JOURNEY)


@router.post("/{application_id}")
async def submit(request: Request, application_id: str) -> Response:
    """What the button does."""
    async with request.app.state.database.begin() as connection:
        run = await _run(connection, application_id)
        if run is None:
            raise NotFound(f"there is no application {application_id}")
        await _report(connection, SUBMITTED, run["contact_id"], application_id, {"status": "submitted"})
    return RedirectResponse(f"{PORTAL_PATH}/{application_id}", status_code=303)


async def _report(
    connection: AsyncConnection, event: str, contact_id: int, application_id: str, properties: dict[str, Any]
) -> None:
    await eventlog.record(connection, event, contact_id, now(), {"application_id": application_id, **properties})


async def _somebody(connection: AsyncConnection) -> int:
    found = await connection.scalar(
        text(
            "select contact_id from consent where channel = 'email' and purpose = 'marketing' and granted "
            "order by random() limit 1"
        )
    )
    if found is None:
        raise NotFound("nobody has agreed to letters, so nobody can be played: import contacts first")
    return int(found)


async def _run(connection: AsyncConnection, application_id: str) -> dict[str, Any] | None:
    """The latest run through the journey for an application; None where there is none, or none yet."""
    rows = await connection.execute(
        text(
            "select e.contact_id, c.attributes ->> 'first_name' as first_name, c.attributes ->> 'company' as company, "
            "e.state, e.outcome, (select value from identity where contact_id = c.id and kind = 'email' limit 1) "
            "as email from enrollment e join journey j on j.id = e.journey_id "
            "join contact c on c.id = e.contact_id where j.name = :journey and e.key = :key order by e.id desc limit 1"
        ),
        {"journey": JOURNEY, "key": application_id},
    )
    row = rows.mappings().one_or_none()
    return dict(row) if row else None
