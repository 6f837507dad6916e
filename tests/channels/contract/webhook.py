"""Webhooks under the contract: another program that takes calls, or does not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from channels.webhook.call import Call, WebhookMessage
from studio.stack.process import free_port
from tests.channels.contract.adapter import Adapter, Mood, Server, unreachable
from tests.channels.email.vendors.peer import DROP, GARBAGE, HALF, HANG, Peer, Request, Said, serving

_AFTER = {Mood.HANG: HANG, Mood.HALF_CLOSE: HALF, Mood.HANG_UP: DROP, Mood.GARBAGE: GARBAGE}
_here = {"port": 0}
"""Where the server of the test at hand is: the address of a webhook stands in the message."""


@asynccontextmanager
async def _serve(mood: Mood) -> AsyncIterator[Server]:
    server = Server("", mood)

    def answer(_request: Request) -> Said:
        if server.mood is Mood.REJECT:
            return 422, {}, b""
        if server.mood is Mood.THROTTLE:
            return 429, {"retry-after": "7"}, b""
        if server.mood in {Mood.SILENT, Mood.DROP}:  # it reads and forgets
            return HANG if server.mood is Mood.SILENT else DROP
        server.take()
        return _AFTER.get(server.mood, (200, {}, b""))

    def at(port: int) -> None:
        _here["port"] = port
        server.url = f"webhook://?private=yes&timeout=1&test=http%3A%2F%2F127.0.0.1%3A{port}%2F"

    if mood is Mood.REFUSE:
        at(free_port())
        yield server
        return
    if mood is Mood.UNREACHABLE:
        with unreachable() as port:
            at(port)
            yield server
        return
    async with serving(Peer(answer)) as port:
        at(port)
        yield server


def _message(number: int) -> WebhookMessage:
    url = f"http://127.0.0.1:{_here['port']}/{number}"
    return WebhookMessage(UUID(int=number + 1), Call("POST", url, {"content-type": "application/json"}, b"{}"))


ADAPTER = Adapter(("webhook",), _serve, timedelta(seconds=7), _message)
