"""The pages of the built-in mailbox at /mailbox, and the same letters as JSON. They are there in demo mode only."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, Field

from channels.email.mailbox import store
from core.errors import NotAllowed, NotFound

_FOLDER = Path(__file__).parent / "pages"
_pages = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_PAGE_LENGTH = 50

_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
# A letter may show pictures and styles from anywhere, as in a mail program, and run nothing. Its links open in the
# page around it, or in a new tab if it asks for that.
_SANDBOX = "allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation"
_LETTER_POLICY = (
    "default-src 'none'; img-src * data:; style-src * 'unsafe-inline'; font-src *; "
    f"form-action 'none'; frame-ancestors 'self'; sandbox {_SANDBOX}"
)


class LetterSummary(BaseModel):
    """A letter as the list shows it."""

    id: int
    received_at: datetime
    sender: str = Field(description="Envelope sender")
    recipient: str = Field(description="Envelope recipient")
    subject: str


class LetterPage(BaseModel):
    """Letters, newest first."""

    letters: list[LetterSummary]
    total: int = Field(description="Letters in the mailbox, to anyone")


class WholeLetter(LetterSummary):
    """A letter with its content."""

    headers: list[tuple[str, str]]
    text: str
    html: str


def _only_in_demo(request: Request) -> None:
    if not request.app.state.settings.demo:
        raise NotFound("the built-in mailbox is there in demo mode only (KASKAD_DEMO=1)")


router = APIRouter(prefix="/mailbox", tags=["mailbox"], dependencies=[Depends(_only_in_demo)])

Address = Annotated[str | None, Query(max_length=320, description="Only letters to this address")]
Before = Annotated[int | None, Query(ge=0, le=2**63 - 1, description="Only letters older than the one of this id")]


def _page(name: str, **values: Any) -> HTMLResponse:
    html = _pages.get_template(name).render(values)
    headers = {
        "Content-Security-Policy": _PAGE_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(html, headers=headers)


@router.get("", include_in_schema=False)
async def show_list(request: Request, to: Address = None, before: Before = None) -> HTMLResponse:
    """The list of letters."""
    to = to or None
    async with request.app.state.database.begin() as connection:
        letters = await store.listing(connection, to, before, _PAGE_LENGTH)
        total = await store.count(connection)
    older = letters[-1].id if len(letters) == _PAGE_LENGTH else None
    return _page("list.html", letters=letters, total=total, to=to or "", before=before, older=older)


@router.post("/clear", include_in_schema=False)
async def clear(request: Request) -> RedirectResponse:
    """Empty the mailbox; by its own page only, not by a form on somebody else's."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise NotAllowed("the mailbox is emptied from its own page")
    async with request.app.state.database.begin() as connection:
        await store.clear(connection)
    return RedirectResponse("/mailbox", 303)


@router.get("/style.css", include_in_schema=False)
async def style() -> Response:
    """The pages' looks."""
    return Response((_FOLDER / "style.css").read_bytes(), media_type="text/css")


@router.get("/api/letters", summary="Letters that the mailbox caught")
async def list_letters(
    request: Request, to: Address = None, before: Before = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> LetterPage:
    """Newest first."""
    async with request.app.state.database.begin() as connection:
        letters = await store.listing(connection, to, before, limit)
        total = await store.count(connection)
    return LetterPage(letters=[LetterSummary.model_validate(one, from_attributes=True) for one in letters], total=total)


Number = Annotated[int, Field(ge=0, le=2**63 - 1)]


async def _opened(request: Request, number: int) -> store.Opened:
    async with request.app.state.database.begin() as connection:
        return await store.find(connection, number)


@router.get("/api/letters/{number}", summary="One letter with its content")
async def get_letter(request: Request, number: Number) -> WholeLetter:
    """Headers, decoded, and both parts."""
    letter = await _opened(request, number)
    summary = LetterSummary.model_validate(letter.caught, from_attributes=True)
    return WholeLetter(**summary.model_dump(), headers=letter.headers, text=letter.text, html=letter.html)


@router.get("/{number}", include_in_schema=False)
async def show_letter(
    request: Request, number: Number, view: Annotated[str, Query(max_length=10)] = ""
) -> HTMLResponse:
    """One letter: as HTML, as text, its headers or its source."""
    letter = await _opened(request, number)
    views = ["html"] * bool(letter.html) + ["text"] * bool(letter.text) + ["headers", "source"]
    shown = view if view in views else views[0]
    return _page(
        "letter.html",
        letter=letter,
        caught=letter.caught,
        views=views,
        shown=shown,
        source=letter.source.decode("utf-8", "replace"),
        size=len(letter.source),
        sandbox=_SANDBOX,
    )


@router.get("/{number}/html", include_in_schema=False)
async def show_html(request: Request, number: Number) -> HTMLResponse:
    """The HTML part alone, as the frame shows it."""
    letter = await _opened(request, number)
    headers = {
        "Content-Security-Policy": _LETTER_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(with_base(letter.html), headers=headers)


def with_base(html: str) -> str:
    """The letter's HTML with its links opening in the page around the frame."""
    start = html.lower().find("<head")
    end = html.find(">", start) + 1 if start >= 0 else 0
    if end == 0 and html.lstrip()[:9].lower() == "<!doctype":
        end = html.find(">") + 1  # nothing may stand before the doctype
    return f'{html[:end]}<base target="_parent">{html[end:]}'
