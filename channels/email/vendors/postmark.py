"""Postmark: `postmark://SERVER_TOKEN@?stream=…&webhook_password=…`. Its webhooks carry no signature: give it an address
with user and password (`https://kaskad:PASSWORD@host/hooks/NAME`), and the same password here."""

import hmac
import json
from base64 import b64decode, b64encode
from datetime import datetime
from typing import Any

from channels.email.vendors.answers import METADATA, Answer, mapping, moment, our_id, refusal, text
from channels.email.vendors.url import VendorUrl
from channels.email.vendors.vendor import Call, VendorProvider
from channels.provider import Forged, Hook, Letter, Outcome, Receipt, Report, ReportKind
from core.errors import InvalidInput
from core.settings import Settings

OPTIONS = {
    "stream": "the message stream; broadcasts need one of their own",
    "webhook_password": "the password in the webhook's address",
}
WORDS = {
    "Delivery": ReportKind.DELIVERED,
    "SpamComplaint": ReportKind.COMPLAINED,
    "Open": ReportKind.OPENED,
    "Click": ReportKind.CLICKED,
}
"""By `RecordType`; Bounce and SubscriptionChange are decided by what they hold."""
BOUNCES = {
    "HardBounce": ReportKind.BOUNCED,
    "BadEmailAddress": ReportKind.BOUNCED,
    "ManuallyDeactivated": ReportKind.BOUNCED,
    "SpamComplaint": ReportKind.COMPLAINED,
    "Unsubscribe": ReportKind.UNSUBSCRIBED,
    "AddressChange": ReportKind.UNKNOWN,
    "AutoResponder": ReportKind.UNKNOWN,
    "ChallengeVerification": ReportKind.UNKNOWN,
    "Subscribe": ReportKind.UNKNOWN,
}
"""By `Type` of a Bounce; every other (SoftBounce, Transient, DnsError, Blocked …) may pass."""
_INACTIVE, _NOT_ALLOWED, _NO_CREDIT, _PENDING, _DISABLED = 406, 405, 412, 413, 411


class Postmark:
    """See `Vendor`."""

    name = "postmark"

    def __init__(self, url: str) -> None:
        self.url = VendorUrl.of(url, "api.postmarkapp.com", OPTIONS)
        self._headers = {
            "X-Postmark-Server-Token": self.url.key,
            "Content-Type": "application/json",
            "Accept": "application/json",
        }

    def build(self, letter: Letter, at: datetime) -> Call:
        """`POST /email`."""
        del at
        headers = dict(letter.headers)
        data: dict[str, Any] = {
            "From": letter.sender,
            "To": letter.recipient,
            "Subject": letter.subject,
            "Metadata": {METADATA: str(letter.message_id)},
            "TrackOpens": False,
            "TrackLinks": "None",
        }
        bodies = {"HtmlBody": letter.html, "TextBody": letter.text}
        data |= {name: value for name, value in bodies.items() if value}
        if reply_to := headers.pop("Reply-To", None):
            data["ReplyTo"] = reply_to
        if headers:
            data["Headers"] = [{"Name": name, "Value": value} for name, value in headers.items()]
        if stream := self.url.options.get("stream"):
            data["MessageStream"] = stream
        if letter.attachments:
            data["Attachments"] = [
                {
                    "Name": one.name,
                    "Content": b64encode(one.content).decode(),
                    "ContentType": one.content_type,
                    **({"ContentID": f"cid:{one.content_id}"} if one.content_id else {}),
                }
                for one in letter.attachments
            ]
        return Call("POST", f"{self.url.base}/email", self._headers, json.dumps(data).encode())

    def accepted(self, answer: Answer) -> str | None:
        """`{"ErrorCode": 0, "MessageID": …}`."""
        data = mapping(answer.json())
        return text(data.get("MessageID")) or None if data.get("ErrorCode") == 0 else None

    def refused(self, answer: Answer) -> Receipt | None:
        """`{"ErrorCode": 406, "Message": …}`."""
        data = mapping(answer.json())
        code = data.get("ErrorCode")
        if not isinstance(code, int) or not code:
            return None
        words = f"{code} {text(data.get('Message'))}"
        if code in (_NOT_ALLOWED, _NO_CREDIT, _PENDING, _DISABLED, 400, 401):
            # No credit, an account not yet approved, a sender not confirmed: the account's own, not the letter's.
            return Receipt(Outcome.REJECTED, reason=words, elsewhere=True)
        if code == _INACTIVE or answer.status < 400:
            return Receipt(Outcome.REJECTED, reason=words)
        return refusal(answer, words, named=True)

    def probe(self, at: datetime) -> Call:
        """The server that the token is for."""
        del at
        return Call("GET", f"{self.url.base}/server", self._headers)


def open_postmark(url: str, _settings: Settings) -> VendorProvider:
    """The provider, without connecting; raises InvalidInput."""
    return VendorProvider(Postmark(url))


async def read_webhook(url: str, hook: Hook) -> list[Report]:
    """See `ReportParser`."""
    _verify(VendorUrl.of(url, "api.postmarkapp.com", OPTIONS).options.get("webhook_password", ""), hook)
    try:
        event = json.loads(hook.body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"a webhook that is no JSON: {error}") from error
    if not isinstance(event, dict) or "RecordType" not in event:
        raise InvalidInput("Postmark sends an object with a RecordType")
    return [_report(event, hook.received_at)]


def _verify(password: str, hook: Hook) -> None:
    kind, _, given = hook.headers.get("authorization", "").partition(" ")
    try:
        told = b64decode(given, validate=True).partition(b":")[2]
    except ValueError:
        told = b""
    if not password or kind.lower() != "basic" or not hmac.compare_digest(told, password.encode()):
        raise Forged("the webhook's password is wrong, or webhook_password is not set")


def _report(event: dict[str, Any], at: datetime) -> Report:
    word = text(event["RecordType"])
    kind = WORDS.get(word, ReportKind.UNKNOWN)
    reason = ""
    if word == "Bounce":
        kind = BOUNCES.get(text(event.get("Type")), ReportKind.SOFT_BOUNCED)
        reason = " ".join(filter(None, [text(event.get("Type")), text(event.get("Details"))]))
    if word == "SubscriptionChange":
        kind = ReportKind.UNSUBSCRIBED if event.get("SuppressSending") else ReportKind.UNKNOWN
        reason = text(event.get("SuppressionReason"))
        if reason != "ManualSuppression":
            kind = ReportKind.UNKNOWN  # the bounce or complaint is reported by itself
    times = ("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt")
    moments = [text(event[name]) for name in times if event.get(name)]
    theirs = text(event.get("MessageID")) or None
    details = {"url": text(event.get("OriginalLink"), 2000)} if kind is ReportKind.CLICKED else {}
    key = f"{word}:{event.get('ID', '')}:{theirs}:{moments[:1]}:{details.get('url', '')}"
    who = text(event.get("Recipient") or event.get("Email")) or None
    number = our_id(mapping(event.get("Metadata")).get(METADATA))
    words = reason if kind is not ReportKind.UNKNOWN else f"{word} {reason}".strip()
    return Report(kind, key, moment(moments[0] if moments else "", at), number, theirs, who, words, details)
