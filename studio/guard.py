"""What every request passes: a bound on its body, and headers that keep browsers safe."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import access
from core.database import Database
from core.errors import KaskadError
from studio import problems

_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
        b"form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


@dataclass(frozen=True)
class Upload:
    """A path that takes larger bodies than others, from those who may send them."""

    limit: int
    scope: str


class Guard:
    """ASGI middleware; in plain ASGI because the ingestion path passes it thousands of times a second.

    Args:
        app: what it stands before.
        body_limit: bytes of a request's body.
        uploads: paths with another limit, * for the name in one. Their callers are looked at before their bodies are
            read, because FastAPI would store a whole file before it asks who sent it.
        database: where API keys are.
    """

    def __init__(self, app: ASGIApp, body_limit: int, uploads: Mapping[str, Upload], database: Database) -> None:
        self._app = app
        self._limit = body_limit
        self._uploads = uploads
        self._database = database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless its body is too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        upload = self._upload(scope["path"])
        limit = upload.limit if upload else self._limit
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, _too_large(limit))  # the app's handler answers it like any other
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_missing(message)
            await send(message)

        if _announced(scope) > limit:
            refusal: Response | None = problems.answer(413, _too_large(limit), headers={"Connection": "close"})
        else:
            refusal = await self._stranger(scope, upload) if upload else None
        if refusal is not None:
            await refusal(scope, receive, with_headers)
        else:
            await self._app(scope, bounded, with_headers)

    def _upload(self, path: str) -> Upload | None:
        found = self._uploads.get(path)
        if found is None and path.endswith("/upload"):
            start, _, end = path.rsplit("/", 2)
            found = self._uploads.get(f"{start}/*/{end}")
        return found

    async def _stranger(self, scope: Scope, upload: Upload) -> Response | None:
        request = Request(scope)
        try:
            await access.check(self._database, access.sent_key(request), upload.scope)
        except KaskadError as error:
            return problems.of(request, error)
        return None


class Lane:
    """Serves a few hot paths itself: FastAPI's routing and middleware take longer than storing an event does.

    Args:
        app: what serves everything else, and documents these.
        find: the handler of a method and path, or None; what it raises is answered like everywhere, with the headers
        that
            it left in `request.state.headers`.
    """

    def __init__(
        self, app: ASGIApp, find: Callable[[str, str], Callable[[Request], Awaitable[Response]] | None]
    ) -> None:
        self._app = app
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or pass it on."""
        handler = self._find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if handler is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - answered, and logged if it is a defect
            response = problems.respond(request, error)
            response.headers.update(getattr(request.state, "headers", {}))
        await response(scope, receive, send)


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit:,} bytes: send less at a time"


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _add_missing(message: MutableMapping[str, Any]) -> None:
    present = {name.lower() for name, _value in message["headers"]}
    message["headers"] = [*message["headers"], *(pair for pair in _HEADERS if pair[0] not in present)]
