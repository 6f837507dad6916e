"""The public addresses that stand in letters: clicks, the open pixel, unsubscribing. No API key: tokens are signed."""

from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from channels import hits
from channels.hits import Subscription
from channels.tokens import BadToken, Signers, Token
from core.clock import now
from core.errors import Unavailable

router = APIRouter(include_in_schema=False)
_log = structlog.get_logger()

_GIF = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_NO_STORE = {"Cache-Control": "no-store, private", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}
_PAGE = _NO_STORE | {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}
_pages = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("pages")), autoescape=True, undefined=StrictUndefined
)
_WORDS: dict[str, dict[str, dict[str, str]]] = {
    "en": {
        "ask": {
            "title": "Unsubscribe?",
            "text": "You will get no more messages of this kind at",
            "button": "Unsubscribe",
        },
        "done": {
            "title": "You are unsubscribed",
            "text": "No more messages of this kind will go to",
            "button": "",
        },
        "gone": {"title": "Nothing to unsubscribe from", "text": "This letter is no longer known here.", "button": ""},
        "bad": {
            "title": "This link is damaged",
            "text": "Copy the whole address from the letter.",
            "button": "",
        },
    },
    "ru": {
        "ask": {
            "title": "Отписаться?",
            "text": "Такие сообщения больше не будут приходить на",
            "button": "Отписаться",
        },
        "done": {"title": "Вы отписаны", "text": "Такие сообщения больше не будут приходить на", "button": ""},
        "gone": {"title": "Отписываться не от чего", "text": "Этого письма у нас больше нет.", "button": ""},
        "bad": {"title": "Ссылка повреждена", "text": "Скопируйте из письма адрес целиком.", "button": ""},
    },
}


def _signers(request: Request) -> Signers:
    """The installation's signers; made once for an app."""
    state = request.app.state
    if not hasattr(state, "link_signers"):
        state.link_signers = Signers(state.settings)
    made: Signers = state.link_signers
    return made


@router.api_route("/t/c/{token}", methods=["GET", "HEAD"])
async def click(request: Request, token: str) -> Response:
    """Follow a tracked link: to the signed address, and nowhere else. Whoever only looks (HEAD) has not clicked."""
    try:
        said = _signers(request).click.read(token)
    except BadToken:
        return _page(request, "bad", None, 404)
    if request.method == "GET":
        await _hit(request, "message.clicked", said, url=said.payload)
    return RedirectResponse(said.payload, status_code=302, headers=_NO_STORE)


@router.get("/t/o/{token}.gif")
async def opened(request: Request, token: str) -> Response:
    """The open pixel. A bad token gets the same picture: it is nobody's business which are good."""
    try:
        await _hit(request, "message.opened", _signers(request).open.read(token))
    except BadToken:
        _log.info("open_token_refused")
    return Response(_GIF, media_type="image/gif", headers=_NO_STORE)


async def _hit(request: Request, name: Any, token: Token, **properties: str) -> None:
    """Record, but never keep people from where they are going: a database that is away costs the event only."""
    try:
        async with request.app.state.database.begin() as connection:
            await hits.hit(connection, name, token, now(), **properties)
    except Unavailable as error:
        _log.warning("hit_lost", event_name=name, message=str(token.message_id), why=str(error))


@router.get("/u/{token}")
async def ask(request: Request, token: str) -> HTMLResponse:
    """The unsubscribe page. Looking at it changes nothing, so scanners of mail unsubscribe nobody."""
    try:
        said = _signers(request).unsubscribe.read(token)
    except BadToken:
        return _page(request, "bad", None, 404)
    async with request.app.state.database.begin() as connection:
        found = await hits.subscription(connection, said)
    if found is None:
        return _page(request, "gone", None, 404)
    return _page(request, "ask" if found.granted else "done", found)


@router.post("/u/{token}")
async def unsubscribe(
    request: Request, token: str, one_click: Annotated[str | None, Form(alias="List-Unsubscribe")] = None
) -> HTMLResponse:
    """Unsubscribe: the page's button, or a mail program's one click (RFC 8058, section 3.2)."""
    try:
        said = _signers(request).unsubscribe.read(token)
    except BadToken:
        return _page(request, "bad", None, 404)
    source = "one-click" if one_click == "One-Click" else "unsubscribe page"
    evidence = {
        "ip": request.client.host if request.client else None,
        "user_agent": request.headers.get("user-agent", "")[:300],
    }
    async with request.app.state.database.begin() as connection:
        found = await hits.unsubscribe(connection, said, source, evidence, now())
    if found is None:
        return _page(request, "gone", None, 404)
    return _page(request, "done", found)


def _page(request: Request, name: str, found: Subscription | None, status: int = 200) -> HTMLResponse:
    language = _language(found.language if found else None, request.headers)
    content = _pages.get_template("unsubscribe.html").render(
        language=language, words=_WORDS[language][name], address=found.address if found else None
    )
    return HTMLResponse(content, status_code=status, headers=_PAGE)


def _language(contact: str | None, headers: Mapping[str, str]) -> str:
    """The contact's language if we speak it, else the first one the browser asks for, else English."""
    asked = [contact or "", *headers.get("accept-language", "").split(",")]
    for tag in asked:
        primary = tag.split(";")[0].strip().lower().partition("-")[0]
        if primary in _WORDS:
            return primary
    return "en"
