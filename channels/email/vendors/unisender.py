"""UniSender Go: `unisender-go://API_KEY@go1.unisender.ru`. Webhooks carry a digest made with the API key."""

import hashlib
import hmac
import json
from base64 import b64encode
from datetime import datetime
from typing import Any

from channels.email import addresses
from channels.email.vendors.answers import METADATA, Answer, items, mapping, moment, our_id, refusal, text
from channels.email.vendors.url import VendorUrl
from channels.email.vendors.vendor import Call, VendorProvider
from channels.provider import Forged, Hook, Letter, Outcome, Receipt, Report, ReportKind
from core.errors import InvalidInput
from core.settings import Settings

OPTIONS: dict[str, str] = {}
_HOST = "go1.unisender.ru"
_API = "/ru/transactional/api/v1"
WORDS = {
    "delivered": ReportKind.DELIVERED,
    "opened": ReportKind.OPENED,
    "clicked": ReportKind.CLICKED,
    "unsubscribed": ReportKind.UNSUBSCRIBED,
    "spam": ReportKind.COMPLAINED,
    "soft_bounced": ReportKind.DEFERRED,
    "hard_bounced": ReportKind.BOUNCED,
}
"""By `status`; `accepted` and `sent` say nothing new. After `soft_bounced` UniSender tries for two days more, and says
`delivered` or `hard_bounced` at last."""
_THE_ADDRESS = frozenset(
    {"err_user_unknown", "err_user_inactive", "err_mailbox_discarded", "err_unreachable", "skip_dup_unreachable"}
)
"""`delivery_status` of hard bounces after which the address is no good. After any other the next letter may arrive, and
without one (the webhook's `delivery_info` is off) nobody knows: a full mailbox and spam are hard bounces, too."""
_BAD_ADDRESS = frozenset({"invalid", "permanent_unavailable", "unsubscribed", "complained", "blocked"})
_NO_MONEY = frozenset({901, 902, 903, 904, 905, 906})


class UniSenderGo:
    """See `Vendor`."""

    name = "unisender-go"

    def __init__(self, url: str) -> None:
        self.url = VendorUrl.of(url, _HOST, OPTIONS)
        self._headers = {"X-API-KEY": self.url.key, "Content-Type": "application/json", "Accept": "application/json"}

    def build(self, letter: Letter, at: datetime) -> Call:
        """`email/send.json`. The key makes a repeat within a minute harmless."""
        del at
        sender = addresses.parse(letter.sender)
        headers = dict(letter.headers)
        metadata = {METADATA: str(letter.message_id)}
        message: dict[str, Any] = {
            "recipients": [{"email": addresses.parse(letter.recipient).spec, "metadata": metadata}],
            "subject": letter.subject,
            "from_email": sender.spec,
            "from_name": sender.name,
            "body": {k: v for k, v in (("html", letter.html), ("plaintext", letter.text)) if v},
            "track_links": 0,
            "track_read": 0,
            "skip_unsubscribe": 1,
            "template_engine": "none",
            "idempotence_key": str(letter.message_id),
        }
        if reply_to := headers.pop("Reply-To", None):
            message["reply_to"] = addresses.parse(reply_to).spec
        if headers:
            message["headers"] = headers
        for field_name, inline in (("attachments", False), ("inline_attachments", True)):
            files = [
                {
                    "type": one.content_type.partition(";")[0],
                    "name": one.content_id if inline else one.name,
                    "content": b64encode(one.content).decode(),
                }
                for one in letter.attachments
                if bool(one.content_id) is inline
            ]
            if files:
                message[field_name] = files
        body = json.dumps({"message": message}).encode()
        return Call("POST", f"{self.url.base}{_API}/email/send.json", self._headers, body)

    def accepted(self, answer: Answer) -> str | None:
        """`{"status": "success", "job_id": …, "emails": […]}`."""
        data = mapping(answer.json())
        failed = {text(word) for word in mapping(data.get("failed_emails")).values()} - {"duplicate"}
        good = data.get("status") == "success" and not failed
        return text(data.get("job_id")) or None if good else None

    def refused(self, answer: Answer) -> Receipt | None:
        """`failed_emails` with a word for each, or `{"status": "error", "code": …, "message": …}`."""
        data = mapping(answer.json())
        failed = mapping(data.get("failed_emails"))
        if failed:
            word = text(next(iter(failed.values())))
            if word in _BAD_ADDRESS:
                return Receipt(Outcome.REJECTED, reason=word)
            return Receipt(Outcome.REJECTED, reason=word, elsewhere=True)  # temporary_unavailable and the like
        code = data.get("code")
        if data.get("status") != "error" or not isinstance(code, int):
            return None
        words = f"{code} {text(data.get('message'))}"
        if code in _NO_MONEY:
            return Receipt(Outcome.REJECTED, reason=words, elsewhere=True)
        return refusal(answer, words, named=True)

    def probe(self, at: datetime) -> Call:
        """What the account is."""
        del at
        return Call("POST", f"{self.url.base}{_API}/system/info.json", self._headers, b"{}")


def open_unisender(url: str, _settings: Settings) -> VendorProvider:
    """The provider, without connecting; raises InvalidInput."""
    return VendorProvider(UniSenderGo(url))


async def read_webhook(url: str, hook: Hook) -> list[Report]:
    """See `ReportParser`."""
    try:
        data = mapping(json.loads(hook.body))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"a webhook that is no JSON: {error}") from error
    _verify(VendorUrl.of(url, _HOST, OPTIONS).key, text(data.get("auth")), hook.body)
    users = data.get("events_by_user")
    if not isinstance(users, list):
        raise InvalidInput("UniSender Go sends an object with events_by_user")
    events = [mapping(event) for user in users for event in items(mapping(user).get("events"))]
    reports = [_report(event, hook.received_at) for event in events]
    return [report for report in reports if report is not None]


def _verify(key: str, auth: str, body: bytes) -> None:
    """`auth` is the MD5 digest of the body with the API key in its place."""
    given = auth.encode()
    expected = hashlib.md5(body.replace(given, key.encode(), 1), usedforsecurity=False).hexdigest()
    if len(given) != 32 or not hmac.compare_digest(expected.encode(), given.lower()):
        raise Forged("the webhook's digest does not hold")


def _report(event: Any, at: datetime) -> Report | None:
    data = mapping(event.get("event_data"))
    word = text(data.get("status"))
    if event.get("event_name") != "transactional_email_status":
        words = f"{text(event.get('event_name'))} {text(data.get('block_type'))}".strip()
        digest = hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()
        return Report(ReportKind.UNKNOWN, digest, at, reason=words)
    if word in ("accepted", "sent"):
        return None
    told = mapping(data.get("delivery_info"))
    why = text(told.get("delivery_status"))
    kind = WORDS.get(word, ReportKind.UNKNOWN)
    if kind is ReportKind.BOUNCED and why not in _THE_ADDRESS:
        kind = ReportKind.SOFT_BOUNCED
    reason = " ".join(filter(None, [why, text(told.get("destination_response"))]))
    details = {"url": text(data.get("url"), 2000)} if kind is ReportKind.CLICKED else {}
    theirs = text(data.get("job_id")) or None
    who = text(data.get("email")) or None
    key = f"{theirs}:{who}:{word}:{text(data.get('event_time'))}:{details.get('url', '')}"
    words = reason if kind is not ReportKind.UNKNOWN else f"{word} {reason}".strip()
    number = our_id(mapping(data.get("metadata")).get(METADATA))
    return Report(kind, key, moment(data.get("event_time"), at), number, theirs, who, words, details)
