"""Webhooks as each vendor sends and signs them, with keys of our own."""

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from channels.provider import Hook

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
"""When they come."""
NUMBER = UUID(int=7)
"""Our message."""


def hook(body: bytes, headers: Mapping[str, str] | None = None, at: datetime = AT) -> Hook:
    """A webhook as it came."""
    return Hook(headers or {}, {}, body, at)


# SendGrid

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
SENDGRID = f"sendgrid://SG.key@?webhook_key={PUBLIC.replace('+', '%2B')}"


def by_sendgrid(events: Any, stamp: int | None = None) -> Hook:
    """Events, signed by the key whose public half is in `SENDGRID`."""
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


def sendgrid_event(event: str, **more: Any) -> dict[str, Any]:
    """What SendGrid says of our message."""
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


# Postmark

POSTMARK = "postmark://token@?webhook_password=p%40ss"
BASIC = {"authorization": "Basic " + b64encode(b"kaskad:p@ss").decode()}


def postmark_event(kind: str, **more: Any) -> dict[str, Any]:
    """What Postmark says of our message; it is not signed, see `BASIC`."""
    return {
        "RecordType": kind,
        "MessageID": "883953f4",
        "Recipient": "anna@example.net",
        "Tag": "welcome",
        "Metadata": {"kaskad": str(NUMBER)},
        **more,
    }


# Mailgun

MAILGUN = "mailgun://key@/mg.example.com?webhook_key=signing"


def by_mailgun(event: dict[str, Any], at: datetime = AT, key: bytes = b"signing") -> Hook:
    """An event with a signature of its own."""
    stamp, token = str(int(at.timestamp())), "t" * 50
    signature = hmac.new(key, (stamp + token).encode(), hashlib.sha256).hexdigest()
    signed = {"timestamp": stamp, "token": token, "signature": signature}
    return hook(json.dumps({"signature": signed, "event-data": event}).encode())


def mailgun_event(event: str, **more: Any) -> dict[str, Any]:
    """What Mailgun says of our message."""
    return {
        "event": event,
        "id": f"CPgfbmQMTCKtHW6uIWtuVe-{more}",
        "timestamp": 1521472262.908181,
        "recipient": "anna@example.net",
        "message": {"headers": {"message-id": "20130503182626.18666.16540@mg.example.com"}},
        "user-variables": {"kaskad": str(NUMBER)},
        **more,
    }


# UniSender Go

UNISENDER = "unisender-go://api-key@go1.unisender.ru"


def by_unisender(events: list[dict[str, Any]], key: str = "api-key") -> Hook:
    """Events with the digest that the API key makes of them."""
    data = {"auth": key, "events_by_user": [{"user_id": 456, "project_id": "6432", "events": events}]}
    unsigned = json.dumps(data, separators=(",", ":"))
    digest = hashlib.md5(unsigned.encode()).hexdigest()
    return hook(unsigned.replace(f'"auth":"{key}"', f'"auth":"{digest}"').encode())


def unisender_event(status: str, why: str = "") -> dict[str, Any]:
    """What UniSender Go says of our message."""
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


# SES by SNS

TOPIC = "arn:aws:sns:eu-west-1:123456789012:kaskad"
SES = f"ses://AKID:secret@eu-west-1?topic={TOPIC}"
RSA = rsa.generate_private_key(65537, 2048)
CERTIFICATE = f"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{'0a' * 16}.pem"


def sns_certificate(until: datetime = AT + timedelta(days=1), dns: str | None = "sns.amazonaws.com") -> bytes:
    """The certificate that messages are signed with, in PEM: valid until a time, and for a name."""
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
        self.content = sns_certificate()

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        return self.content


def by_sns(message: str, version: str = "2", **changes: str) -> Hook:
    """A message of SNS with this text; `tampered` is a text that takes its place after the signing."""
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


def ses_event(word: str, **body: Any) -> str:
    """What SES says of our message, as SNS brings it."""
    mail = {
        "timestamp": "2026-11-23T11:59:58.000Z",
        "messageId": "EXAMPLE7c191be45",
        "destination": ["anna@example.net"],
        "tags": {"ses:configuration-set": ["main"], "kaskad": [str(NUMBER)]},
    }
    return json.dumps({"eventType": word, "mail": mail, **body})


def ses_bounce(kind: str, sub: str, status: str, code: str) -> dict[str, Any]:
    """The body of a bounce of one recipient."""
    return {
        "bounceType": kind,
        "bounceSubType": sub,
        "bouncedRecipients": [{"emailAddress": "anna@example.net", "status": status, "diagnosticCode": code}],
        "timestamp": "2026-11-23T12:00:01.000Z",
        "feedbackId": "0100017",
    }
