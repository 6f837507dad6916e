"""Vendors of email with an HTTP API under the contract: one server that answers as each of them documents it."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID

from channels.email.vendors import ses
from channels.email.vendors.sns import Sns
from channels.provider import Hook, ReportKind
from studio.stack.process import free_port
from tests.channels.contract.adapter import Adapter, Hooks, Mood, Server, Serving, unreachable
from tests.channels.email.vendors import signed
from tests.channels.email.vendors.peer import DROP, GARBAGE, HALF, HANG, Peer, Request, Said, serving
from tests.channels.email.vendors.test_vendors import CASES, Case

_AFTER = {Mood.HANG: HANG, Mood.HALF_CLOSE: HALF, Mood.HANG_UP: DROP, Mood.GARBAGE: GARBAGE}


def _serve(case: Case) -> Callable[[Mood], AbstractAsyncContextManager[Server]]:
    @asynccontextmanager
    async def serve(mood: Mood) -> Serving:
        server = Server("", mood)

        def answer(_request: Request) -> Said:
            if server.mood is Mood.REJECT:
                return case.bad_letter
            if server.mood is Mood.THROTTLE:
                return case.busy
            if server.mood in {Mood.SILENT, Mood.DROP}:  # it reads and forgets
                return HANG if server.mood is Mood.SILENT else DROP
            server.take()
            return _AFTER.get(server.mood, case.good)

        def url(port: int) -> str:
            return case.url.format(port=port) + "&timeout=1&connections=2"

        if mood is Mood.REFUSE:
            server.url = url(free_port())
            yield server
            return
        if mood is Mood.UNREACHABLE:
            with unreachable() as port:
                server.url = url(port)
                yield server
            return
        async with serving(Peer(answer)) as port:
            server.url = url(port)
            yield server

    return serve


def _sendgrid(word: str, message: UUID, event: str) -> Hook:
    return signed.by_sendgrid(
        [signed.sendgrid_event(word, status="5.1.1") | {"kaskad": str(message), "sg_event_id": event}]
    )


def _postmark(word: str, message: UUID, event: str) -> Hook:
    told = signed.postmark_event(word, ID=event, Type="HardBounce") | {"Metadata": {"kaskad": str(message)}}
    return signed.hook(json.dumps(told).encode(), signed.BASIC)


def _mailgun(word: str, message: UUID, event: str) -> Hook:
    more: dict[str, Any] = {"severity": "permanent", "delivery-status": {"code": 550, "enhanced-code": "5.1.1"}}
    told = signed.mailgun_event(word, **more) | {"id": event, "user-variables": {"kaskad": str(message)}}
    return signed.by_mailgun(told)


def _unisender(word: str, message: UUID, event: str) -> Hook:
    told = signed.unisender_event(word, "err_user_unknown")
    told["event_data"] |= {"metadata": {"kaskad": str(message)}, "job_id": event}
    return signed.by_unisender([told])


def _ses(word: str, message: UUID, event: str) -> Hook:
    bounced = signed.ses_bounce("Permanent", "General", "5.1.1", "smtp; 550") | {"feedbackId": event}
    body = {"bounce": bounced} if word == "Bounce" else {}
    told = signed.ses_event(word, **body).replace(str(signed.NUMBER), str(message)).replace("EXAMPLE7c191be45", event)
    return signed.by_sns(told, MessageId=event)


@contextmanager
def _amazon() -> Iterator[None]:
    """SNS without its network."""
    with patch.object(ses, "sns", Sns(signed.Amazon().fetch)):
        yield


def _words(delivered: str, bounced: str, opened: str) -> Mapping[str, ReportKind]:
    return {delivered: ReportKind.DELIVERED, bounced: ReportKind.BOUNCED, opened: ReportKind.OPENED}


def _other_body(hook: Hook) -> Hook:
    return replace(hook, body=hook.body.replace(b"00000001", b"00000002"))


def _other_password(hook: Hook) -> Hook:
    return replace(hook, headers={"authorization": "Basic " + b64encode(b"kaskad:guess").decode()})


def _other_token(hook: Hook) -> Hook:
    return replace(hook, body=hook.body.replace(b"t" * 50, b"u" * 50))


HOOKS = {
    "sendgrid": Hooks(_sendgrid, _words("delivered", "bounce", "open"), signed.SENDGRID, _other_body),
    "postmark": Hooks(_postmark, _words("Delivery", "Bounce", "Open"), signed.POSTMARK, _other_password),
    "mailgun": Hooks(_mailgun, _words("delivered", "failed", "opened"), signed.MAILGUN, _other_token),
    "unisender-go": Hooks(_unisender, _words("delivered", "hard_bounced", "opened"), signed.UNISENDER, _other_body),
    "ses": Hooks(_ses, _words("Delivery", "Bounce", "Open"), signed.SES, _other_body, around=_amazon),
}
ADAPTERS = tuple(
    Adapter((name,), _serve(case), timedelta(seconds=17), hooks=HOOKS[name]) for name, case in CASES.items()
)
