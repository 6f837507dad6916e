"""The public addresses that stand in letters: clicks, the open pixel, unsubscribing. No API key: tokens are signed."""

from base64 import b64decode
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from channels import hits, page, preference_routes
from channels.hits import Subscription
from channels.tokens import BadToken, Token
from channels.visits import Visit
from core import links
from core.clock import now
from core.errors import Unavailable

router = APIRouter(include_in_schema=False)
_log = structlog.get_logger()

_GIF = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


@router.api_route("/t/c/{token}", methods=["GET", "HEAD"])
async def click(request: Request, token: str) -> Response:
    """Follow a tracked link: to the signed address, and nowhere else. Whoever only looks (HEAD) has not clicked."""
    try:
        said = page.signers(request).click.read(token)
    except BadToken:
        return _message(request, "bad")
    if request.method == "GET":
        await _hit(request, "message.clicked", said, url=links.normal(said.payload))
    # The hidden link, which only machines follow, leads to our own page.
    return RedirectResponse(
        said.payload or request.app.state.settings.public_url, status_code=302, headers=page.NO_STORE
    )


@router.get("/t/o/{token}.gif")
async def opened(request: Request, token: str) -> Response:
    """The open pixel. A bad token gets the same picture: it is nobody's business which are good."""
    try:
        await _hit(request, "message.opened", page.signers(request).open.read(token))
    except BadToken:
        _log.info("open_token_refused")
    return Response(_GIF, media_type="image/gif", headers=page.NO_STORE)


async def _hit(request: Request, name: Any, token: Token, **properties: str) -> None:
    """Record, but never keep people from where they are going: a database that is away costs the event only."""
    try:
        async with request.app.state.database.begin() as connection:
            await hits.hit(connection, name, token, now(), _visit(request), **properties)
    except Unavailable as error:
        _log.warning("hit_lost", event_name=name, message=str(token.message_id), why=str(error))


def _visit(request: Request) -> Visit:
    headers = request.headers
    ahead = any("pre" in headers.get(name, "").lower() for name in ("purpose", "sec-purpose", "x-purpose", "x-moz"))
    return Visit(headers.get("user-agent", ""), page.visitor(request) or "", ahead)


@router.get("/u/{token}")
async def ask(request: Request, token: str) -> HTMLResponse:
    """The unsubscribe page. Looking at it changes nothing, so scanners of mail unsubscribe nobody."""
    try:
        said = page.signers(request).unsubscribe.read(token)
    except BadToken:
        return _message(request, "bad")
    async with request.app.state.database.begin() as connection:
        found = await hits.subscription(connection, said)
    if found is None:
        return _message(request, "gone")
    return _page(request, "unsubscribe" if found.granted else "unsubscribed", found, said)


@router.post("/u/{token}")
async def unsubscribe(
    request: Request, token: str, one_click: Annotated[str | None, Form(alias="List-Unsubscribe")] = None
) -> HTMLResponse:
    """Unsubscribe: the page's button, or a mail program's one click (RFC 8058, section 3.2)."""
    try:
        said = page.signers(request).unsubscribe.read(token)
    except BadToken:
        return _message(request, "bad")
    source = "one-click" if one_click == "One-Click" else "unsubscribe page"
    async with request.app.state.database.begin() as connection:
        found = await hits.unsubscribe(connection, said, source, page.evidence(request), now())
    if found is None:
        return _message(request, "gone")
    return _page(request, "unsubscribed", found, said)


def _page(request: Request, name: str, found: Subscription, said: Token) -> HTMLResponse:
    state = request.app.state
    link = page.signers(request).preferences.sign(said.message_id, said.created_at)
    address = f"{state.settings.public_url}/p/{link}"
    return page.show(request, "unsubscribe.html", name, found.language, address=found.address, preferences=address)


def _message(request: Request, name: str) -> HTMLResponse:
    return page.show(request, "message.html", name, None, 404, address=None)


router.include_router(preference_routes.router)
