"""What every request passes: a bound on its body, and headers that keep browsers safe."""

from collections.abc import MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


class Guard:
    """ASGI middleware; in plain ASGI because the ingestion path passes it thousands of times a second."""

    def __init__(self, app: ASGIApp, body_limit: int) -> None:
        self._app = app
        self._limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless its body is too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(413, self._words())  # the app's handler answers it like any other
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_missing(message)
            await send(message)

        if _announced(scope) > self._limit:
            refusal = problems.answer(413, self._words(), headers={"Connection": "close"})
            await refusal(scope, receive, with_headers)
        else:
            await self._app(scope, bounded, with_headers)

    def _words(self) -> str:
        return f"the body is larger than {self._limit:,} bytes: send less at a time"


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _add_missing(message: MutableMapping[str, Any]) -> None:
    present = {name.lower() for name, _value in message["headers"]}
    message["headers"] = [*message["headers"], *(pair for pair in _HEADERS if pair[0] not in present)]
