"""The export portal: a small site with the snippet in its pages, and what its own server does; there in demo mode only.

The pages are those of `examples/portal/site`. Letters lead to the page of an application.
"""

import secrets
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identities, profiles
from core.errors import InvalidInput, NotFound
from examples import PORTAL
from studio.demo.story import JOURNEY, PORTAL_PATH, PORTAL_SITE
from tracker import identify, script, sites

_FOLDER = PORTAL / "site"
_PLACE = "<!-- kaskad -->"
_STUB = f'<script src="{sites.SCRIPT_PATH}?stub"></script>'
# Strict, as a site's should be: what the snippet needs is in it, and nothing inline.
_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


# Nothing is sent before the site's script has said what the visitor agreed to.
_OPTIONS = {"consent": "none", "events": "pages links forms scroll time"}


def _only_in_demo(request: Request) -> None:
    if not request.app.state.settings.demo:
        raise NotFound("the portal's pages are there in demo mode only: `kaskad demo`")


router = APIRouter(prefix="/portal", include_in_schema=False, dependencies=[Depends(_only_in_demo)])


class Account(BaseModel):
    """Who applies, as the form says."""

    email: str = Field(max_length=200)
    first_name: str = Field(max_length=100)
    company: str = Field(max_length=100)
    language: str = Field(max_length=10)
    agreed: bool


@router.get("")
async def home(request: Request) -> Response:
    """The first page."""
    return await _page(request, "index")


@router.get("/measures")
async def measures(request: Request) -> Response:
    """What one can apply for."""
    return await _page(request, "measures")


@router.get("/privacy")
async def privacy(request: Request) -> Response:
    """What is stored in the visitor's browser."""
    return await _page(request, "privacy")


@router.get(PORTAL_PATH.removeprefix("/portal"))
async def begin(request: Request) -> Response:
    """The form of an application."""
    return await _page(request, "application")


@router.get(PORTAL_PATH.removeprefix("/portal") + "/{application_id}")
async def application(request: Request, application_id: str) -> Response:
    """An application that was saved; its own script reads the number from the address."""
    return await _page(request, "application")


@router.get("/site.css")
async def style() -> Response:
    """The site's style sheet."""
    return FileResponse(_FOLDER / "site.css", media_type="text/css")


@router.get("/site.js")
async def code() -> Response:
    """The site's own script."""
    return FileResponse(_FOLDER / "site.js", media_type="text/javascript")


@router.post("/api/accounts")
async def register(request: Request, account: Account) -> dict[str, str]:
    """Make an account, or find that of the address; tell Kaskad who it is, and whether they agreed to letters.

    Consent is the server's to say, and so is who somebody is: what a page says, anybody could say. A real portal would
    let people into an account by more than its address.
    """
    evidence = {"form": str(request.url_for("begin")), "text": "You may write to me"}
    consent = profiles.ConsentItem("email", "marketing", account.agreed, evidence=evidence)
    async with request.app.state.database.begin() as connection:
        external_id = await _account_of(connection, account.email) or f"visitor-{secrets.token_hex(6)}"
        item = profiles.Item(
            {"external_id": external_id, "email": account.email},
            {"first_name": account.first_name},
            language=account.language,
            company=account.company,
            consents=[consent],
        )
        (done,) = await profiles.upsert(connection, [item], source="application form")
        if done.problems:
            raise InvalidInput(*done.problems)
        return await _signed(connection, external_id)


@router.get("/api/applications/{application_id}")
async def state(request: Request, application_id: str) -> dict[str, Any]:
    """What became of an application: its latest run through the journey."""
    async with request.app.state.database.begin() as connection:
        run = await _run(connection, application_id)
        if run is None:
            return {"known": False}
        external_id = run.pop("external_id")
        return {"known": True, "account": external_id and await _signed(connection, external_id), **run}


async def _page(request: Request, name: str) -> Response:
    """A page of the site with the tag in its head, if Kaskad knows the site."""
    async with request.app.state.database.begin() as connection:
        known = {site.name: site for site in await sites.listing(connection)}
    site = known.get(PORTAL_SITE)
    tag = script.tag(site.key, site.script_path, stub=False, options=_OPTIONS) if site else ""
    content = (_FOLDER / f"{name}.html").read_text("utf-8").replace(_PLACE, f"{_STUB}\n{tag}")
    return HTMLResponse(content, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"})


async def _signed(connection: AsyncConnection, external_id: str) -> dict[str, str]:
    """What a page is to say of who is there, vouched for by this server."""
    said = {"external_id": external_id}
    site = await sites.get(connection, PORTAL_SITE)
    return {**said, "signature": identify.sign(site.secret, said)}


async def _account_of(connection: AsyncConnection, email: str) -> str | None:
    """The account of an address, if it has one."""
    pair = ("email", identities.normalise("email", email))
    found = await identities.lookup(connection, [pair])
    kinds = {one["kind"]: one["value"] for one in await identities.of(connection, found[pair])} if found else {}
    return kinds.get("external_id")


async def _run(connection: AsyncConnection, application_id: str) -> dict[str, Any] | None:
    """The latest run through the journey for an application; None where there is none, or none yet."""
    rows = await connection.execute(
        text(
            "select c.attributes ->> 'first_name' as first_name, o.name as company, e.outcome, "
            "(select value from identity where contact_id = c.id and kind = 'email' limit 1) as email, "
            "(select value from identity where contact_id = c.id and kind = 'external_id' limit 1) as external_id "
            "from enrollment e join journey j on j.id = e.journey_id join contact c on c.id = e.contact_id "
            "left join company o on o.id = c.company_id "
            "where j.name = :journey and e.key = :key order by e.id desc limit 1"
        ),
        {"journey": JOURNEY, "key": application_id},
    )
    row = rows.mappings().one_or_none()
    return dict(row) if row else None
