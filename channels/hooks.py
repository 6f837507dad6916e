"""Where providers report: `POST /hooks/NAME`, by the name of the provider. No API key: it signs what it sends."""

import hashlib
from typing import Any

import structlog
from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import providers, reports
from channels.provider import Forged, Hook
from core.clock import now
from core.database import Database, driver
from core.errors import InvalidInput, NotFound
from core.settings import Settings

router = APIRouter(tags=["messages"])
_log = structlog.get_logger()


@router.post("/hooks/{provider}", summary="Take a provider's report about messages", include_in_schema=False)
async def report(request: Request, provider: str) -> dict[str, Any]:
    """Verify, read and write down a webhook. It is answered when it is committed, so the provider repeats what is lost;
    what comes again changes nothing."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    hook = Hook(headers, dict(request.query_params), await request.body(), now())
    taken = await receive(request.app.state.database, request.app.state.settings, provider, hook)
    return {"new": taken.new, "unmatched": taken.unmatched}


async def receive(database: Database, settings: Settings, name: str, hook: Hook) -> reports.Taken:
    """Write down what a provider's webhook says. One that was removed still tells what became of its messages.

    Raises:
        NotFound: there is no such provider, or its kind sends no webhooks.
        Forged: the signature does not hold.
        InvalidInput: the body is not what the provider sends.
    """
    async with database.begin() as connection:
        provider = await providers.anyone(connection, settings, name)
    parse = provider.scheme.reports
    if parse is None:
        raise NotFound(f"the provider {name!r} sends no webhooks")
    try:
        found = await parse(provider.url, hook)
        async with database.begin() as connection:
            if provider.scheme.token is not None:
                await _refuse_replay(connection, provider.id, provider.scheme.token(hook), hook.body)
            taken = await reports.take(connection, provider.id, found, hook.body, reports.SoftLimit.of(settings))
    except (Forged, InvalidInput) as error:
        _log.warning("hook_refused", provider=name, why=str(error))
        raise
    if taken.unmatched:
        _log.info("reports_unmatched", provider=name, reports=taken.unmatched)
    return taken


async def _refuse_replay(connection: AsyncConnection, provider_id: int, token: str, body: bytes) -> None:
    """Refuse a token that came with another body: whoever sees one webhook could sign any other with its token.

    What is remembered lies among the keys of reports, as long as those.
    """
    alone = hashlib.sha256(f"token\0{token}".encode()).digest()
    with_body = hashlib.sha256(alone + body).digest()
    fresh = await _remember(connection, provider_id, alone)
    if await _remember(connection, provider_id, with_body) and not fresh:
        raise Forged("the webhook's token came with another body before")


async def _remember(connection: AsyncConnection, provider_id: int, key: bytes) -> bool:
    """Whether the key is new."""
    rows = await (await driver(connection)).execute(
        "insert into delivery_report_key (provider_id, key) values (%s, %s) on conflict do nothing",
        (provider_id, key[:16]),
    )
    return rows.rowcount == 1
