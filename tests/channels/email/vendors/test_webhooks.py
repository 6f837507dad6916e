"""Webhooks of vendors, in the form they document, signed as they sign."""

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from channels.email.vendors import mailgun, postmark, sendgrid, ses, unisender
from channels.email.vendors.sns import Sns
from channels.provider import Forged, Hook, Report, ReportKind
from core.errors import InvalidInput

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
NUMBER = UUID(int=7)


def hook(body: bytes, headers: Mapping[str, str] | None = None, at: datetime = AT) -> Hook:
    return Hook(headers or {}, {}, body, at)


def told(reports: list[Report]) -> list[tuple[ReportKind, UUID | None]]:
    return [(report.kind, report.message_id) for report in reports]


# SendGrid

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
SENDGRID = f"sendgrid://SG.key@?webhook_key={PUBLIC.replace('+', '%2B')}"


def _by_sendgrid(events: Any, stamp: int | None = None) -> Hook:
    body = json.dumps(events).encode()
    when = str(stamp or int(AT.timestamp()))
    signature = b64encode(KEY.sign(when.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    return hook(
        body,
        {
            "x-twilio-email-event-webhook-signature": signature,
            "x-twilio-email-event-webhook-timestamp": when,
        },
    )


def _sendgrid(event: str, **more: Any) -> dict[str, Any]:
    return {
        "email": "anna@example.net",
        "timestamp": 1513299569,
        "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>",
        "event": event,
        "sg_event_id": f"id-{event}-{more}",
        "sg_message_id": "14c5d75ce93.filter0001.16648.5515E0B88.0",
        "kaskad": str(NUMBER),
        **more,
    }


@pytest.mark.parametrize(
    ("event", "more", "kind"),
    [
        ("delivered", {"response": "250 OK"}, ReportKind.DELIVERED),
        ("deferred", {"attempt": "5"}, ReportKind.DEFERRED),
        ("bounce", {"type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 unknown user"}, ReportKind.BOUNCED),
        ("bounce", {"type": "blocked", "status": "5.7.1", "reason": "550 spam"}, ReportKind.SOFT_BOUNCED),
        ("dropped", {"reason": "Bounced Address", "status": "5.0.0"}, ReportKind.SOFT_BOUNCED),
        ("spamreport", {}, ReportKind.COMPLAINED),
        ("group_unsubscribe", {"asm_group_id": 10}, ReportKind.UNSUBSCRIBED),
        ("open", {"sg_machine_open": True}, ReportKind.OPENED),
        ("click", {"url": "https://a.example"}, ReportKind.CLICKED),
        ("account_status_change", {}, ReportKind.UNKNOWN),
    ],
)
async def test_words_of_sendgrid(event: str, more: dict[str, Any], kind: ReportKind) -> None:
    [report] = await sendgrid.read_webhook(SENDGRID, _by_sendgrid([_sendgrid(event, **more)]))
    assert (report.kind, report.message_id, report.provider_message_id) == (kind, NUMBER, "14c5d75ce93")
    assert report.at == datetime.fromtimestamp(1513299569, UTC)
    assert report.details == {
        key: value for key, value in {"machine": more.get("sg_machine_open"), "url": more.get("url")}.items() if value
    }


async def test_sendgrids_signature_is_checked() -> None:
    good = _by_sendgrid([_sendgrid("processed")])
    assert await sendgrid.read_webhook(SENDGRID, good) == []
    for bad, url in (
        (Hook(good.headers, {}, good.body.replace(b"processed", b"delivered"), AT), SENDGRID),
        (Hook({}, {}, good.body, AT), SENDGRID),
        (good, "sendgrid://SG.key@"),
        (Hook({**good.headers, "x-twilio-email-event-webhook-signature": "!"}, {}, good.body, AT), SENDGRID),
        (_by_sendgrid([], int((AT - timedelta(days=3)).timestamp())), SENDGRID),
    ):
        with pytest.raises(Forged):
            await sendgrid.read_webhook(url, bad)
    with pytest.raises(InvalidInput):
        await sendgrid.read_webhook(SENDGRID, _by_sendgrid({"event": "open"}))


# Postmark

POSTMARK = "postmark://token@?webhook_password=p%40ss"
BASIC = {"authorization": "Basic " + b64encode(b"kaskad:p@ss").decode()}


def _postmark(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "RecordType": kind,
        "MessageID": "883953f4",
        "Recipient": "anna@example.net",
        "Tag": "welcome",
        "Metadata": {"kaskad": str(NUMBER)},
        **more,
    }


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (_postmark("Delivery", DeliveredAt="2019-11-05T16:33:54.9070259Z"), ReportKind.DELIVERED),
        (_postmark("Bounce", ID=42, Type="HardBounce", TypeCode=1, Details="550"), ReportKind.BOUNCED),
        (_postmark("Bounce", ID=43, Type="Transient", TypeCode=2), ReportKind.SOFT_BOUNCED),
        (_postmark("Bounce", ID=44, Type="NewWord"), ReportKind.SOFT_BOUNCED),
        (_postmark("Bounce", ID=45, Type="AutoResponder"), ReportKind.UNKNOWN),
        (_postmark("SpamComplaint", ID=46, Type="SpamComplaint"), ReportKind.COMPLAINED),
        (_postmark("Open", FirstOpen=True, ReceivedAt="2019-11-05T16:33:54.9070259Z"), ReportKind.OPENED),
        (_postmark("Click", OriginalLink="https://a.example"), ReportKind.CLICKED),
        (
            _postmark("SubscriptionChange", SuppressSending=True, SuppressionReason="ManualSuppression"),
            ReportKind.UNSUBSCRIBED,
        ),
        (_postmark("SubscriptionChange", SuppressSending=True, SuppressionReason="HardBounce"), ReportKind.UNKNOWN),
        (_postmark("Inbound"), ReportKind.UNKNOWN),
    ],
)
async def test_words_of_postmark(event: dict[str, Any], kind: ReportKind) -> None:
    [report] = await postmark.read_webhook(POSTMARK, hook(json.dumps(event).encode(), BASIC))
    assert (report.kind, report.message_id, report.provider_message_id) == (kind, NUMBER, "883953f4")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (ReportKind.BOUNCED, "HardBounce BadEmailAddress ManuallyDeactivated"),
        (
            ReportKind.SOFT_BOUNCED,
            "Transient SoftBounce DnsError SpamNotification OpenRelayTest Unknown VirusNotification Unconfirmed "
            "Blocked SMTPApiError InboundError DMARCPolicy TemplateRenderingFailed",
        ),
        (ReportKind.COMPLAINED, "SpamComplaint"),
        (ReportKind.UNSUBSCRIBED, "Unsubscribe"),
        (ReportKind.UNKNOWN, "Subscribe AutoResponder AddressChange ChallengeVerification"),
    ],
)
async def test_all_bounces_that_postmark_names(kind: ReportKind, words: str) -> None:
    """The words are those of `BounceType` in Postmark's own library."""
    for word in words.split():
        body = json.dumps(_postmark("Bounce", ID=42, Type=word)).encode()
        [report] = await postmark.read_webhook(POSTMARK, hook(body, BASIC))
        assert (word, report.kind) == (word, kind)


async def test_postmarks_password_is_checked() -> None:
    body = json.dumps(_postmark("Delivery")).encode()
    wrong = {"authorization": "Basic " + b64encode(b"kaskad:pass").decode()}
    for headers, url in (
        (wrong, POSTMARK),
        ({}, POSTMARK),
        (BASIC, "postmark://token@"),
        ({"authorization": "x"}, POSTMARK),
    ):
        with pytest.raises(Forged):
            await postmark.read_webhook(url, hook(body, headers))


# Mailgun

MAILGUN = "mailgun://key@/mg.example.com?webhook_key=signing"


def _by_mailgun(event: dict[str, Any], at: datetime = AT, key: bytes = b"signing") -> Hook:
    stamp, token = str(int(at.timestamp())), "t" * 50
    signature = hmac.new(key, (stamp + token).encode(), hashlib.sha256).hexdigest()
    signed = {"timestamp": stamp, "token": token, "signature": signature}
    return hook(json.dumps({"signature": signed, "event-data": event}).encode())


def _mailgun(event: str, **more: Any) -> dict[str, Any]:
    return {
        "event": event,
        "id": f"CPgfbmQMTCKtHW6uIWtuVe-{more}",
        "timestamp": 1521472262.908181,
        "recipient": "anna@example.net",
        "message": {"headers": {"message-id": "20130503182626.18666.16540@mg.example.com"}},
        "user-variables": {"kaskad": str(NUMBER)},
        **more,
    }


def _permanent(reason: str, code: int, words: str, **more: str) -> dict[str, Any]:
    status = {"code": code, "message": "", "description": words, **more}
    return _mailgun("failed", severity="permanent", reason=reason, **{"delivery-status": status})


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (_mailgun("delivered"), ReportKind.DELIVERED),
        (_mailgun("failed", severity="temporary", reason="generic"), ReportKind.DEFERRED),
        (
            _mailgun(
                "failed", severity="permanent", reason="bounce",
                **{"delivery-status": {"code": 550, "enhanced-code": "5.1.1", "message": "5.1.1 unknown"}},
            ),
            ReportKind.BOUNCED,
        ),
        (
            _mailgun(
                "failed", severity="permanent", reason="generic",
                **{"delivery-status": {"code": 554, "enhanced-code": "5.7.1", "message": "spam"}},
            ),
            ReportKind.SOFT_BOUNCED,
        ),
        (_mailgun("failed", severity="permanent", reason="suppress-bounce"), ReportKind.BOUNCED),
        (_permanent("suppress-unsubscribe", 606, "Not delivering to unsubscribed address"), ReportKind.SOFT_BOUNCED),
        (_permanent("suppress-complaint", 607, "Not delivering to a user who complained"), ReportKind.SOFT_BOUNCED),
        (_permanent("old", 602, "Too old"), ReportKind.SOFT_BOUNCED),
        (_permanent("espblock", 554, "not accepted"), ReportKind.SOFT_BOUNCED),
        (_permanent("bounce", 550, "not accepted", **{"bounce-type": "soft"}), ReportKind.SOFT_BOUNCED),
        (_permanent("bounce", 550, "not accepted", **{"bounce-type": "hard"}), ReportKind.BOUNCED),
        (_mailgun("rejected", reject={"reason": "Sandbox subdomains are for test purposes only"}),
         ReportKind.SOFT_BOUNCED),
        (_mailgun("complained"), ReportKind.COMPLAINED),
        (_mailgun("unsubscribed"), ReportKind.UNSUBSCRIBED),
        (_mailgun("opened", **{"client-info": {"bot": "apple"}}), ReportKind.OPENED),
        (_mailgun("clicked", url="https://a.example"), ReportKind.CLICKED),
        (_mailgun("list_member_uploaded"), ReportKind.UNKNOWN),
    ],
)  # fmt: skip
async def test_words_of_mailgun(event: dict[str, Any], kind: ReportKind) -> None:
    [report] = await mailgun.read_webhook(MAILGUN, _by_mailgun(event))
    assert (report.kind, report.message_id) == (kind, NUMBER)
    assert report.provider_message_id == "20130503182626.18666.16540@mg.example.com"
    assert ("machine" in report.details) is (kind is ReportKind.OPENED)
    assert report.reason or kind not in {ReportKind.SOFT_BOUNCED, ReportKind.BOUNCED}


async def test_mailguns_signature_is_checked() -> None:
    for bad, url in (
        (_by_mailgun(_mailgun("delivered"), key=b"other"), MAILGUN),
        (_by_mailgun(_mailgun("delivered"), AT - timedelta(days=2)), MAILGUN),
        (_by_mailgun(_mailgun("delivered")), "mailgun://key@/mg.example.com"),
        (hook(b"{}"), MAILGUN),
    ):
        with pytest.raises(Forged):
            await mailgun.read_webhook(url, bad)


# UniSender Go

UNISENDER = "unisender-go://api-key@go1.unisender.ru"


def _by_unisender(events: list[dict[str, Any]], key: str = "api-key") -> Hook:
    data = {"auth": key, "events_by_user": [{"user_id": 456, "project_id": "6432", "events": events}]}
    unsigned = json.dumps(data, separators=(",", ":"))
    digest = hashlib.md5(unsigned.encode()).hexdigest()
    return hook(unsigned.replace(f'"auth":"{key}"', f'"auth":"{digest}"').encode())


def _unisender(status: str, why: str = "") -> dict[str, Any]:
    return {
        "event_name": "transactional_email_status",
        "event_data": {
            "job_id": "1a3Q2V-0000OZ-S0",
            "metadata": {"kaskad": str(NUMBER)},
            "email": "anna@example.net",
            "status": status,
            "event_time": "2015-11-30 15:09:42",
            "url": "http://some.example",
            "delivery_info": {"delivery_status": why, "destination_response": "550"},
        },
    }


@pytest.mark.parametrize(
    ("status", "why", "kind"),
    [
        ("delivered", "ok_delivered", ReportKind.DELIVERED),
        ("opened", "", ReportKind.OPENED),
        ("clicked", "", ReportKind.CLICKED),
        ("unsubscribed", "", ReportKind.UNSUBSCRIBED),
        ("spam", "", ReportKind.COMPLAINED),
        ("soft_bounced", "err_will_retry", ReportKind.DEFERRED),
        ("hard_bounced", "err_user_unknown", ReportKind.BOUNCED),
        ("hard_bounced", "skip_dup_unreachable", ReportKind.BOUNCED),
        ("hard_bounced", "err_spam_rejected", ReportKind.SOFT_BOUNCED),
        ("hard_bounced", "err_mailbox_full", ReportKind.SOFT_BOUNCED),
        ("hard_bounced", "err_domain_inactive", ReportKind.SOFT_BOUNCED),
        ("hard_bounced", "", ReportKind.SOFT_BOUNCED),
        ("subscribed", "", ReportKind.UNKNOWN),
    ],
)
async def test_words_of_unisender_go(status: str, why: str, kind: ReportKind) -> None:
    said = [_unisender("accepted"), _unisender("sent"), _unisender(status, why)]
    [report] = await unisender.read_webhook(UNISENDER, _by_unisender(said))
    assert (report.kind, report.message_id, report.provider_message_id) == (kind, NUMBER, "1a3Q2V-0000OZ-S0")
    assert report.at == datetime(2015, 11, 30, 15, 9, 42, tzinfo=UTC)


async def test_unisender_gos_digest_is_checked() -> None:
    block = {"event_name": "transactional_spam_block", "event_data": {"domain": "x", "block_type": "one_smtp"}}
    [report] = await unisender.read_webhook(UNISENDER, _by_unisender([block]))
    assert (report.kind, report.message_id, report.reason) == (
        ReportKind.UNKNOWN, None, "transactional_spam_block one_smtp"
    )  # fmt: skip
    good = _by_unisender([_unisender("delivered")])
    for body in (good.body.replace(b"delivered", b"hard_bounced"), b"{}", _by_unisender([], "other").body):
        with pytest.raises(Forged):
            await unisender.read_webhook(UNISENDER, hook(body))


# SES by SNS

TOPIC = "arn:aws:sns:eu-west-1:123456789012:kaskad"
SES = f"ses://AKID:secret@eu-west-1?topic={TOPIC}"
RSA = rsa.generate_private_key(65537, 2048)
CERTIFICATE = f"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{'0a' * 16}.pem"


def _pem(until: datetime = AT + timedelta(days=1), dns: str | None = "sns.amazonaws.com") -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(RSA.public_key())
    made = made.serial_number(1).not_valid_before(until - timedelta(days=9)).not_valid_after(until)
    if dns:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
    return made.sign(RSA, hashes.SHA256()).public_bytes(Encoding.PEM)


class Amazon:
    """What lies at SNS' addresses; keeps what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.content = _pem()

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        return self.content


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Amazon:
    """SNS without its network."""
    made = Amazon()
    monkeypatch.setattr(ses, "sns", Sns(made.fetch))
    return made


def _by_sns(message: str, version: str = "2", **changes: str) -> Hook:
    data = {
        "Type": "Notification",
        "MessageId": "22b80b92",
        "TopicArn": TOPIC,
        "Message": message,
        "Timestamp": "2026-11-23T12:00:00.000Z",
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE,
        **{name: value for name, value in changes.items() if name != "tampered"},
    }
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{data[name]}\n" for name in names if name in data)
    hashed = hashes.SHA1() if version == "1" else hashes.SHA256()
    data["Signature"] = b64encode(RSA.sign(text.encode(), padding.PKCS1v15(), hashed)).decode()
    if "tampered" in changes:
        data["Message"] = changes["tampered"]
    return hook(json.dumps(data).encode())


def _ses(word: str, **body: Any) -> str:
    mail = {
        "timestamp": "2026-11-23T11:59:58.000Z",
        "messageId": "EXAMPLE7c191be45",
        "destination": ["anna@example.net"],
        "tags": {"ses:configuration-set": ["main"], "kaskad": [str(NUMBER)]},
    }
    return json.dumps({"eventType": word, "mail": mail, **body})


def _bounced(kind: str, sub: str, status: str, code: str) -> dict[str, Any]:
    return {
        "bounceType": kind,
        "bounceSubType": sub,
        "bouncedRecipients": [{"emailAddress": "anna@example.net", "status": status, "diagnosticCode": code}],
        "timestamp": "2026-11-23T12:00:01.000Z",
        "feedbackId": "0100017",
    }


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (
            _ses("Delivery", delivery={"timestamp": "2026-11-23T12:00:01Z", "smtpResponse": "250 ok"}),
            ReportKind.DELIVERED,
        ),
        (_ses("DeliveryDelay", deliveryDelay={"delayType": "MailboxFull"}), ReportKind.DEFERRED),
        (
            _ses("Bounce", bounce=_bounced("Permanent", "General", "5.1.1", "smtp; 550 unknown user")),
            ReportKind.BOUNCED,
        ),
        (_ses("Bounce", bounce=_bounced("Permanent", "General", "5.7.1", "smtp; 550 spam")), ReportKind.SOFT_BOUNCED),
        (_ses("Bounce", bounce=_bounced("Permanent", "Suppressed", "", "")), ReportKind.BOUNCED),
        (_ses("Bounce", bounce=_bounced("Transient", "MailboxFull", "", "")), ReportKind.SOFT_BOUNCED),
        (_ses("Complaint", complaint={"feedbackId": "f", "complaintFeedbackType": "abuse"}), ReportKind.COMPLAINED),
        (_ses("Complaint", complaint={"feedbackId": "f", "complaintFeedbackType": "not-spam"}), ReportKind.UNKNOWN),
        (_ses("Complaint", complaint={"feedbackId": "f", "complaintFeedbackType": "virus"}), ReportKind.UNKNOWN),
        (_ses("Complaint", complaint={"feedbackId": "f", "complaintFeedbackType": "fraud"}), ReportKind.COMPLAINED),
        (_ses("Complaint", complaint={"feedbackId": "f", "complaintFeedbackType": None}), ReportKind.COMPLAINED),
        (_ses("Reject", reject={"reason": "Bad content"}), ReportKind.SOFT_BOUNCED),
        (_ses("Rendering Failure", failure={"errorMessage": "x"}), ReportKind.SOFT_BOUNCED),
        (_ses("Open", open={"timestamp": "2026-11-23T12:00:01Z"}), ReportKind.OPENED),
        (_ses("Click", click={"link": "https://a.example"}), ReportKind.CLICKED),
        (_ses("Melted"), ReportKind.UNKNOWN),
    ],
)
async def test_words_of_ses(amazon: Amazon, event: str, kind: ReportKind) -> None:
    [report] = await ses.read_webhook(SES, _by_sns(event))
    assert (report.kind, report.message_id, report.provider_message_id) == (kind, NUMBER, "EXAMPLE7c191be45")
    assert amazon.asked == [CERTIFICATE]


@pytest.mark.usefixtures("amazon")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (ReportKind.BOUNCED, "Permanent/NoEmail Permanent/Suppressed Permanent/OnAccountSuppressionList"),
        (
            ReportKind.SOFT_BOUNCED,
            "Transient/General Transient/MailboxFull Transient/MessageTooLarge Transient/ContentRejected "
            "Transient/AttachmentRejected Undetermined/Undetermined",
        ),
    ],
)
async def test_all_bounces_that_amazon_names(kind: ReportKind, words: str) -> None:
    """But for Permanent/General, of which the status decides."""
    for word in words.split():
        said, _, further = word.partition("/")
        [report] = await ses.read_webhook(SES, _by_sns(_ses("Bounce", bounce=_bounced(said, further, "", ""))))
        assert (word, report.kind) == (word, kind)


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_subscription_to_our_topic_is_confirmed(amazon: Amazon, version: str) -> None:
    address = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"
    asking = _by_sns("You have chosen …", version, Type="SubscriptionConfirmation", SubscribeURL=address, Token="t")
    assert await ses.read_webhook(SES, asking) == []
    assert amazon.asked == [CERTIFICATE, address]


async def test_what_amazon_did_not_sign_for_our_topic_is_forged(amazon: Amazon) -> None:
    event = _ses("Delivery", delivery={})
    elsewhere = "https://sns.eu-west-1.amazonaws.com.evil.example/x.pem"
    confirm = {"Type": "SubscriptionConfirmation", "Token": "t"}
    for bad, url in (
        (_by_sns(event, tampered=event + " "), SES),
        (_by_sns(event, TopicArn=TOPIC + "2"), SES),
        (_by_sns(event), SES.partition("?")[0]),
        (_by_sns(event, SigningCertURL=elsewhere), SES),
        (_by_sns(event, SigningCertURL=CERTIFICATE.replace("https", "http")), SES),
        (_by_sns(event, SigningCertURL=CERTIFICATE.replace("//", "//a@")), SES),
        # Anybody's text can be had at an address of SNS that is signed for it.
        (_by_sns(event, SigningCertURL="https://sns.eu-west-1.amazonaws.com/?Action=GetEndpointAttributes"), SES),
        (_by_sns(event, SigningCertURL=CERTIFICATE + "?Action=GetEndpointAttributes"), SES),
        (_by_sns(event, SigningCertURL=CERTIFICATE.replace("Simple", "x/Simple")), SES),
        (_by_sns(event, SigningCertURL=CERTIFICATE.replace("0a0a", "evil")), SES),
        (_by_sns(event, SigningCertURL="https://[sns"), SES),
        (_by_sns(event, SigningCertURL=CERTIFICATE.replace("eu-west-1", "us-east-1")), SES),
        (_by_sns(event, SigningCertURL=CERTIFICATE.replace("amazonaws.com", "amazonaws.com.cn")), SES),
        (_by_sns(event, TopicArn="topic"), "ses://AKID:secret@eu-west-1?topic=topic"),
        (_by_sns("x", SubscribeURL="https://169.254.169.254/", **confirm), SES),
        (_by_sns(event, version="3"), SES),
        (_by_sns(event, Timestamp="2026-11-22T11:59:59.000Z"), SES),  # kept, and sent again a day later
        (_by_sns(event, Timestamp="2026-11-24T12:00:01.000Z"), SES),
        (_by_sns(event, Timestamp="yesterday"), SES),
        (_by_sns("x", SubscribeURL=CERTIFICATE + "?confirm", Timestamp="2026-11-21T12:00:00Z", **confirm), SES),
    ):
        with pytest.raises(Forged):
            await ses.read_webhook(url, bad)
    assert not [url for url in amazon.asked if url != CERTIFICATE]
    late = _by_sns("Successfully validated SNS topic", Timestamp="2026-11-22T12:00:01.000Z")
    assert await ses.read_webhook(SES, late) == []
    assert await ses.read_webhook(SES, _by_sns("Successfully validated SNS topic")) == []


@pytest.mark.parametrize("until", [AT - timedelta(seconds=1), AT + timedelta(days=10)])
async def test_a_certificate_counts_in_its_time_only(amazon: Amazon, until: datetime) -> None:
    amazon.content = _pem(until)
    for _ in range(2):
        with pytest.raises(Forged, match="not valid at this time"):
            await ses.read_webhook(SES, _by_sns(_ses("Delivery", delivery={})))


@pytest.mark.parametrize(
    "dns", [None, "sns.amazonaws.com.example", "s3.amazonaws.com", "sns-signing.eu-south-1.amazonaws.com"]
)
async def test_a_certificate_counts_for_its_name_only(amazon: Amazon, dns: str | None) -> None:
    amazon.content = _pem(dns=dns)
    with pytest.raises(Forged, match="not the one that SNS signs with"):
        await ses.read_webhook(SES, _by_sns(_ses("Delivery", delivery={})))


@pytest.mark.parametrize(
    ("region", "domain", "dns"),
    [
        ("us-east-1", "amazonaws.com", "sns.amazonaws.com"),
        ("eu-south-1", "amazonaws.com", "sns-signing.eu-south-1.amazonaws.com"),
        ("us-gov-east-1", "amazonaws.com", "sns-us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn", "sns-cn-north-1.amazonaws.com.cn"),
    ],
)
async def test_the_certificate_of_each_kind_of_region_counts(
    amazon: Amazon, region: str, domain: str, dns: str
) -> None:
    amazon.content = _pem(dns=dns)
    topic = TOPIC.replace("eu-west-1", region)
    address = CERTIFICATE.replace("eu-west-1.amazonaws.com", f"{region}.{domain}")
    event = _by_sns(_ses("Delivery", delivery={}), TopicArn=topic, SigningCertURL=address)
    assert len(await ses.read_webhook(SES.replace(TOPIC, topic), event)) == 1


@pytest.mark.parametrize("reader", [sendgrid, postmark, mailgun, unisender, ses])
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"null", b"\xff", b'{"auth": {}}', b'[[["', b'{"Type": 1}', b"[" * 200_000]
)
async def test_nonsense_is_refused_not_stumbled_over(reader: Any, body: bytes) -> None:
    url = {sendgrid: SENDGRID, postmark: POSTMARK, mailgun: MAILGUN, unisender: UNISENDER, ses: SES}[reader]
    with pytest.raises((Forged, InvalidInput)):
        await reader.read_webhook(url, hook(body, BASIC))
