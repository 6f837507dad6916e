"""Errors as RFC 9457 problem details: the one place where domain errors meet HTTP."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import psycopg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from core.errors import (
    Conflict,
    InvalidInput,
    KaskadError,
    Misconfigured,
    NotAllowed,
    NotFound,
    NotSignedIn,
    Problem,
    Unavailable,
)

MEDIA_TYPE = "application/problem+json"
log = structlog.get_logger("kaskad.api")

_STATUS: tuple[tuple[type[KaskadError], int], ...] = (
    (InvalidInput, 422),
    (NotFound, 404),
    (Conflict, 409),
    (NotSignedIn, 401),
    (NotAllowed, 403),
    (Misconfigured, 500),
    (Unavailable, 503),
    (KaskadError, 500),
)


class OneProblem(BaseModel):
    """One thing that is wrong with a request."""

    path: str = Field("", description="Where: a path into the body, or a parameter")
    message: str = Field(description="What is wrong")
    mend: str = Field("", description="What to do about it")


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field("about:blank", description="Always about:blank: the status says what kind of problem it is")
    title: str
    status: int
    detail: str = Field("", description="In words, for a person")
    errors: list[OneProblem] = Field(default=[], description="Every single problem with an input")


def install(app: FastAPI) -> None:
    """Answer every error of the app with problem details."""
    for kind, handler in _handlers():
        app.add_exception_handler(kind, handler)


def respond(request: Request, error: Exception) -> Response:
    """The response that an error becomes, for what is served past the app's own handlers."""
    return next(handler(request, error) for kind, handler in _handlers() if isinstance(error, kind))


def _handlers() -> tuple[tuple[type[Exception], Callable[[Request, Exception], Response]], ...]:
    return (
        (KaskadError, _on_kaskad_error),
        (RequestValidationError, _on_validation_error),
        (HTTPException, _on_http_error),
        (PoolTimeout, _on_busy),
        (DBAPIError, _on_database_error),
        (Exception, _on_defect),
    )


def answer(
    status: int, detail: str, problems: Sequence[Problem] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """A response with problem details."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if problems:
        body["errors"] = [{"path": one.path, "message": one.message, "mend": one.mend} for one in problems]
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def _on_kaskad_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, KaskadError)  # noqa: S101 - registered for it
    return of(request, error)


def of(request: Request, error: KaskadError) -> Response:
    """The response that a domain error becomes."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    if status >= 500:
        log.error("request failed", path=request.url.path, error=str(error))
    headers = {401: {"WWW-Authenticate": _challenge(request)}, 503: {"Retry-After": "2"}}.get(status)
    problems = error.problems if isinstance(error, InvalidInput) else ()
    return answer(status, str(error), problems, headers)


def _challenge(request: Request) -> str:
    """Browsers are asked for a password (an admin API key), programs for a bearer key."""
    wants_page = "text/html" in request.headers.get("accept", "")
    return 'Basic realm="Kaskad: an admin API key as the password", charset="UTF-8"' if wants_page else "Bearer"


def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return answer(400, "the body is not JSON: " + str(found[0].get("ctx", {}).get("error", "malformed")))
    problems = [Problem(one["msg"], path=".".join(map(str, one["loc"][1:] or one["loc"]))) for one in found[:100]]
    return answer(422, "; ".join(map(str, problems[:5])), problems)


def _on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    return answer(error.status_code, str(error.detail), headers=error.headers)


def _on_busy(_request: Request, _error: Exception) -> Response:
    return answer(503, "too many requests wait for the database: try again", headers={"Retry-After": "1"})


def _on_database_error(request: Request, error: Exception) -> Response:
    if isinstance(error, DBAPIError) and (words := _cannot_be_kept(error.orig)):
        return answer(422, words, [Problem(words)])
    log.error("database error", path=request.url.path, exc_info=error)
    return answer(500, "the database refused the request; the log says why")


def _cannot_be_kept(error: BaseException | None) -> str | None:
    """What is wrong with a value that no text or number of the database can hold, wherever in the request it was."""
    if isinstance(error, psycopg.errors.NumericValueOutOfRange):
        return "a number is out of range"
    if isinstance(error, psycopg.DataError) and "NUL" in str(error):
        return "a text holds the character NUL (U+0000), which cannot be kept"
    return None


def _on_defect(request: Request, error: Exception) -> Response:
    log.error("defect", path=request.url.path, exc_info=error)
    return answer(500, "this is a defect in Kaskad; the log has more")
