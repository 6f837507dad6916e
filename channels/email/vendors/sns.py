"""Amazon SNS, which brings the events of SES: messages signed with a certificate of Amazon's.

That it is Amazon's follows from where it lies (a host of SNS in the topic's region, reached by verified HTTPS, under a
path that is for certificates), from its name and from its dates: what AWS' own library for Java asks. What lies there
is the certificate alone, without those that lead from it to a root.
"""

import json
import re
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from channels.email.vendors.answers import moment
from channels.provider import Forged
from core.errors import InvalidInput, Unavailable

Fetch = Callable[[str], Awaitable[bytes]]
_REGION = re.compile(r"[a-z0-9-]{3,30}")
_CERTIFICATE = re.compile(r"/SimpleNotificationService-[0-9a-f]{32}\.pem")
"""Where SNS keeps certificates. Its other addresses give back what anybody has put there."""
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_OLDEST = timedelta(days=1)
"""SNS gives up an endpoint of ours after an hour at most; what is older was kept by somebody."""
_LIMIT = 100_000
_KEPT = 20


async def fetch(url: str) -> bytes:
    """What lies at an address of SNS.

    Raises:
        Unavailable: it cannot be had now.
    """
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=10, follow_redirects=False) as client:
            answer = await client.get(url)
    except httpx.HTTPError as error:
        raise Unavailable(f"SNS does not answer: {error}") from error
    if answer.status_code != 200 or len(answer.content) > _LIMIT:
        raise Unavailable(f"SNS answers {answer.status_code}")
    return answer.content


class Sns:
    """Verifies messages, and confirms the subscription to a topic that is ours."""

    def __init__(self, fetch: Fetch = fetch) -> None:
        """`fetch` gets certificates and confirms subscriptions."""
        self._fetch = fetch
        self._certificates: OrderedDict[str, x509.Certificate] = OrderedDict()

    async def notification(self, body: bytes, topic: str, received_at: datetime) -> str | None:
        """The text of a notification; None of a message that is about the subscription itself.

        Raises:
            Forged: it is not signed by SNS, is more than a day old, or belongs to another topic: everybody may have
                one.
            InvalidInput: it is no message of SNS.
            Unavailable: the certificate cannot be had now.
        """
        message = _read(body)
        if not topic or message["TopicArn"] != topic:
            raise Forged(f"a message of the topic {message['TopicArn']!r}; the provider's option `topic` names another")
        region = _region(topic)
        await self._verify(message, region, received_at)
        if abs(received_at - moment(message.get("Timestamp"), datetime.min.replace(tzinfo=UTC))) > _OLDEST:
            raise Forged("the message is too old")
        if message["Type"] == "SubscriptionConfirmation":
            await self._fetch(_of_sns(message["SubscribeURL"], region))
        return message["Message"] if message["Type"] == "Notification" else None

    async def _verify(self, message: dict[str, str], region: str, at: datetime) -> None:
        hashed = {"1": SHA1, "2": SHA256}.get(message.get("SignatureVersion", ""))
        if hashed is None:
            raise Forged("a signature of a version that is not known")
        lines = [f"{name}\n{message[name]}\n" for name in _SIGNED[message["Type"]] if name in message]
        key = await self._key(_certificate_url(message.get("SigningCertURL", ""), region), region, at)
        try:
            signature = b64decode(message.get("Signature", ""), validate=True)
            key.verify(signature, "".join(lines).encode(), padding.PKCS1v15(), hashed())
        except (InvalidSignature, ValueError) as error:
            raise Forged("the message's signature does not hold") from error

    async def _key(self, url: str, region: str, at: datetime) -> rsa.RSAPublicKey:
        certificate = await self._certificate(url)
        if not _signers(region).intersection(_names(certificate)):
            raise Forged("the certificate is not the one that SNS signs with in the topic's region")
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            raise Forged("the certificate is not valid at this time")
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise Forged("the certificate is not for RSA")
        return key

    async def _certificate(self, url: str) -> x509.Certificate:
        if url not in self._certificates:
            pem = await self._fetch(url)
            try:
                self._certificates[url] = x509.load_pem_x509_certificate(pem)
            except ValueError as error:
                raise Forged("the certificate is none") from error
            if len(self._certificates) > _KEPT:
                self._certificates.popitem(last=False)
        return self._certificates[url]


def _region(topic: str) -> str:
    """`arn:aws:sns:REGION:…`"""
    region = topic.split(":")[3:4]
    if not region or not _REGION.fullmatch(region[0]):
        raise Forged("the provider's option `topic` is no ARN of a topic")
    return region[0]


def _domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def _signers(region: str) -> set[str]:
    """The names that the certificate may have: most regions share one, those that one has to switch on have their own,
    China and the government too."""
    own = "us-gov-west-1" if region.startswith("us-gov-") else region
    return {f"{name}.{_domain(region)}" for name in ("sns", f"sns-signing.{region}", f"sns-{own}")}


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return names.get_values_for_type(x509.DNSName)


def _certificate_url(url: str, region: str) -> str:
    """The address of a certificate, if Amazon alone can have put one there."""
    parts = urlsplit(_of_sns(url, region))
    if not _CERTIFICATE.fullmatch(parts.path) or parts.query or parts.fragment:
        raise Forged("an address at which SNS keeps no certificate")
    return url


def _of_sns(url: str, region: str) -> str:
    """An address, if it is SNS' own in the topic's region."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise Forged("an address that cannot be read") from error
    if parts.scheme != "https" or parts.netloc != f"sns.{region}.{_domain(region)}":
        raise Forged("an address that is not of SNS in the topic's region")
    return url


def _read(body: bytes) -> dict[str, str]:
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"a webhook that is no JSON: {error}") from error
    wanted = ("Type", "TopicArn", "Message")
    if not isinstance(data, dict) or not all(isinstance(data.get(name), str) for name in wanted):
        raise InvalidInput("SNS sends an object with Type, TopicArn and Message")
    if data["Type"] not in _SIGNED:
        raise InvalidInput("a message of SNS of an unknown type")
    message = {name: value for name, value in data.items() if isinstance(value, str)}
    if data["Type"] != "Notification" and "SubscribeURL" not in message:
        raise InvalidInput("a confirmation without an address")
    return message
