"""Letters through the APIs of vendors: what is sent, and what every answer means. The same for each of them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any
from uuid import UUID

import pytest

from channels.email.vendors.answers import Answer
from channels.email.vendors.vendor import Call, VendorProvider
from channels.provider import Attachment, EmailProvider, Letter, Outcome
from channels.registry import SCHEMES, scheme_of
from core.errors import InvalidInput, Misconfigured, Unavailable
from core.settings import Settings
from tests.channels.email.vendors.peer import DROP, ENDLESS, GARBAGE, HALF, HANG, Peer, Request, Said, serving

LETTER = Letter(
    UUID(int=7),
    "Kaskad <news@shop.example>",
    "anna@example.net",
    "Привет",
    "<p>Hi</p>",
    "Hi",
    {"Reply-To": "r-1@in.example", "List-Unsubscribe": "<https://k.example/u/x>"},
    attachments=(Attachment("a.txt", "text/plain", b"file"),),
)


@dataclass(frozen=True)
class Case:
    """One vendor: its URL, its yes, how it says no for each reason, and what its yes yields."""

    url: str
    good: Said
    number: str
    busy: Said
    broke: Said
    bad_key: Said
    bad_letter: Said
    own_error: Said
    content: Callable[[Request], Any]
    """Where the message id, the sender's name or address, the subject and the texts can be found."""


def _always(said: Said) -> Callable[[Request], Said]:
    return lambda _: said


CASES = {
    "sendgrid": Case(
        "sendgrid://SG.key@127.0.0.1:{port}?tls=no",
        (202, {"X-Message-Id": "14c5d75ce93"}, b""),
        "14c5d75ce93",
        (429, {"Retry-After": "17"}, {"errors": [{"message": "too many requests"}]}),
        (401, {}, {"errors": [{"message": "Maximum credits exceeded"}]}),
        (401, {}, {"errors": [{"message": "The provided authorization grant is invalid"}]}),
        (400, {}, {"errors": [{"message": "Does not contain a valid address.", "field": "to"}]}),
        (500, {}, {"errors": [{"message": "internal"}]}),
        lambda request: request.json["personalizations"][0]["custom_args"]["kaskad"],
    ),
    "postmark": Case(
        "postmark://token@127.0.0.1:{port}?tls=no&stream=news",
        (200, {}, {"To": "anna@example.net", "MessageID": "b7bc2f4a", "ErrorCode": 0, "Message": "OK"}),
        "b7bc2f4a",
        (429, {"Retry-After": "17"}, {"ErrorCode": 429, "Message": "Rate limit exceeded"}),
        (422, {}, {"ErrorCode": 405, "Message": "Not allowed to send: you ran out of credits"}),
        (401, {}, {"ErrorCode": 10, "Message": "Bad or missing API token"}),
        (422, {}, {"ErrorCode": 406, "Message": "Inactive recipient"}),
        (500, {}, {"ErrorCode": 100, "Message": "Maintenance"}),
        lambda request: request.json["Metadata"]["kaskad"],
    ),
    "mailgun": Case(
        "mailgun://key@127.0.0.1:{port}/mg.example.com?tls=no",
        (200, {}, {"id": "<2026.1@mg.example.com>", "message": "Queued. Thank you."}),
        "2026.1@mg.example.com",
        (429, {"Retry-After": "17"}, {"message": "Too many requests"}),
        (403, {}, {"message": "Domain mg.example.com is not allowed to send: Free accounts are limited"}),
        (401, {}, b"Forbidden"),
        (400, {}, {"message": "'to' parameter is not a valid address. please check documentation"}),
        (500, {}, {"message": "Internal Server Error"}),
        lambda request: request.body.split(b'name="v:kaskad"\r\n\r\n')[1].split(b"\r\n")[0].decode(),
    ),
    "unisender-go": Case(
        "unisender-go://key@127.0.0.1:{port}?tls=no",
        (200, {}, {"status": "success", "job_id": "1ZymBc-00041N-9X", "emails": ["anna@example.net"]}),
        "1ZymBc-00041N-9X",
        (429, {"Retry-After": "17"}, {"status": "error", "code": 150, "message": "Too many requests"}),
        (403, {}, {"status": "error", "code": 901, "message": "No money"}),
        (401, {}, {"status": "error", "code": 102, "message": "Can not decode key"}),
        (200, {}, {"status": "success", "job_id": "1", "emails": [], "failed_emails": {"anna@example.net": "invalid"}}),
        (500, {}, {"status": "error", "code": 1, "message": "internal"}),
        lambda request: request.json["message"]["recipients"][0]["metadata"]["kaskad"],
    ),
    "ses": Case(
        "ses://AKID:secret@eu-west-1?endpoint=127.0.0.1:{port}",
        (200, {}, {"MessageId": "0102018"}),
        "0102018",
        (429, {"x-amzn-ErrorType": "TooManyRequestsException", "Retry-After": "17"}, {"message": "Rate"}),
        (400, {"x-amzn-ErrorType": "LimitExceededException"}, {"message": "Daily sending quota exceeded"}),
        (403, {"x-amzn-ErrorType": "SignatureDoesNotMatchException"}, {"message": "The request signature"}),
        (400, {"x-amzn-ErrorType": "BadRequestException:http://x"}, {"message": "Domain contains illegal character"}),
        (500, {"x-amzn-ErrorType": "InternalServiceErrorException"}, {"message": "?"}),
        lambda request: request.json["EmailTags"][0]["Value"],
    ),
}


@asynccontextmanager
async def _opened(
    case: Case, answer: Callable[[Request], Said], more: str = ""
) -> AsyncIterator[tuple[EmailProvider, Peer]]:
    peer = Peer(answer)
    async with serving(peer) as port:
        url = case.url.format(port=port) + more
        provider = scheme_of(url).open(url, Settings())
        try:
            yield provider, peer
        finally:
            await provider.close()


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Each vendor in turn."""
    return CASES[request.param]


def test_every_vendor_is_tested() -> None:
    assert {name for name, scheme in SCHEMES.items() if scheme.reports and scheme.channel == "email"} >= set(CASES)


async def test_a_letter_is_taken_with_our_id(case: Case) -> None:
    async with _opened(case, lambda _: case.good) as (provider, peer):
        [receipt] = await provider.hand_over([LETTER])
    assert (receipt.outcome, receipt.provider_message_id) == (Outcome.ACCEPTED, case.number)
    assert case.content(peer.requests[0]) == str(LETTER.message_id)


async def test_mime_arrives_whole_where_it_is_sent() -> None:
    import base64

    for name in ("ses", "mailgun"):
        async with _opened(CASES[name], _always(CASES[name].good)) as (provider, peer):
            await provider.hand_over([LETTER])
        body = peer.requests[0].body
        if name == "ses":
            source = base64.b64decode(peer.requests[0].json["Content"]["Raw"]["Data"])
        else:
            source = body.split(b"message/rfc822\r\n\r\n")[1].rpartition(b"\r\n--")[0]
        message = message_from_bytes(source, policy=policy.default)
        assert (message["Subject"], message["Reply-To"]) == ("Привет", "r-1@in.example")
        assert [part.get_filename() for part in message.iter_attachments()] == ["a.txt"]


async def test_json_has_everything_of_the_letter() -> None:
    for name in ("sendgrid", "postmark", "unisender-go"):
        async with _opened(CASES[name], _always(CASES[name].good)) as (provider, peer):
            await provider.hand_over([LETTER])
        words = peer.requests[0].body.decode().encode().decode("unicode_escape")
        for part in (
            "news@shop.example",
            "anna@example.net",
            "<p>Hi</p>",
            "r-1@in.example",
            "List-Unsubscribe",
            "a.txt",
        ):
            assert part in words, (name, part)
        assert "ZmlsZQ==" in words


@pytest.mark.parametrize(
    ("said", "outcome", "elsewhere"),
    [
        ("busy", Outcome.DEFERRED, False),
        ("broke", Outcome.REJECTED, True),
        ("bad_key", Outcome.DEFERRED, False),
        ("bad_letter", Outcome.REJECTED, False),
        ("own_error", Outcome.DEFERRED, False),
    ],
)
async def test_what_a_no_means(case: Case, said: str, outcome: Outcome, elsewhere: bool) -> None:
    async with _opened(case, lambda _: getattr(case, said)) as (provider, _):
        [receipt] = await provider.hand_over([LETTER])
    assert (receipt.outcome, receipt.elsewhere) == (outcome, elsewhere), receipt
    assert receipt.reason
    if said == "busy":
        assert receipt.retry_after == timedelta(seconds=17)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (DROP, Outcome.UNKNOWN),
        (HALF, Outcome.UNKNOWN),
        (GARBAGE, Outcome.UNKNOWN),
        (ENDLESS, Outcome.UNKNOWN),
        (HANG, Outcome.UNKNOWN),
        ((200, {}, b"<html>Sign in to the hotel's network</html>"), Outcome.UNKNOWN),
        ((200, {}, b"[" * 150_000), Outcome.UNKNOWN),
        ((502, {}, b"bad gateway"), Outcome.UNKNOWN),
        ((503, {"Retry-After": "Mon, 23 Nov 2099 00:00:00 GMT"}, b"later"), Outcome.DEFERRED),
    ],
)
async def test_misbehaviour_is_in_doubt_only_where_the_letter_may_have_left(
    case: Case, said: Said, outcome: Outcome
) -> None:
    async with _opened(case, lambda _: said, "&timeout=1" if said == HANG else "") as (provider, _):
        [receipt] = await provider.hand_over([LETTER])
    assert receipt.outcome is outcome, receipt
    assert receipt.retry_after is None or receipt.retry_after <= timedelta(hours=1)


async def test_nobody_there_defers(case: Case) -> None:
    async with _opened(case, lambda _: case.good) as (provider, _):
        pass
    url = case.url.format(port=1)
    provider = scheme_of(url).open(url, Settings())
    [receipt] = await provider.hand_over([LETTER])
    assert receipt.outcome is Outcome.DEFERRED
    with pytest.raises(Unavailable):
        await provider.check()
    await provider.close()


async def test_calls_at_a_time_are_bounded_and_answers_keep_their_order(case: Case) -> None:
    letters = [Letter(UUID(int=n), LETTER.sender, LETTER.recipient, str(n), "", "x") for n in range(1, 13)]
    refused = {str(UUID(int=n)) for n in (3, 7)}

    def answer(request: Request) -> Said:
        return case.bad_letter if case.content(request) in refused else case.good

    async with _opened(case, answer, "&connections=2") as (provider, peer):
        receipts = await provider.hand_over(letters)
    assert [n for n, receipt in enumerate(receipts, 1) if receipt.outcome is Outcome.REJECTED] == [3, 7]
    assert peer.most_at_once <= 2


async def test_a_defect_over_one_letter_leaves_the_others_alone(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = [replace(LETTER, message_id=UUID(int=n)) for n in range(1, 5)]
    async with _opened(case, lambda _: case.good, "&connections=1") as (provider, peer):
        assert isinstance(provider, VendorProvider)
        vendor = provider._vendor
        build, accepted = vendor.build, vendor.accepted

        def built(letter: Letter, at: datetime) -> Call:
            if letter.message_id == UUID(int=1):
                raise KeyError("a defect")
            return build(letter, at)

        def read(answer: Answer) -> str | None:
            if len(peer.requests) == 2:
                raise TypeError("a defect")
            return accepted(answer)

        monkeypatch.setattr(vendor, "build", built)
        monkeypatch.setattr(vendor, "accepted", read)
        receipts = await provider.hand_over(letters)
    expected = [Outcome.REJECTED, Outcome.ACCEPTED, Outcome.UNKNOWN, Outcome.ACCEPTED]
    assert [receipt.outcome for receipt in receipts] == expected
    assert len(peer.requests) == 3


@pytest.mark.parametrize("failed", [{"anna@example.net": ["invalid"]}, {"anna@example.net": {"a": 1}}, ["x"], "x"])
async def test_unisender_go_may_say_what_failed_in_any_form(failed: Any) -> None:
    said = {"status": "success", "job_id": "1", "emails": [], "failed_emails": failed}
    async with _opened(CASES["unisender-go"], lambda _: (200, {}, said)) as (provider, _):
        [receipt] = await provider.hand_over([LETTER])
    taken = Outcome.REJECTED if isinstance(failed, dict) else Outcome.ACCEPTED
    assert receipt.outcome is taken


@pytest.mark.parametrize(
    ("word", "elsewhere"),
    [
        ("invalid", False),
        ("unsubscribed", False),
        ("complained", False),
        ("permanent_unavailable", False),
        ("blocked", False),  # spam traps: nobody else should write there, either
        ("temporary_unavailable", True),
    ],
)
async def test_whom_unisender_go_does_not_write_to(word: str, elsewhere: bool) -> None:
    said = {"status": "success", "job_id": "1", "emails": [], "failed_emails": {"anna@example.net": word}}
    async with _opened(CASES["unisender-go"], lambda _: (200, {}, said)) as (provider, _):
        [receipt] = await provider.hand_over([LETTER])
    assert (receipt.outcome, receipt.reason, receipt.elsewhere) == (Outcome.REJECTED, word, elsewhere)


async def test_checking_says_what_is_wrong(case: Case) -> None:
    async with _opened(case, lambda _: (200, {}, {})) as (provider, peer):
        await provider.check()
    assert all(b"kaskad" not in request.body for request in peer.requests)
    async with _opened(case, lambda _: case.bad_key) as (provider, _):
        with pytest.raises(Misconfigured):
            await provider.check()


@pytest.mark.parametrize(
    "url",
    [
        "sendgrid://api.sendgrid.com",
        "sendgrid://KEY@example.com?tls=no",
        "sendgrid://KEY@?webhook_key=nonsense",
        "postmark://KEY@?strm=x",
        "mailgun://KEY@api.mailgun.net",
        "ses://AKID@eu-west-1",
        "ses://AKID:secret@email.amazonaws.com",
        "unisender-go://KEY@?timeout=0",
    ],
)
def test_a_url_that_cannot_work_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        scheme_of(url).open(url, Settings())
    assert "KEY" not in str(refused.value).replace("API_KEY", "").replace("://KEY@", "").replace("KEY_ID", "")


def test_requests_to_amazon_are_signed_as_botocore_signs_them() -> None:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    from channels.email.vendors.sigv4 import signed

    url, body = "https://email.eu-west-1.amazonaws.com/v2/email/outbound-emails", b'{"a": 1}'
    theirs = AWSRequest("POST", url, {"Content-Type": "application/json"}, body)
    SigV4Auth(Credentials("AKID", "secret"), "ses", "eu-west-1").add_auth(theirs)
    at = datetime.strptime(theirs.context["timestamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ours = signed("POST", url, {"Content-Type": "application/json"}, body, at, ("AKID", "secret"), ("eu-west-1", "ses"))
    assert ours["authorization"] == theirs.headers["Authorization"]


async def test_amazons_api_as_moto_has_it() -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        import boto3

        client = boto3.client(
            "sesv2", "eu-west-1", endpoint_url=f"http://{host}:{port}", aws_access_key_id="a", aws_secret_access_key="b"
        )
        url = f"ses://a:b@eu-west-1?endpoint={host}:{port}"
        provider = scheme_of(url).open(url, Settings())
        [refused] = await provider.hand_over([LETTER])
        client.create_email_identity(EmailIdentity="news@shop.example")
        [taken] = await provider.hand_over([LETTER])
        await provider.close()
    finally:
        server.stop()
    assert refused.outcome is Outcome.REJECTED
    assert taken.outcome is Outcome.ACCEPTED
    assert taken.provider_message_id
