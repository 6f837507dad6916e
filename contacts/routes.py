"""The API of contacts: write and read them, import files, erase."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, File, Form, HTTPException, Query, Request, UploadFile
from fastapi import Path as Pathname
from pydantic import ValidationError
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import company_routes, erasure, identity_routes, importing, optin, profiles, timeline, wire
from contacts.columns import Options
from core.access import require
from core.errors import InvalidInput, Problem, Unavailable

router = APIRouter(tags=["contacts"])
router.include_router(identity_routes.router)
router.include_router(company_routes.router)

_ATTEMPTS = 4
_REJECTS = 1000
_REFERENCE = "A contact's number, or `email:anna@example.com`, `external_id:crm-17` and so on"
_ONE = wire.inlined(wire.ContactIn)
_MANY = {"type": "array", "items": _ONE, "minItems": 1, "maxItems": 1000}
_BODY = {
    "required": True,
    "description": 'One contact, an array of contacts, or `{"contacts": [...]}`.',
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    _ONE,
                    _MANY,
                    {
                        "title": "Contacts",
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["contacts"],
                        "properties": {"contacts": _MANY},
                    },
                ]
            }
        }
    },
}


@router.post(
    "/v1/contacts",
    dependencies=[Depends(require("contacts:write"))],
    openapi_extra={"requestBody": _BODY},
    summary="Create and update contacts",
    operation_id="write_contacts",
    responses={422: {"description": "Not one could be written; each error says where, what and what to do"}},
)
async def write_contacts(request: Request) -> wire.ContactResults:
    """Find the contacts by what they are known by, make those that are new, and write what is said about them.

    One that cannot be written does not keep its neighbours out.
    """
    settings = request.app.state.settings
    bodies, single = _bodies(await request.body(), settings.contact_batch_limit)
    parsed = [_parsed(body) for body in bodies]
    items = [one for one in parsed if isinstance(one, profiles.Item)]
    written = iter(await _upsert(request, items) if items else [])
    answers = [next(written) if isinstance(one, profiles.Item) else profiles.Upserted(problems=one) for one in parsed]
    return _results(answers, single)


async def _upsert(request: Request, items: Sequence[profiles.Item]) -> list[profiles.Upserted]:
    """Write items in one transaction; again where it met another one that held what it needed, and the reverse."""
    state = request.app.state
    for _ in range(_ATTEMPTS):
        try:
            async with state.database.begin() as connection:
                return await profiles.upsert(
                    connection,
                    items,
                    limits=profiles.Limits.of(state.settings),
                    region=state.settings.phone_region,
                )
        except exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != "40P01":  # a deadlock, which PostgreSQL resolved against us
                raise
    raise Unavailable("others keep writing the same contacts; try again")


def _bodies(body: bytes, limit: int) -> tuple[list[Any], bool]:
    """The contacts in a request's body, and whether it is one that stands alone."""
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None
    if isinstance(data, dict) and set(data) != {"contacts"}:
        return [data], True
    contacts = data["contacts"] if isinstance(data, dict) else data
    if not isinstance(contacts, list) or not contacts:
        raise InvalidInput(Problem("the body holds no contacts", 'send one, an array, or {"contacts": [...]}'))
    if len(contacts) > limit:
        raise InvalidInput(Problem(f"{len(contacts)} contacts are more than {limit}", "send fewer at a time"))
    return contacts, False


def _parsed(body: Any) -> profiles.Item | tuple[Problem, ...]:
    try:
        return wire.ContactIn.model_validate(body).item()
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return tuple(Problem(one["msg"], path=".".join(map(str, one["loc"]))) for one in found[:20])


def _results(answers: Sequence[profiles.Upserted], single: bool) -> wire.ContactResults:
    """The answer to a request.

    Raises:
        InvalidInput: nothing was written.
    """
    placed = [
        tuple(replace(p, path=p.path if single else f"contacts[{n}].{p.path}".rstrip(".")) for p in answer.problems)
        for n, answer in enumerate(answers)
    ]
    if all(placed):
        raise InvalidInput(*(problem for problems in placed for problem in problems))
    results = [
        wire.ContactResult(
            status="refused" if problems else "created" if answer.created else "updated",
            id=answer.contact_id,
            errors=[wire.ItemProblem(path=p.path, message=p.message, mend=p.mend) for p in problems],
            conflicts=[wire.IdentityRef(kind=kind, value=value) for kind, value in answer.conflicts],
        )
        for answer, problems in zip(answers, placed, strict=True)
    ]
    counts = {status: sum(r.status == status for r in results) for status in ("created", "updated", "refused")}
    return wire.ContactResults(**counts, contacts=results)


@router.get(
    "/v1/contacts",
    dependencies=[Depends(require("contacts:read"))],
    summary="List contacts",
    operation_id="list_contacts",
)
async def list_contacts(
    request: Request,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="`after` of the page before")] = 0,
    limit: wire.Limit = 100,
) -> wire.ContactPage:
    """A page of contacts in the order of their numbers."""
    async with request.app.state.database.begin() as connection:
        rows = await profiles.page(connection, after, limit)
    contacts = [wire.ContactOut(**row) for row in rows]
    return wire.ContactPage(contacts=contacts, after=contacts[-1].id if len(contacts) == limit else None)


@router.get(
    "/v1/contacts/{contact}",
    dependencies=[Depends(require("contacts:read"))],
    summary="Show a contact with its timeline",
    operation_id="show_contact",
    description=f"`contact`: {_REFERENCE}.",
)
async def show_contact(
    request: Request,
    contact: str,
    before: Annotated[str | None, Query(description="`older` of the page before")] = None,
    limit: wire.Limit = 50,
) -> wire.ContactDetail:
    """One contact: profile, identities, consents, runs through journeys, and what happened, newest first."""
    async with request.app.state.database.begin() as connection:
        profile = await profiles.get(connection, await _find(request, connection, contact))
        moments = await timeline.read(connection, profile.id, before, limit)
        runs = await timeline.enrollments(connection, profile.id)
        asked = await optin.of(connection, profile.id)
    shown = {
        **vars(profile),
        "pending": asked,
        "enrollments": runs,
        "timeline": moments.moments,
        "older": moments.older,
    }
    return wire.ContactDetail.model_validate(shown)


@router.delete(
    "/v1/contacts/{contact}",
    status_code=204,
    dependencies=[Depends(require("contacts:write"))],
    summary="Erase a contact",
    operation_id="erase_contact",
    description=f"`contact`: {_REFERENCE}. Nothing that says who it was is left in any table.",
)
async def erase_contact(request: Request, contact: str) -> None:
    """Erase a contact and everything personal about it."""
    async with request.app.state.database.begin() as connection:
        await erasure.erase(connection, await _find(request, connection, contact))


async def _find(request: Request, connection: AsyncConnection, contact: str) -> int:
    return await profiles.find(connection, contact, request.app.state.settings.phone_region)


@router.post(
    "/v1/contacts/import",
    dependencies=[Depends(require("contacts:write"))],
    summary="Import a CSV or XLSX file",
    operation_id="import_contacts",
)
async def import_contacts(
    request: Request,
    file: Annotated[UploadFile, File(description="CSV or XLSX; its first row names the columns")],
    mapping: Annotated[str, Form(description='JSON: column to what it means, `{"Mail": "email"}`')] = "{}",
    types: Annotated[str, Form(description='JSON: column to type, `{"Code": "text"}`')] = "{}",
    identity: Annotated[str | None, Form(description="The kind that rows are found by")] = None,
    consent_column: Annotated[str | None, Form(description="Yes or no")] = None,
    consent: Annotated[list[str], Form(description="channel:purpose that the consent column speaks of")] = [],  # noqa: B006
    confirm: Annotated[bool, Form(description="Ask those who agreed to confirm it (double opt-in)")] = False,
    evidence_column: Annotated[str | None, Form()] = None,
    encoding: Annotated[str | None, Form(description="Of a CSV file; UTF-8 if left out", examples=["cp1251"])] = None,
    enter: Annotated[str, Form(description="A journey that the contacts of the file enter")] = "",
    dry_run: Annotated[bool, Form(description="Check only")] = False,
    again: Annotated[bool, Form(description="Even if this very file was imported before")] = False,
) -> wire.ImportResult:
    """Take in a file as the command line does, and answer when it is done.

    Send the same file with the same options again if the connection breaks: it goes on where it stopped.
    """
    options = Options(
        mapping=_names("mapping", mapping),
        types=_names("types", types),
        identity=identity or None,
        consent_column=consent_column or None,
        consents=tuple(pair_of(one) for one in consent),
        confirm=confirm,
        evidence_column=evidence_column or None,
        encoding=encoding or None,
        enter=enter or None,
    )
    state = request.app.state
    async with _kept(file, state.settings.import_bytes_limit) as path:
        report = await importing.import_file(
            state.database,
            path,
            options,
            settings=state.settings,
            name=file.filename or path.name,
            remember=True,
            dry_run=dry_run,
            again=again,
        )
        written = Path(report.rejects_file) if report.rejects_file else None
        rejects = importing.read_rejects(written, _REJECTS) if written else []
    if report.id is not None:
        async with state.database.begin() as connection:
            rejects = await importing.remembered(connection, report.id, limit=_REJECTS)
    shown = {**vars(report), "rejects": [{**vars(one), "cells": list(one.cells)} for one in rejects]}
    return wire.ImportResult.model_validate(shown)


@router.get(
    "/v1/contacts/import/{number}/rejects",
    dependencies=[Depends(require("contacts:read"))],
    summary="List the rows that an import left out",
    operation_id="list_import_rejects",
)
async def list_rejects(
    request: Request,
    number: Annotated[int, Pathname(ge=1, le=2**31 - 1, description="`id` of the import's answer")],
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="`after` of the page before")] = 0,
    limit: wire.Limit = 100,
) -> wire.RejectPage:
    """A page of them in the order of their lines: 10,000 of an import at most, and for seven days."""
    async with request.app.state.database.begin() as connection:
        found = await importing.remembered(connection, number, after, limit)
    rejects = [wire.RejectOut(**{**vars(one), "cells": list(one.cells)}) for one in found]
    return wire.RejectPage(rejects=rejects, after=rejects[-1].line if len(rejects) == limit else None)


def pair_of(consent: str) -> tuple[str, str]:
    """`email:marketing` as channel and purpose.

    Raises:
        InvalidInput: it is not written like that.
    """
    channel, colon, purpose = consent.partition(":")
    if not colon:
        raise InvalidInput(Problem(f"{consent!r} is no channel and purpose", "like email:marketing", path="consent"))
    return channel, purpose


def _names(field: str, value: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(value, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidInput(Problem(f"this is no JSON object of texts: {error}", path=field)) from None


@asynccontextmanager
async def _kept(file: UploadFile, limit: int) -> AsyncIterator[Path]:
    """The upload as a file of its own for as long as the block lasts, its name reduced to the ending."""
    suffix = Path(file.filename or "").suffix.lower()
    if (file.size or 0) > limit:
        raise HTTPException(413, f"the file is larger than {limit:,} bytes: use the command line, or split it")
    with tempfile.TemporaryDirectory(prefix="kaskad-import-") as folder:
        path = Path(folder) / f"upload{suffix if re.fullmatch(r'[.][a-z]{3,4}', suffix) else '.csv'}"
        await asyncio.to_thread(_copy, file, path)
        yield path


def _copy(file: UploadFile, path: Path) -> None:
    with path.open("wb") as target:
        shutil.copyfileobj(file.file, target)
