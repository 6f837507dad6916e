"""Mailgun: `mailgun://API_KEY@/mail.example.com?webhook_key=…` (in the EU `@api.eu.mailgun.net/…`). Letters go as MIME;
webhooks are signed by HMAC."""

import hashlib
import hmac
import json
from base64 import b64encode
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any

from channels.email import addresses, mime
from channels.email.inbound.bounces import kind_of
from channels.email.vendors.answers import METADATA, Answer, mapping, moment, our_id, refusal, text
from channels.email.vendors.url import VendorUrl
from channels.email.vendors.vendor import Call, VendorProvider
from channels.provider import Forged, Hook, Letter, Receipt, Report, ReportKind
from core.errors import InvalidInput, Problem
from core.settings import Settings

OPTIONS = {"webhook_key": "the HTTP webhook signing key"}
_OLDEST = timedelta(days=1)
"""Mailgun tries again for eight hours."""
WORDS = {
    "delivered": ReportKind.DELIVERED,
    "complained": ReportKind.COMPLAINED,
    "unsubscribed": ReportKind.UNSUBSCRIBED,
    "opened": ReportKind.OPENED,
    "clicked": ReportKind.CLICKED,
    "rejected": ReportKind.SOFT_BOUNCED,
}
"""By `event`; `failed` is decided by severity and code, `accepted` says nothing new."""

FAILURES = {
    "suppress-bounce": ReportKind.BOUNCED,
    "suppress-unsubscribe": ReportKind.SOFT_BOUNCED,
    "suppress-complaint": ReportKind.SOFT_BOUNCED,
    "old": ReportKind.SOFT_BOUNCED,
    "espblock": ReportKind.SOFT_BOUNCED,
}
"""By `reason` of a permanent failure: on one of Mailgun's own lists (only the first says that the address is no good),
tried for too long, blocked. Others (`bounce`, `generic`) leave it to the code and the words."""


class Mailgun:
    """See `Vendor`."""

    name = "mailgun"

    def __init__(self, url: str) -> None:
        self.url = VendorUrl.of(url, "api.mailgun.net", OPTIONS)
        if not self.url.path or "/" in self.url.path:
            raise InvalidInput(Problem("which domain?", "mailgun://API_KEY@/mail.example.com"))
        self._headers = {"Authorization": _basic("api", self.url.key)}

    def build(self, letter: Letter, at: datetime) -> Call:
        """`POST /v3/DOMAIN/messages.mime`, a form with the letter as a file."""
        built = mime.build(letter, at)
        boundary = token_hex(16)
        fields = {
            "to": addresses.parse(letter.recipient).spec,
            f"v:{METADATA}": str(letter.message_id),
            "o:tracking": "no",
        }
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="message"; filename="message.eml"\r\n'
            "Content-Type: message/rfc822\r\n\r\n"
        ).encode()
        body = b"".join([*parts, head, built.head(), built.body, f"\r\n--{boundary}--\r\n".encode()])
        headers = self._headers | {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return Call("POST", f"{self.url.base}/v3/{self.url.path}/messages.mime", headers, body)

    def accepted(self, answer: Answer) -> str | None:
        """`{"id": "<…@mail.example.com>", "message": "Queued. Thank you."}`."""
        return text(mapping(answer.json()).get("id")).strip("<>") or None

    def refused(self, answer: Answer) -> Receipt | None:
        """`{"message": …}`."""
        words = mapping(answer.json()).get("message")
        if not isinstance(words, str):
            return None
        own = answer.status in (400, 402, 403) and any(
            word in words.lower() for word in ("disabled", "limit", "not allowed to send", "sandbox", "payment")
        )
        if own:
            return refusal(Answer(402, answer.headers, b""), text(words))
        return refusal(answer, text(words), named=True)

    def probe(self, at: datetime) -> Call:
        """The domain's settings."""
        del at
        return Call("GET", f"{self.url.base}/v3/domains/{self.url.path}", self._headers)


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def open_mailgun(url: str, _settings: Settings) -> VendorProvider:
    """The provider, without connecting; raises InvalidInput."""
    return VendorProvider(Mailgun(url))


async def read_webhook(url: str, hook: Hook) -> list[Report]:
    """See `ReportParser`."""
    try:
        data = mapping(json.loads(hook.body))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"a webhook that is no JSON: {error}") from error
    key = VendorUrl.of(url, "api.mailgun.net", OPTIONS).options.get("webhook_key", "")
    _verify(key, mapping(data.get("signature")), hook.received_at)
    event = mapping(data.get("event-data"))
    if "event" not in event:
        raise InvalidInput("Mailgun sends an object with event-data")
    return [] if event["event"] == "accepted" else [_report(event, hook.received_at)]


def token_of(hook: Hook) -> str:
    """What its signature is made of, once it was verified; see `Scheme.token`."""
    return text(mapping(mapping(json.loads(hook.body)).get("signature")).get("token"))


def _verify(key: str, signature: Any, at: datetime) -> None:
    """HMAC-SHA256 of timestamp and token. It does not cover the body, so the timestamp must be young, and the token
    comes with one body only (`token_of`)."""
    stamp, token = text(signature.get("timestamp")), text(signature.get("token"))
    expected = hmac.new(key.encode(), (stamp + token).encode(), hashlib.sha256).hexdigest()
    given = text(signature.get("signature"))
    if not key or not hmac.compare_digest(expected.encode(), given.encode()):
        raise Forged("the webhook's signature does not hold, or webhook_key is not set")
    if abs(at - moment(stamp, datetime.min.replace(tzinfo=at.tzinfo))) > _OLDEST:
        raise Forged("the webhook is too old")


def _report(event: Any, at: datetime) -> Report:
    word = text(event["event"])
    kind = WORDS.get(word, ReportKind.UNKNOWN)
    status = mapping(event.get("delivery-status"))
    refused = mapping(event.get("reject")).get("reason")
    words = text(status.get("message") or status.get("description") or refused or event.get("reason"))
    if word == "failed":
        kind = _failure(event, status, words)
    headers = mapping(mapping(event.get("message")).get("headers"))
    theirs = text(headers.get("message-id")).strip("<>") or None
    details: dict[str, Any] = {}
    if kind is ReportKind.CLICKED:
        details["url"] = text(event.get("url"), 2000)
    if mapping(event.get("client-info")).get("bot"):
        details["machine"] = True
    number = our_id(mapping(event.get("user-variables")).get(METADATA))
    key = text(event.get("id")) or f"{theirs}:{word}:{text(event.get('timestamp'))}"
    who = text(event.get("recipient")) or None
    reason = words if kind is not ReportKind.UNKNOWN else f"{word} {words}".strip()
    return Report(kind, key, moment(event.get("timestamp"), at), number, theirs, who, reason, details)


def _failure(event: Any, status: Any, words: str) -> ReportKind:
    """`temporary` is tried again by Mailgun; of `permanent` reason, code and words say whose fault it is."""
    if event.get("severity") == "temporary":
        return ReportKind.DEFERRED
    if status.get("bounce-type") == "soft":
        return ReportKind.SOFT_BOUNCED
    return FAILURES.get(text(event.get("reason"))) or kind_of(text(status.get("enhanced-code")), words)
