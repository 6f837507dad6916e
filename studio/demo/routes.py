"""The export portal: a small site with the snippet in its pages, and what its own server does; there in demo mode only.

The pages are those of `examples/portal/site`. Letters lead to the page of an application.
"""

import hashlib
import hmac
import secrets
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identities, profiles
from core.errors import Conflict, InvalidInput, NotFound
from examples import PORTAL
from studio.demo.story import JOURNEY, PORTAL_PATH, PORTAL_SITE
from tracker import script, sites

_FOLDER = PORTAL / "site"
_PLACE = "<!-- kaskad -->"
_COOKIE = "portal"
"""Says until the browser is closed whose account it made."""
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
async def register(request: Request, response: Response, account: Account) -> dict[str, str]:
    """Make an account, or change that of the browser; tell Kaskad who it is, and whether they agreed to letters.

    Consent is the server's to say: what a page says, anybody could say. An address that somebody else has is refused.
    """
    evidence = {"form": str(request.url_for("begin")), "text": "You may write to me"}
    consent = profiles.ConsentItem("email", "marketing", account.agreed, evidence=evidence)
    async with request.app.state.database.begin() as connection:
        external_id = await _account_for(connection, account.email, _own_account(request))
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
    response.set_cookie(_COOKIE, _signed_in(request, external_id), path="/portal", httponly=True, samesite="lax")
    return {"external_id": external_id}


@router.get("/api/applications/{application_id}")
async def state(request: Request, application_id: str) -> dict[str, Any]:
    """What became of an application: its latest run through the journey. Whose it is, only their own browser is told;
    a number can be guessed, or forwarded with a letter.
    """
    async with request.app.state.database.begin() as connection:
        run = await _run(connection, application_id)
    if run is None:
        return {"known": False}
    own = _own_account(request)
    if own not in run.pop("accounts"):
        return {"known": True, "own": False, "outcome": run["outcome"]}
    return {"known": True, "own": True, "external_id": own, **run}


async def _page(request: Request, name: str) -> Response:
    """A page of the site with the tag in its head, if Kaskad knows the site."""
    async with request.app.state.database.begin() as connection:
        known = {site.name: site for site in await sites.listing(connection)}
    site = known.get(PORTAL_SITE)
    tag = script.tag(site.key, site.script_path, stub=False, options=_OPTIONS) if site else ""
    content = (_FOLDER / f"{name}.html").read_text("utf-8").replace(_PLACE, f"{_STUB}\n{tag}")
    return HTMLResponse(content, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"})


async def _account_for(connection: AsyncConnection, email: str, own: str | None) -> str:
    """The account for an address: the browser's own, if it has this address, or a new one.

    Raises:
        Conflict: somebody else has it.
    """
    pair = ("email", identities.normalise("email", email))
    found = await identities.lookup(connection, [pair])
    if not found:
        return f"visitor-{secrets.token_hex(6)}"
    accounts = {one["value"] for one in await identities.of(connection, found[pair]) if one["kind"] == "external_id"}
    if own is None or own not in accounts:
        raise Conflict("somebody has this address already: take another one, or the browser in which you gave it")
    return own


def _signed_in(request: Request, external_id: str) -> str:
    """What a browser keeps to be known as the one that made an account."""
    key = request.app.state.settings.secret
    return f"{external_id}.{hmac.new(key, f'portal {external_id}'.encode(), hashlib.sha256).hexdigest()}"


def _own_account(request: Request) -> str | None:
    """The account that this browser made, if it made one."""
    given = request.cookies.get(_COOKIE, "")
    external_id = given.rpartition(".")[0]
    return external_id if hmac.compare_digest(given.encode(), _signed_in(request, external_id).encode()) else None


async def _run(connection: AsyncConnection, application_id: str) -> dict[str, Any] | None:
    """The latest run through the journey for an application; None where there is none, or none yet."""
    rows = await connection.execute(
        text(
            "select c.attributes ->> 'first_name' as first_name, o.name as company, e.outcome, "
            "(select value from identity where contact_id = c.id and kind = 'email' limit 1) as email, "
            "array(select value from identity where contact_id = c.id and kind = 'external_id') as accounts "
            "from enrollment e join journey j on j.id = e.journey_id join contact c on c.id = e.contact_id "
            "left join company o on o.id = c.company_id "
            "where j.name = :journey and e.key = :key order by e.id desc limit 1"
        ),
        {"journey": JOURNEY, "key": application_id},
    )
    row = rows.mappings().one_or_none()
    return dict(row) if row else None
