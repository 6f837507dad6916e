"""SMTP under the contract: a scripted server. What TLS adds is tried in tests/channels/email/test_smtp.py.

The built-in mailbox is reached by SMTP, too.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from studio.stack.process import free_port
from tests.channels.contract.adapter import TAKES, Adapter, Mood, Server, Serving, unreachable
from tests.channels.email.servers import DROP, HALF, HANG, Script, scripted

_GREETING = {Mood.SILENT: HANG}
_RCPT = {Mood.REJECT: "550 5.1.1 no such user", Mood.THROTTLE: "450 4.7.1 slow down"}
_END = {
    Mood.HANG: HANG,
    Mood.HALF_CLOSE: HALF,
    Mood.HANG_UP: DROP,
    Mood.GARBAGE: "\x00\xff certainly, perhaps",
    Mood.ACCEPT: "250 2.0.0 Ok: queued as Q1",
}


def _serve(scheme: str) -> Callable[[Mood], AbstractAsyncContextManager[Server]]:
    """A server in a mood; it may change."""

    @asynccontextmanager
    async def serve(mood: Mood) -> Serving:
        server = Server("", mood)
        options = "timeout=1&answer=1&connections=2"

        def at_end(_line: str) -> str:
            if server.mood in TAKES:
                server.take()
            return _END[server.mood]

        script = Script(
            {
                "RCPT": lambda _line: _RCPT.get(server.mood, "250 ok"),
                "DATA": lambda _line: DROP if server.mood is Mood.DROP else "354 go",
                "END": at_end,
            },
            greeting=_GREETING.get(mood, "220 test ESMTP"),
        )
        if mood is Mood.REFUSE:
            server.url = f"{scheme}://127.0.0.1:{free_port()}?{options}"
            yield server
            return
        if mood is Mood.UNREACHABLE:
            with unreachable() as port:
                server.url = f"{scheme}://127.0.0.1:{port}?{options}"
                yield server
            return
        async with scripted(script) as port:
            server.url = f"{scheme}://127.0.0.1:{port}?{options}"
            yield server

    return serve


ADAPTERS = (
    Adapter(("smtp", "smtps", "smtp+starttls"), _serve("smtp"), greets=True),
    Adapter(("mailbox",), _serve("mailbox"), greets=True),
)
