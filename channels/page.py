"""The pages that letters link to: plain HTML that works without scripts, in English and Russian."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from channels.page_words import LANGUAGES, words
from channels.tokens import Signers
from core import addresses

NO_STORE = {"Cache-Control": "no-store, private", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}
_pages = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("pages")), autoescape=True, undefined=StrictUndefined
)
_BROWSER_LIMIT = 300


def signers(request: Request) -> Signers:
    """The installation's signers; made once for an app."""
    state = request.app.state
    if not hasattr(state, "link_signers"):
        state.link_signers = Signers(state.settings)
    made: Signers = state.link_signers
    return made


def show(
    request: Request, template: str, page: str, known_language: str | None, status: int = 200, **values: Any
) -> HTMLResponse:
    """A page.

    Nothing but the page's own style is loaded and no script runs: the policy allows one style, by a nonce.

    Args:
        request: it may ask for a language, `?lang=ru`, which goes before the contact's own.
        template: of the folder `pages`.
        page: its words.
        known_language: the contact's.
        status: of HTTP.
        **values: what the template needs.
    """
    asked = request.query_params.get("lang")
    language = choose_language(asked if asked in LANGUAGES else known_language, request.headers)
    nonce = secrets.token_urlsafe(16)
    content = _pages.get_template(template).render(
        language=language, languages=LANGUAGES, words=words(language, page), nonce=nonce, **values
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    headers = NO_STORE | {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(content, status_code=status, headers=headers)


def choose_language(contact: str | None, headers: Mapping[str, str]) -> str:
    """The contact's language if we speak it, else the first one the browser asks for, else English."""
    asked = [contact or "", *headers.get("accept-language", "").split(",")]
    for tag in asked:
        primary = tag.split(";")[0].strip().lower().partition("-")[0]
        if primary in LANGUAGES:
            return primary
    return "en"


def visitor(request: Request) -> str | None:
    """Where a request came from: the address that the last proxy which is not ours saw."""
    peer = request.client.host if request.client else ""
    forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
    trusted = addresses.listed(request.app.state.settings.trusted_proxies)
    address = addresses.visitor(peer, forwarded, trusted)
    return str(address) if address is not None else peer or None


def evidence(request: Request) -> dict[str, Any]:
    """What a visitor's request proves: where it came from and with which browser."""
    return {"ip": visitor(request), "user_agent": request.headers.get("user-agent", "")[:_BROWSER_LIMIT]}
