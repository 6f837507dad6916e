"""The pages behind a letter's links: preferences, the confirmation of a consent, the letter in a browser.

No API key: the links are signed. Looking changes nothing, so programs that look at every link choose nothing; a button
has to be pressed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from channels import contents, hits, page, zones
from channels.hits import Subscription
from channels.page_words import LANGUAGES, words
from channels.preferences import OFTEN, Board, board, save, wish_of
from channels.rendering import TemplateCache
from channels.tokens import BadToken, Signer, Token
from contacts import optin, preferences
from core.clock import now

router = APIRouter(include_in_schema=False)

# The letter is a stranger's HTML to this site: it stands in a sandbox without scripts, forms or our origin.
_LETTER = {
    "Content-Security-Policy": "sandbox allow-popups allow-popups-to-escape-sandbox "
    "allow-top-navigation-by-user-activation; default-src 'none'; img-src http: https: data: cid:; "
    "style-src 'unsafe-inline' http: https:; font-src http: https: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def _read(request: Request, signer: Signer, token: str) -> Token | HTMLResponse:
    try:
        return signer.read(token)
    except BadToken:
        return page.show(request, "message.html", "bad", None, 404, address=None)


def _unknown(request: Request) -> HTMLResponse:
    return page.show(request, "message.html", "unknown", None, 404, address=None)


# Preferences


@router.get("/p/{token}")
async def look(request: Request, token: str) -> HTMLResponse:
    """The preference page."""
    said = _read(request, page.signers(request).preferences, token)
    if isinstance(said, HTMLResponse):
        return said
    at = now()
    async with request.app.state.database.begin() as connection:
        letter = await hits.subscription(connection, said)
        found = await board(connection, letter, at) if letter else None
    if letter is None or found is None:
        return _unknown(request)
    return _board(request, letter, found, at, None)


@router.post("/p/{token}")
async def choose(request: Request, token: str) -> HTMLResponse:
    """Save what was chosen: every change with its proof."""
    said = _read(request, page.signers(request).preferences, token)
    if isinstance(said, HTMLResponse):
        return said
    form = await _form(request)
    at = now()
    async with request.app.state.database.begin() as connection:
        letter = await hits.subscription(connection, said)
        before = await board(connection, letter, at) if letter else None
        if letter is None or before is None:
            return _unknown(request)
        changed = await save(connection, said, before, wish_of(form, before), page.evidence(request), at)
    async with request.app.state.database.begin() as connection:
        letter = await hits.subscription(connection, said)
        found = await board(connection, letter, at) if letter else None
    if letter is None or found is None:
        return _unknown(request)
    stopped = form.get("action", [""])[0] == "stop"
    return _board(request, letter, found, at, "stopped" if stopped else "saved" if changed else "unchanged")


async def _form(request: Request) -> dict[str, list[str]]:
    """The form's texts by name; a page has a few dozen."""
    async with request.form(max_files=0, max_fields=500) as form:
        found: dict[str, list[str]] = {}
        for name, value in form.multi_items():
            if isinstance(value, str):
                found.setdefault(name, []).append(value)
    return found


def _board(request: Request, letter: Subscription, found: Board, at: datetime, said: str | None) -> HTMLResponse:
    asked = request.query_params.get("lang")
    language = page.choose_language(asked if asked in LANGUAGES else found.held.language, request.headers)
    own = found.held.language
    tongues = dict(LANGUAGES) if own is None or own in LANGUAGES else {**LANGUAGES, own: own}
    grouped = zones.choices(language, at.replace(hour=0, minute=0, second=0, microsecond=0))
    return page.show(
        request,
        "preferences.html",
        "preferences",
        found.held.language,
        address=letter.address,
        said=said,
        channels=[_channel(found, name, language) for name in found.channels],
        chosen_language=own,
        tongues=tongues.items(),
        time_zone=found.held.time_zone,
        zones=grouped,
        known_zones={name for _, places in grouped for name, _ in places},
    )


def _channel(found: Board, name: str, language: str) -> dict[str, Any]:
    per_week = found.held.per_week.get(name)
    told = words(language, "preferences")
    numbers: Sequence[int] = sorted({*OFTEN, *([per_week] if per_week else [])})
    weekly: Mapping[int, str] = told["weekly"]
    return {
        "name": name,
        "per_week": per_week,
        "often": [(number, weekly.get(number) or told["custom"].format(number)) for number in numbers],
        "choices": [
            {
                "value": choice.value,
                "title": choice.purpose.title(language),
                "text": choice.purpose.text(language),
                "granted": choice.granted,
                "pending": choice.pending,
            }
            for choice in found.choices
            if choice.channel == name
        ],
    }


# Double opt-in


@router.get("/s/{token}")
async def ask(request: Request, token: str) -> HTMLResponse:
    """The page with the button that confirms a consent."""
    said = _read(request, page.signers(request).confirm, token)
    if isinstance(said, HTMLResponse):
        return said
    async with request.app.state.database.begin() as connection:
        letter = await hits.subscription(connection, said)
        if letter is None or letter.address is None:
            return _unknown(request)
        pairs = await optin.pending(connection, letter.contact_id, letter.address, now())
        offered = await preferences.purposes(connection)
    return _confirmation(request, letter, "confirm", pairs, offered)


@router.post("/s/{token}")
async def confirm(request: Request, token: str) -> HTMLResponse:
    """The button was pressed: what was asked is granted, with the proof."""
    said = _read(request, page.signers(request).confirm, token)
    if isinstance(said, HTMLResponse):
        return said
    evidence = {"message": str(said.message_id), **page.evidence(request)}
    async with request.app.state.database.begin() as connection:
        letter = await hits.subscription(connection, said)
        if letter is None or letter.address is None:
            return _unknown(request)
        offered = await preferences.purposes(connection)
        pairs = await optin.confirm(connection, letter.contact_id, letter.address, evidence, now())
    return _confirmation(request, letter, "confirmed", pairs, offered)


def _confirmation(
    request: Request,
    letter: Subscription,
    name: str,
    pairs: Sequence[tuple[str, str]],
    offered: Sequence[preferences.Purpose],
) -> HTMLResponse:
    if not pairs:
        return page.show(request, "message.html", "lapsed", letter.language, address=None)
    asked = request.query_params.get("lang")
    language = page.choose_language(asked if asked in LANGUAGES else letter.language, request.headers)
    known = {one.name: one for one in [preferences.MARKETING, *offered]}
    channels = words(language, "preferences")["channels"]
    titles = [
        f"{known[purpose].title(language) if purpose in known else purpose} — {channels[channel]}"
        for channel, purpose in pairs
    ]
    return page.show(request, "confirm.html", name, letter.language, address=letter.address, titles=titles)


# The letter


@router.get("/v/{token}")
async def view(request: Request, token: str) -> Response:
    """The letter as it was rendered."""
    said = _read(request, page.signers(request).view, token)
    if isinstance(said, HTMLResponse):
        return said
    state = request.app.state
    if not hasattr(state, "viewed_templates"):
        state.viewed_templates = TemplateCache()
    async with state.database.begin() as connection:
        letter = await hits.subscription(connection, said)
        found = await contents.again(
            connection, state.settings, state.viewed_templates, said.message_id, said.created_at
        )
    if found is None:
        return page.show(request, "message.html", "forgotten", letter.language if letter else None, 404, address=None)
    headers = page.NO_STORE | _LETTER
    if found.rendered.html:
        return HTMLResponse(found.rendered.html, headers=headers)
    return Response(found.rendered.text, media_type="text/plain; charset=utf-8", headers=headers)
