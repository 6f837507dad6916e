"""Amazon SES: `ses://KEY_ID:SECRET@REGION?configuration_set=…&topic=arn:aws:sns:…`. API v2 with raw letters; events
come by SNS, which is subscribed to `https://…/hooks/NAME` and confirms itself."""

import json
import re
from base64 import b64encode
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from channels.email import mime
from channels.email.inbound import complaints
from channels.email.inbound.bounces import kind_of
from channels.email.vendors.answers import METADATA, Answer, items, mapping, moment, our_id, refusal, text
from channels.email.vendors.sigv4 import signed
from channels.email.vendors.sns import Sns
from channels.email.vendors.url import VendorUrl
from channels.email.vendors.vendor import Call, VendorProvider
from channels.provider import Hook, Letter, Outcome, Receipt, Report, ReportKind
from core.errors import InvalidInput, Problem
from core.settings import Settings

OPTIONS = {
    "configuration_set": "the set whose events go to the topic",
    "topic": "ARN of the SNS topic that events come from",
    "endpoint": "HOST:PORT of another server with the same API",
}
_PATH = "/v2/email/outbound-emails"
WORDS = {
    "Delivery": ReportKind.DELIVERED,
    "DeliveryDelay": ReportKind.DEFERRED,
    "Complaint": ReportKind.COMPLAINED,
    "Open": ReportKind.OPENED,
    "Click": ReportKind.CLICKED,
    "Reject": ReportKind.SOFT_BOUNCED,
    "Rendering Failure": ReportKind.SOFT_BOUNCED,
    "Subscription": ReportKind.UNSUBSCRIBED,
}
"""By `eventType`; Bounce is decided by its type, Send says nothing new."""
_BODIES = {
    "Bounce": "bounce",
    "Complaint": "complaint",
    "Delivery": "delivery",
    "DeliveryDelay": "deliveryDelay",
    "Open": "open",
    "Click": "click",
    "Reject": "reject",
    "Rendering Failure": "failure",
    "Subscription": "subscription",
}
_BUSY = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling"})
_OURS = frozenset(
    {
        "LimitExceededException", "AccountSuspendedException", "SendingPausedException",
        "MailFromDomainNotVerifiedException", "ConfigurationSetDoesNotExistException",
    }
)  # fmt: skip
"""Refusals of the account: its quota, its state, its domain."""


class Ses:
    """See `Vendor`."""

    name = "ses"

    def __init__(self, url: str) -> None:
        given = VendorUrl.of(url, "", OPTIONS)
        if not given.user or not given.secret or not re.fullmatch(r"[a-z0-9-]+", given.host):
            raise InvalidInput(Problem("which region, and whose key?", "ses://KEY_ID:SECRET@eu-west-1"))
        self._region = given.host
        endpoint = given.options.get("endpoint")
        host = endpoint or f"email.{self._region}.amazonaws.com"
        plain = "http" if endpoint and endpoint.startswith(("127.0.0.1:", "localhost:")) else "https"
        self.url = replace(given, host=urlsplit(f"//{host}").hostname or host, base=f"{plain}://{host}")

    def build(self, letter: Letter, at: datetime) -> Call:
        """`POST /v2/email/outbound-emails`."""
        built = mime.build(letter, at)
        data: dict[str, Any] = {
            "FromEmailAddress": built.sender.spec,
            "Destination": {"ToAddresses": [built.recipient.spec]},
            "Content": {"Raw": {"Data": b64encode(built.head() + built.body).decode()}},
            "EmailTags": [{"Name": METADATA, "Value": str(letter.message_id)}],
        }
        if name := self.url.options.get("configuration_set"):
            data["ConfigurationSetName"] = name
        return self._call("POST", _PATH, json.dumps(data).encode(), at)

    def accepted(self, answer: Answer) -> str | None:
        """`{"MessageId": …}`."""
        return text(mapping(answer.json()).get("MessageId")) or None

    def refused(self, answer: Answer) -> Receipt | None:
        """The error's name stands in a header or in `__type`."""
        data = mapping(answer.json())
        name = answer.headers.get("x-amzn-errortype") or text(data.get("__type"))
        name = name.partition(":")[0].rpartition("#")[2]
        if not name:
            return None
        words = f"{name} {text(data.get('message') or data.get('Message'))}".strip()
        if name in _BUSY:
            return refusal(replace(answer, status=429), words)
        if name in _OURS or (name == "MessageRejected" and "not verified" in words):
            return Receipt(Outcome.REJECTED, reason=words, elsewhere=True)
        return refusal(answer, words, named=True)

    def probe(self, at: datetime) -> Call:
        """The account's quota."""
        return self._call("GET", "/v2/email/account", b"", at)

    def _call(self, method: str, path: str, body: bytes, at: datetime) -> Call:
        where = f"{self.url.base}{path}"
        key, scope = (self.url.user, self.url.secret), (self._region, "ses")
        return Call(
            method, where, signed(method, where, {"Content-Type": "application/json"}, body, at, key, scope), body
        )


def open_ses(url: str, _settings: Settings) -> VendorProvider:
    """The provider, without connecting; raises InvalidInput."""
    return VendorProvider(Ses(url))


sns = Sns()


async def read_webhook(url: str, hook: Hook) -> list[Report]:
    """See `ReportParser`."""
    topic = VendorUrl.of(url, "", OPTIONS).options.get("topic", "")
    told = await sns.notification(hook.body, topic, hook.received_at)
    if told is None:
        return []
    try:
        event = mapping(json.loads(told))
    except (ValueError, RecursionError):
        return []  # SES greets a new topic with a sentence
    if not event.get("mail"):
        return []
    word = text(event.get("eventType") or event.get("notificationType"))
    return [] if word in ("Send", "") else _reports(word, event, hook.received_at)


def _reports(word: str, event: Any, at: datetime) -> list[Report]:
    mail = mapping(event["mail"])
    body = mapping(event.get(_BODIES.get(word, "")))
    tags = mapping(mail.get("tags")).get(METADATA)
    number = our_id(tags[0]) if isinstance(tags, list) and tags else None
    theirs = text(mail.get("messageId")) or None
    when = moment(body.get("timestamp"), at)
    key = text(body.get("feedbackId")) or f"{theirs}:{word}:{text(body.get('timestamp'))}:{text(body.get('link'))}"
    if word == "Bounce":
        return [_bounce(body, mapping(one), key, when, number, theirs) for one in items(body.get("bouncedRecipients"))]
    kind = WORDS.get(word, ReportKind.UNKNOWN)
    if kind is ReportKind.COMPLAINED and (said := text(body.get("complaintFeedbackType"))):
        kind = complaints.KINDS.get(said, ReportKind.UNKNOWN)
    if word == "Subscription" and not mapping(body.get("newTopicPreferences")).get("unsubscribeAll"):
        kind = ReportKind.UNKNOWN
    details = {"url": text(body.get("link"), 2000)} if kind is ReportKind.CLICKED else {}
    words = text(body.get("reason") or body.get("delayType") or body.get("errorMessage") or body.get("smtpResponse"))
    reason = words if kind is not ReportKind.UNKNOWN else f"{word} {words}".strip()
    return [Report(kind, key, when, number, theirs, None, reason if kind is not ReportKind.DELIVERED else "", details)]


def _bounce(body: Any, recipient: Any, key: str, at: datetime, number: Any, theirs: str | None) -> Report:
    words = " ".join(
        filter(
            None,
            [text(body.get("bounceSubType")), text(recipient.get("status")), text(recipient.get("diagnosticCode"))],
        )
    )
    kind = ReportKind.SOFT_BOUNCED
    if body.get("bounceType") == "Permanent":
        # Amazon's own list of addresses that bounced anywhere, and those that are no more.
        known = body.get("bounceSubType") in ("Suppressed", "OnAccountSuppressionList", "NoEmail")
        code = text(recipient.get("diagnosticCode"))
        kind = ReportKind.BOUNCED if known else kind_of(text(recipient.get("status")), code)
    who = text(recipient.get("emailAddress")) or None
    return Report(kind, f"{key}:{who}", at, number, theirs, who, words[:500])
