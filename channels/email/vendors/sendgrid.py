"""SendGrid: `sendgrid://API_KEY@?webhook_key=…`. API v3 (mail/send), event webhooks signed by ECDSA."""

import json
from base64 import b64decode, b64encode
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from channels.email import addresses
from channels.email.inbound.bounces import kind_of
from channels.email.vendors.answers import METADATA, Answer, mapping, moment, our_id, refusal, text
from channels.email.vendors.url import VendorUrl
from channels.email.vendors.vendor import Call, VendorProvider
from channels.provider import Forged, Hook, Letter, Receipt, Report, ReportKind
from core.errors import InvalidInput, Problem
from core.settings import Settings

OPTIONS = {"webhook_key": "the verification key of the signed event webhook"}
_OLDEST = timedelta(days=2)
WORDS = {
    "delivered": ReportKind.DELIVERED,
    "deferred": ReportKind.DEFERRED,
    "dropped": ReportKind.SOFT_BOUNCED,
    "spamreport": ReportKind.COMPLAINED,
    "unsubscribe": ReportKind.UNSUBSCRIBED,
    "group_unsubscribe": ReportKind.UNSUBSCRIBED,
    "open": ReportKind.OPENED,
    "click": ReportKind.CLICKED,
}
"""By `event`; `bounce` is decided by its type and reason, `processed` says nothing new."""


class SendGrid:
    """See `Vendor`."""

    name = "sendgrid"

    def __init__(self, url: str) -> None:
        self.url = VendorUrl.of(url, "api.sendgrid.com", OPTIONS)
        self._headers = {"Authorization": f"Bearer {self.url.key}", "Content-Type": "application/json"}

    def build(self, letter: Letter, at: datetime) -> Call:
        """`POST /v3/mail/send`."""
        del at
        headers = dict(letter.headers)
        reply_to = headers.pop("Reply-To", None)
        contents = [("text/plain", letter.text), ("text/html", letter.html)]
        data: dict[str, Any] = {
            "personalizations": [
                {"to": [_person(letter.recipient)], "custom_args": {METADATA: str(letter.message_id)}}
            ],
            "from": _person(letter.sender),
            "subject": letter.subject,
            "content": [{"type": kind, "value": value} for kind, value in contents if value],
            "tracking_settings": {
                "click_tracking": {"enable": False, "enable_text": False},
                "open_tracking": {"enable": False},
            },
        }
        if reply_to:
            data["reply_to"] = _person(reply_to)
        if headers:
            data["headers"] = headers
        if letter.attachments:
            data["attachments"] = [
                {
                    "content": b64encode(one.content).decode(),
                    "type": one.content_type.partition(";")[0],
                    "filename": one.name,
                    "disposition": "inline" if one.content_id else "attachment",
                    **({"content_id": one.content_id} if one.content_id else {}),
                }
                for one in letter.attachments
            ]
        return Call("POST", f"{self.url.base}/v3/mail/send", self._headers, json.dumps(data).encode())

    def accepted(self, answer: Answer) -> str | None:
        """202 and the header X-Message-Id."""
        return answer.headers.get("x-message-id") or None

    def refused(self, answer: Answer) -> Receipt | None:
        """`{"errors": [{"message": …}]}`."""
        errors = mapping(answer.json()).get("errors")
        if not isinstance(errors, list):
            return None
        words = "; ".join(text(mapping(one).get("message")) for one in errors[:5])
        if answer.status == 401 and "credits" in words.lower():  # "Maximum credits exceeded"
            return refusal(Answer(402, answer.headers, b""), words)
        return refusal(answer, words, named=True)

    def probe(self, at: datetime) -> Call:
        """What the key may do."""
        del at
        return Call("GET", f"{self.url.base}/v3/scopes", self._headers)


def _person(value: str) -> dict[str, str]:
    address = addresses.parse(value)
    return {"email": address.spec, **({"name": address.name} if address.name else {})}


def open_sendgrid(url: str, _settings: Settings) -> VendorProvider:
    """The provider, without connecting; raises InvalidInput."""
    vendor = SendGrid(url)
    if key := vendor.url.options.get("webhook_key"):
        _public_key(key)
    return VendorProvider(vendor)


async def read_webhook(url: str, hook: Hook) -> list[Report]:
    """See `ReportParser`."""
    _verify(VendorUrl.of(url, "api.sendgrid.com", OPTIONS).options.get("webhook_key", ""), hook)
    try:
        events = json.loads(hook.body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"a webhook that is no JSON: {error}") from error
    if not isinstance(events, list):
        raise InvalidInput(Problem("SendGrid sends a list of events", "is this its event webhook?"))
    return [_report(mapping(event), hook.received_at) for event in events if mapping(event).get("event") != "processed"]


def _public_key(key: str) -> EllipticCurvePublicKey:
    try:
        loaded = load_der_public_key(b64decode(key, validate=True))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput("webhook_key is not the verification key that SendGrid shows") from error
    if not isinstance(loaded, EllipticCurvePublicKey):
        raise InvalidInput("webhook_key is not an ECDSA key")
    return loaded


def _verify(key: str, hook: Hook) -> None:
    """The signature over timestamp and body; an old timestamp is a replay."""
    stamp = hook.headers.get("x-twilio-email-event-webhook-timestamp", "")
    try:
        signature = b64decode(hook.headers.get("x-twilio-email-event-webhook-signature", ""), validate=True)
        if not key or not signature:
            raise Forged("the webhook is not signed, or webhook_key is not set")
        _public_key(key).verify(signature, stamp.encode() + hook.body, ECDSA(SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise Forged("the webhook's signature does not hold") from error
    if abs(hook.received_at - moment(stamp, datetime.min.replace(tzinfo=hook.received_at.tzinfo))) > _OLDEST:
        raise Forged("the webhook is too old")


def _report(event: Any, at: datetime) -> Report:
    word = text(event.get("event"))
    reason = text(event.get("reason") or event.get("response"))
    kind = WORDS.get(word, ReportKind.UNKNOWN)
    if word == "bounce":
        blocked = event.get("type") == "blocked"
        kind = ReportKind.SOFT_BOUNCED if blocked else kind_of(text(event.get("status")), reason)
    details: dict[str, Any] = {}
    if kind is ReportKind.CLICKED:
        details["url"] = text(event.get("url"), 2000)
    if event.get("sg_machine_open"):
        details["machine"] = True
    number = our_id(event.get(METADATA))
    theirs = text(event.get("sg_message_id")).partition(".")[0] or None
    key = text(event.get("sg_event_id")) or f"{theirs}:{word}:{text(event.get('timestamp'))}:{text(event.get('email'))}"
    who = text(event.get("email")) or None
    reason = reason if kind is not ReportKind.UNKNOWN else f"{word} {reason}".strip()
    return Report(kind, key, moment(event.get("timestamp"), at), number, theirs, who, reason, details)
