"""What is made of the webhooks of vendors, and which are refused."""

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from channels.email.vendors import mailgun, postmark, sendgrid, ses, unisender
from channels.provider import Forged, Hook, ReportKind
from core.errors import InvalidInput
from tests.channels.email.vendors.signed import (
    AT,
    BASIC,
    CERTIFICATE,
    MAILGUN,
    NUMBER,
    POSTMARK,
    SENDGRID,
    SES,
    TOPIC,
    UNISENDER,
    Amazon,
    by_mailgun,
    by_sendgrid,
    by_sns,
    by_unisender,
    hook,
    mailgun_event,
    postmark_event,
    sendgrid_event,
    ses_bounce,
    ses_event,
    sns_certificate,
    unisender_event,
)

# SendGrid


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
    [report] = await sendgrid.read_webhook(SENDGRID, by_sendgrid([sendgrid_event(event, **more)]))
    assert (report.kind, report.message_id, report.provider_message_id) == (kind, NUMBER, "14c5d75ce93")
    assert report.at == datetime.fromtimestamp(1513299569, UTC)
    assert report.details == {
        key: value for key, value in {"machine": more.get("sg_machine_open"), "url": more.get("url")}.items() if value
    }


async def test_sendgrids_signature_is_checked() -> None:
    good = by_sendgrid([sendgrid_event("processed")])
    assert await sendgrid.read_webhook(SENDGRID, good) == []
    for bad, url in (
        (Hook(good.headers, {}, good.body.replace(b"processed", b"delivered"), AT), SENDGRID),
        (Hook({}, {}, good.body, AT), SENDGRID),
        (good, "sendgrid://SG.key@"),
        (Hook({**good.headers, "x-twilio-email-event-webhook-signature": "!"}, {}, good.body, AT), SENDGRID),
        (by_sendgrid([], int((AT - timedelta(days=3)).timestamp())), SENDGRID),
    ):
        with pytest.raises(Forged):
            await sendgrid.read_webhook(url, bad)
    with pytest.raises(InvalidInput):
        await sendgrid.read_webhook(SENDGRID, by_sendgrid({"event": "open"}))


# Postmark


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (postmark_event("Delivery", DeliveredAt="2019-11-05T16:33:54.9070259Z"), ReportKind.DELIVERED),
        (postmark_event("Bounce", ID=42, Type="HardBounce", TypeCode=1, Details="550"), ReportKind.BOUNCED),
        (postmark_event("Bounce", ID=43, Type="Transient", TypeCode=2), ReportKind.SOFT_BOUNCED),
        (postmark_event("Bounce", ID=44, Type="NewWord"), ReportKind.SOFT_BOUNCED),
        (postmark_event("Bounce", ID=45, Type="AutoResponder"), ReportKind.UNKNOWN),
        (postmark_event("SpamComplaint", ID=46, Type="SpamComplaint"), ReportKind.COMPLAINED),
        (postmark_event("Open", FirstOpen=True, ReceivedAt="2019-11-05T16:33:54.9070259Z"), ReportKind.OPENED),
        (postmark_event("Click", OriginalLink="https://a.example"), ReportKind.CLICKED),
        (
            postmark_event("SubscriptionChange", SuppressSending=True, SuppressionReason="ManualSuppression"),
            ReportKind.UNSUBSCRIBED,
        ),
        (
            postmark_event("SubscriptionChange", SuppressSending=True, SuppressionReason="HardBounce"),
            ReportKind.UNKNOWN,
        ),
        (postmark_event("Inbound"), ReportKind.UNKNOWN),
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
        body = json.dumps(postmark_event("Bounce", ID=42, Type=word)).encode()
        [report] = await postmark.read_webhook(POSTMARK, hook(body, BASIC))
        assert (word, report.kind) == (word, kind)


async def test_postmarks_password_is_checked() -> None:
    body = json.dumps(postmark_event("Delivery")).encode()
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


def _permanent(reason: str, code: int, words: str, **more: str) -> dict[str, Any]:
    status = {"code": code, "message": "", "description": words, **more}
    return mailgun_event("failed", severity="permanent", reason=reason, **{"delivery-status": status})


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (mailgun_event("delivered"), ReportKind.DELIVERED),
        (mailgun_event("failed", severity="temporary", reason="generic"), ReportKind.DEFERRED),
        (
            mailgun_event(
                "failed", severity="permanent", reason="bounce",
                **{"delivery-status": {"code": 550, "enhanced-code": "5.1.1", "message": "5.1.1 unknown"}},
            ),
            ReportKind.BOUNCED,
        ),
        (
            mailgun_event(
                "failed", severity="permanent", reason="generic",
                **{"delivery-status": {"code": 554, "enhanced-code": "5.7.1", "message": "spam"}},
            ),
            ReportKind.SOFT_BOUNCED,
        ),
        (mailgun_event("failed", severity="permanent", reason="suppress-bounce"), ReportKind.BOUNCED),
        (_permanent("suppress-unsubscribe", 606, "Not delivering to unsubscribed address"), ReportKind.SOFT_BOUNCED),
        (_permanent("suppress-complaint", 607, "Not delivering to a user who complained"), ReportKind.SOFT_BOUNCED),
        (_permanent("old", 602, "Too old"), ReportKind.SOFT_BOUNCED),
        (_permanent("espblock", 554, "not accepted"), ReportKind.SOFT_BOUNCED),
        (_permanent("bounce", 550, "not accepted", **{"bounce-type": "soft"}), ReportKind.SOFT_BOUNCED),
        (_permanent("bounce", 550, "not accepted", **{"bounce-type": "hard"}), ReportKind.BOUNCED),
        (mailgun_event("rejected", reject={"reason": "Sandbox subdomains are for test purposes only"}),
         ReportKind.SOFT_BOUNCED),
        (mailgun_event("complained"), ReportKind.COMPLAINED),
        (mailgun_event("unsubscribed"), ReportKind.UNSUBSCRIBED),
        (mailgun_event("opened", **{"client-info": {"bot": "apple"}}), ReportKind.OPENED),
        (mailgun_event("clicked", url="https://a.example"), ReportKind.CLICKED),
        (mailgun_event("list_member_uploaded"), ReportKind.UNKNOWN),
    ],
)  # fmt: skip
async def test_words_of_mailgun(event: dict[str, Any], kind: ReportKind) -> None:
    [report] = await mailgun.read_webhook(MAILGUN, by_mailgun(event))
    assert (report.kind, report.message_id) == (kind, NUMBER)
    assert report.provider_message_id == "20130503182626.18666.16540@mg.example.com"
    assert ("machine" in report.details) is (kind is ReportKind.OPENED)
    assert report.reason or kind not in {ReportKind.SOFT_BOUNCED, ReportKind.BOUNCED}


async def test_mailguns_signature_is_checked() -> None:
    for bad, url in (
        (by_mailgun(mailgun_event("delivered"), key=b"other"), MAILGUN),
        (by_mailgun(mailgun_event("delivered"), AT - timedelta(days=2)), MAILGUN),
        (by_mailgun(mailgun_event("delivered")), "mailgun://key@/mg.example.com"),
        (hook(b"{}"), MAILGUN),
    ):
        with pytest.raises(Forged):
            await mailgun.read_webhook(url, bad)


# UniSender Go


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
    said = [unisender_event("accepted"), unisender_event("sent"), unisender_event(status, why)]
    [report] = await unisender.read_webhook(UNISENDER, by_unisender(said))
    assert (report.kind, report.message_id, report.provider_message_id) == (kind, NUMBER, "1a3Q2V-0000OZ-S0")
    assert report.at == datetime(2015, 11, 30, 15, 9, 42, tzinfo=UTC)


async def test_unisender_gos_digest_is_checked() -> None:
    block = {"event_name": "transactional_spam_block", "event_data": {"domain": "x", "block_type": "one_smtp"}}
    [report] = await unisender.read_webhook(UNISENDER, by_unisender([block]))
    assert (report.kind, report.message_id, report.reason) == (
        ReportKind.UNKNOWN, None, "transactional_spam_block one_smtp"
    )  # fmt: skip
    good = by_unisender([unisender_event("delivered")])
    for body in (good.body.replace(b"delivered", b"hard_bounced"), b"{}", by_unisender([], "other").body):
        with pytest.raises(Forged):
            await unisender.read_webhook(UNISENDER, hook(body))


# SES by SNS


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (
            ses_event("Delivery", delivery={"timestamp": "2026-11-23T12:00:01Z", "smtpResponse": "250 ok"}),
            ReportKind.DELIVERED,
        ),
        (ses_event("DeliveryDelay", deliveryDelay={"delayType": "MailboxFull"}), ReportKind.DEFERRED),
        (
            ses_event("Bounce", bounce=ses_bounce("Permanent", "General", "5.1.1", "smtp; 550 unknown user")),
            ReportKind.BOUNCED,
        ),
        (
            ses_event("Bounce", bounce=ses_bounce("Permanent", "General", "5.7.1", "smtp; 550 spam")),
            ReportKind.SOFT_BOUNCED,
        ),
        (ses_event("Bounce", bounce=ses_bounce("Permanent", "Suppressed", "", "")), ReportKind.BOUNCED),
        (ses_event("Bounce", bounce=ses_bounce("Transient", "MailboxFull", "", "")), ReportKind.SOFT_BOUNCED),
        (
            ses_event("Complaint", complaint={"feedbackId": "f", "complaintFeedbackType": "abuse"}),
            ReportKind.COMPLAINED,
        ),
        (
            ses_event("Complaint", complaint={"feedbackId": "f", "complaintFeedbackType": "not-spam"}),
            ReportKind.UNKNOWN,
        ),
        (ses_event("Complaint", complaint={"feedbackId": "f", "complaintFeedbackType": "virus"}), ReportKind.UNKNOWN),
        (
            ses_event("Complaint", complaint={"feedbackId": "f", "complaintFeedbackType": "fraud"}),
            ReportKind.COMPLAINED,
        ),
        (ses_event("Complaint", complaint={"feedbackId": "f", "complaintFeedbackType": None}), ReportKind.COMPLAINED),
        (ses_event("Reject", reject={"reason": "Bad content"}), ReportKind.SOFT_BOUNCED),
        (ses_event("Rendering Failure", failure={"errorMessage": "x"}), ReportKind.SOFT_BOUNCED),
        (ses_event("Open", open={"timestamp": "2026-11-23T12:00:01Z"}), ReportKind.OPENED),
        (ses_event("Click", click={"link": "https://a.example"}), ReportKind.CLICKED),
        (ses_event("Melted"), ReportKind.UNKNOWN),
    ],
)
async def test_words_of_ses(amazon: Amazon, event: str, kind: ReportKind) -> None:
    [report] = await ses.read_webhook(SES, by_sns(event))
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
        [report] = await ses.read_webhook(SES, by_sns(ses_event("Bounce", bounce=ses_bounce(said, further, "", ""))))
        assert (word, report.kind) == (word, kind)


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_subscription_to_our_topic_is_confirmed(amazon: Amazon, version: str) -> None:
    address = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"
    asking = by_sns("You have chosen …", version, Type="SubscriptionConfirmation", SubscribeURL=address, Token="t")
    assert await ses.read_webhook(SES, asking) == []
    assert amazon.asked == [CERTIFICATE, address]


async def test_what_amazon_did_not_sign_for_our_topic_is_forged(amazon: Amazon) -> None:
    event = ses_event("Delivery", delivery={})
    elsewhere = "https://sns.eu-west-1.amazonaws.com.evil.example/x.pem"
    confirm = {"Type": "SubscriptionConfirmation", "Token": "t"}
    for bad, url in (
        (by_sns(event, tampered=event + " "), SES),
        (by_sns(event, TopicArn=TOPIC + "2"), SES),
        (by_sns(event), SES.partition("?")[0]),
        (by_sns(event, SigningCertURL=elsewhere), SES),
        (by_sns(event, SigningCertURL=CERTIFICATE.replace("https", "http")), SES),
        (by_sns(event, SigningCertURL=CERTIFICATE.replace("//", "//a@")), SES),
        # Anybody's text can be had at an address of SNS that is signed for it.
        (by_sns(event, SigningCertURL="https://sns.eu-west-1.amazonaws.com/?Action=GetEndpointAttributes"), SES),
        (by_sns(event, SigningCertURL=CERTIFICATE + "?Action=GetEndpointAttributes"), SES),
        (by_sns(event, SigningCertURL=CERTIFICATE.replace("Simple", "x/Simple")), SES),
        (by_sns(event, SigningCertURL=CERTIFICATE.replace("0a0a", "evil")), SES),
        (by_sns(event, SigningCertURL="https://[sns"), SES),
        (by_sns(event, SigningCertURL=CERTIFICATE.replace("eu-west-1", "us-east-1")), SES),
        (by_sns(event, SigningCertURL=CERTIFICATE.replace("amazonaws.com", "amazonaws.com.cn")), SES),
        (by_sns(event, TopicArn="topic"), "ses://AKID:secret@eu-west-1?topic=topic"),
        (by_sns("x", SubscribeURL="https://169.254.169.254/", **confirm), SES),
        (by_sns(event, version="3"), SES),
        (by_sns(event, Timestamp="2026-11-22T11:59:59.000Z"), SES),  # kept, and sent again a day later
        (by_sns(event, Timestamp="2026-11-24T12:00:01.000Z"), SES),
        (by_sns(event, Timestamp="yesterday"), SES),
        (by_sns("x", SubscribeURL=CERTIFICATE + "?confirm", Timestamp="2026-11-21T12:00:00Z", **confirm), SES),
    ):
        with pytest.raises(Forged):
            await ses.read_webhook(url, bad)
    assert not [url for url in amazon.asked if url != CERTIFICATE]
    late = by_sns("Successfully validated SNS topic", Timestamp="2026-11-22T12:00:01.000Z")
    assert await ses.read_webhook(SES, late) == []
    assert await ses.read_webhook(SES, by_sns("Successfully validated SNS topic")) == []


@pytest.mark.parametrize("until", [AT - timedelta(seconds=1), AT + timedelta(days=10)])
async def test_a_certificate_counts_in_its_time_only(amazon: Amazon, until: datetime) -> None:
    amazon.content = sns_certificate(until)
    for _ in range(2):
        with pytest.raises(Forged, match="not valid at this time"):
            await ses.read_webhook(SES, by_sns(ses_event("Delivery", delivery={})))


@pytest.mark.parametrize(
    "dns", [None, "sns.amazonaws.com.example", "s3.amazonaws.com", "sns-signing.eu-south-1.amazonaws.com"]
)
async def test_a_certificate_counts_for_its_name_only(amazon: Amazon, dns: str | None) -> None:
    amazon.content = sns_certificate(dns=dns)
    with pytest.raises(Forged, match="not the one that SNS signs with"):
        await ses.read_webhook(SES, by_sns(ses_event("Delivery", delivery={})))


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
    amazon.content = sns_certificate(dns=dns)
    topic = TOPIC.replace("eu-west-1", region)
    address = CERTIFICATE.replace("eu-west-1.amazonaws.com", f"{region}.{domain}")
    event = by_sns(ses_event("Delivery", delivery={}), TopicArn=topic, SigningCertURL=address)
    assert len(await ses.read_webhook(SES.replace(TOPIC, topic), event)) == 1


@pytest.mark.parametrize("reader", [sendgrid, postmark, mailgun, unisender, ses])
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"null", b"\xff", b'{"auth": {}}', b'[[["', b'{"Type": 1}', b"[" * 200_000]
)
async def test_nonsense_is_refused_not_stumbled_over(reader: Any, body: bytes) -> None:
    url = {sendgrid: SENDGRID, postmark: POSTMARK, mailgun: MAILGUN, unisender: UNISENDER, ses: SES}[reader]
    with pytest.raises((Forged, InvalidInput)):
        await reader.read_webhook(url, hook(body, BASIC))
