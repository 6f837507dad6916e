"""Webhooks with every field that the vendors document, replayed as they are sent: the files of `payloads`.

What can be verified because its key is published is verified in the last tests here: a webhook with the tests of
SendGrid's libraries, messages of SNS with their certificate in Amazon's SDK for Java, a signature in Mailgun's library
for PHP, a digest of UniSender Go's kind in django-anymail. UniSender publishes the rule alone, Postmark signs nothing.
All else is signed here by the published rules.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.email.vendors import mailgun, postmark, sendgrid, ses, unisender
from channels.email.vendors.sns import Sns
from channels.provider import Forged, Report, ReportKind
from channels.registry import SCHEMES
from core.errors import InvalidInput
from tests.channels.email.vendors import signed

K = ReportKind
_FOLDER = Path(__file__).parent / "payloads"
_URL = "https://shop.example/a?b=1"


def payload(name: str) -> Any:
    """What a vendor sends."""
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def ours(reports: list[Report]) -> list[ReportKind]:
    """The kinds, of reports that name our message, and their links."""
    assert {report.message_id for report in reports} == {signed.NUMBER}
    assert len({(report.kind, report.key) for report in reports}) == len(reports)
    assert {report.details.get("url") for report in reports if report.kind is K.CLICKED} == {_URL}
    assert all(report.reason for report in reports if report.kind in {K.BOUNCED, K.SOFT_BOUNCED})
    assert {report.at.date() for report in reports} == {signed.AT.date()}
    return [report.kind for report in reports]


async def test_sendgrid() -> None:
    reports = await sendgrid.read_webhook(signed.SENDGRID, signed.by_sendgrid(payload("sendgrid")))
    assert ours(reports) == [
        K.DEFERRED, K.DELIVERED, K.BOUNCED, K.SOFT_BOUNCED, K.SOFT_BOUNCED, K.OPENED, K.OPENED, K.CLICKED,
        K.COMPLAINED, K.UNSUBSCRIBED, K.UNSUBSCRIBED, K.UNKNOWN,
    ]  # fmt: skip
    assert [report.details.get("machine") for report in reports if report.kind is K.OPENED] == [None, True]


async def test_postmark() -> None:
    reports = []
    for body in payload("postmark"):
        reports += await postmark.read_webhook(signed.POSTMARK, signed.hook(json.dumps(body).encode(), signed.BASIC))
    assert ours(reports) == [
        K.DELIVERED, K.BOUNCED, K.SOFT_BOUNCED, K.COMPLAINED, K.OPENED, K.CLICKED, K.UNSUBSCRIBED, K.UNKNOWN,
    ]  # fmt: skip


async def test_mailgun() -> None:
    reports = []
    for event in payload("mailgun"):
        reports += await mailgun.read_webhook(signed.MAILGUN, signed.by_mailgun(event))
    assert ours(reports) == [
        K.DELIVERED, K.DEFERRED, K.BOUNCED, K.BOUNCED, K.SOFT_BOUNCED, K.OPENED, K.OPENED, K.CLICKED, K.UNSUBSCRIBED,
        K.COMPLAINED,
    ]  # fmt: skip
    assert [report.details.get("machine") for report in reports if report.kind is K.OPENED] == [None, True]


@pytest.mark.usefixtures("amazon")
async def test_ses() -> None:
    reports = []
    for number, event in enumerate(payload("ses")):
        hook = signed.by_sns(json.dumps(event), MessageId=str(number), Subject="Amazon SES Email Event Notification")
        reports += await ses.read_webhook(signed.SES, hook)
    assert ours(reports) == [
        K.DELIVERED, K.BOUNCED, K.SOFT_BOUNCED, K.COMPLAINED, K.DEFERRED, K.SOFT_BOUNCED, K.SOFT_BOUNCED, K.OPENED,
        K.CLICKED, K.UNSUBSCRIBED,
    ]  # fmt: skip


async def test_unisender_go() -> None:
    events = [event for user in payload("unisender-go") for event in user["events"]]
    reports = await unisender.read_webhook(signed.UNISENDER, signed.by_unisender(events))
    assert ours(reports[:-1]) == [
        K.DELIVERED, K.DEFERRED, K.BOUNCED, K.SOFT_BOUNCED, K.OPENED, K.CLICKED, K.UNSUBSCRIBED, K.COMPLAINED,
        K.UNKNOWN,
    ]  # fmt: skip
    assert (reports[-1].kind, reports[-1].message_id) == (K.UNKNOWN, None)


def _mangled(data: Any, odd: Any, choose: Callable[[int], int]) -> Any:
    """The same with something odd in one place."""
    if isinstance(data, dict) and data and choose(8):
        name = sorted(data)[choose(len(data))]
        return {**data, name: _mangled(data[name], odd, choose)}
    if isinstance(data, list) and data and choose(8):
        place = choose(len(data))
        return [*data[:place], _mangled(data[place], odd, choose), *data[place + 1 :]]
    return odd


async def read_all(coming: Awaitable[list[Report]]) -> list[Report]:
    """What a reader gives."""
    return await coming


_ODD: tuple[Any, ...] = (
    None, 5, 10**400, -1e300, True, "", "x\0\ud800", [], {}, [[]], [None], {"a": [1]}, ["a", {}]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["sendgrid", "postmark", "mailgun", "ses", "unisender-go"]), st.sampled_from(_ODD), st.data())
def test_whatever_stands_in_a_place_it_is_read_or_refused(vendor: str, odd: Any, data: st.DataObject) -> None:
    good = payload(vendor)
    whole = good if vendor == "sendgrid" else good[data.draw(st.integers(0, len(good) - 1))]
    bad = _mangled(whole, odd, lambda below: data.draw(st.integers(0, below - 1)))
    amazon, read = Sns(signed.Amazon().fetch), SCHEMES[vendor].reports
    assert read is not None
    body = json.dumps(bad)
    match vendor:
        case "sendgrid":
            url, hook = signed.SENDGRID, signed.by_sendgrid(bad)
        case "postmark":
            url, hook = signed.POSTMARK, signed.hook(body.encode(), signed.BASIC)
        case "mailgun":
            url, hook = signed.MAILGUN, signed.by_mailgun(bad)
        case "ses":
            url, hook = signed.SES, signed.by_sns(body)
        case _:
            url, hook = signed.UNISENDER, signed.by_unisender([bad])
    with patch.object(ses, "sns", amazon):
        try:
            reports = asyncio.run(read_all(read(url, hook)))
        except InvalidInput:
            return
    for report in reports:
        f"{report.key}{report.reason}{report.recipient}{report.details}".replace("\0", "").encode()


async def test_the_signed_webhook_that_sendgrid_publishes() -> None:
    key = (
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eN"
        "Ec6wEA3F+g=="
    )
    event = {
        "email": "hello@world.com",
        "event": "dropped",
        "reason": "Bounced Address",
        "sg_event_id": "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
        "sg_message_id": "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",
        "smtp-id": "<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",
        "timestamp": 1600112492,
    }
    headers = {
        "x-twilio-email-event-webhook-timestamp": "1600112502",
        "x-twilio-email-event-webhook-signature": (
            "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
        ),
    }
    body = json.dumps([event], separators=(",", ":")).encode() + b"\r\n"
    url, at = f"sendgrid://KEY@?webhook_key={key.replace('+', '%2B')}", datetime.fromtimestamp(1600112510, UTC)
    [report] = await sendgrid.read_webhook(url, signed.hook(body, headers, at))
    assert (report.recipient, report.reason) == ("hello@world.com", "Bounced Address")
    with pytest.raises(Forged):
        await sendgrid.read_webhook(url, signed.hook(body.replace(b"dropped", b"opened"), headers, at))


@pytest.mark.parametrize("number", range(5))
async def test_the_signed_messages_that_amazon_publishes(number: int) -> None:
    """With and without subject, both versions of the signature, and what is about the subscription itself."""
    published = payload("sns-signed")
    message, asked = published["messages"][number], list[str]()
    at = datetime.fromisoformat(message["Timestamp"])

    async def fetch(url: str) -> bytes:
        asked.append(url)
        return str(published["certificate"]).encode()

    said = await Sns(fetch).notification(json.dumps(message).encode(), message["TopicArn"], at)
    kind = message["Type"]
    assert said == (message["Message"] if kind == "Notification" else None)
    confirmed = [message["SubscribeURL"]] if kind == "SubscriptionConfirmation" else []
    assert asked == [message["SigningCertURL"], *confirmed]
    other = json.dumps(message | {"Message": "Hello!"}).encode()
    with pytest.raises(Forged, match="signature does not hold"):
        await Sns(fetch).notification(other, message["TopicArn"], at)


@pytest.mark.parametrize("stamp", ["1403645220", 1403645220])
async def test_the_signature_that_mailgun_publishes(stamp: str | int) -> None:
    signature = {
        "timestamp": stamp,
        "token": "5egbgr1vjgqxtrnp65xfznchgdccwh5d6i09vijqi3whgowmn6",
        "signature": "9cfc5c41582e51246e73c88d34db3af0a3a2692a76fbab81492842f000256d33",
    }
    url = "mailgun://key@/mg.example.com?webhook_key=key-3ax6xnjp29jd6fds4gc373sgvjxteol0"
    at, body = datetime.fromtimestamp(1403645220, UTC), {"signature": signature, "event-data": {"event": "delivered"}}
    [report] = await mailgun.read_webhook(url, signed.hook(json.dumps(body).encode(), at=at))
    assert report.kind is K.DELIVERED
    other = body | {"signature": signature | {"token": "owyldpe6nxhmrn78epljl6bj0orrki1u3d2v5e6cnlmmuox8jr"}}
    with pytest.raises(Forged):
        await mailgun.read_webhook(url, signed.hook(json.dumps(other).encode(), at=at))


async def test_the_digest_of_a_callback_of_unisender_go() -> None:
    url, body = "unisender-go://api_key@", b'{"auth":"8c64386327f53722434f44021a7a0d40","key":"value"}'
    with pytest.raises(InvalidInput, match="events_by_user"):  # its digest holds, and it is no callback
        await unisender.read_webhook(url, signed.hook(body))
    with pytest.raises(Forged):
        await unisender.read_webhook(url, signed.hook(body.replace(b'"value"', b' "value"')))
