"""What letters that came in say: by their bytes alone."""

import time
from datetime import UTC, datetime
from email import message_from_string
from unittest.mock import patch
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.email.inbound import Incoming
from channels.email.inbound.bounces import kind_of, recognised, says_gone
from channels.email.inbound.reading import Reader
from channels.email.inbound.replies import TEXT_LIMIT, cut
from channels.provider import ReportKind
from channels.signed import SignedAddresses
from channels.tokens import Signer
from tests.channels.email.inbound import samples
from tests.channels.email.inbound.samples import AT, letter

OURS = SignedAddresses(b"secret", "in.example.com")
LINKS = Signer(b"secret", "unsubscribe")
READER = Reader(OURS, LINKS)
NUMBER = uuid4()
BOUNCE = OURS.make("bounce", NUMBER)
REPLY = OURS.make("reply", NUMBER)


def test_a_permanent_failure_bounces() -> None:
    [report] = READER.read(letter(samples.failed(BOUNCE)))
    assert (report.kind, report.message_id, report.recipient) == (ReportKind.BOUNCED, NUMBER, "Anna@example.net")
    assert report.reason == "5.1.1 smtp; 550 5.1.1 User unknown"


def test_the_envelope_names_the_message_where_the_headers_do_not() -> None:
    [report] = READER.read(letter(samples.failed("someone@example.com"), BOUNCE))
    assert report.message_id == NUMBER


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        ("5.1.1", "550 5.1.1 User unknown", ReportKind.BOUNCED),
        ("5.1.2", "Host or domain name not found", ReportKind.BOUNCED),
        ("5.2.1", "550 mailbox disabled", ReportKind.BOUNCED),
        ("5.0.0", "550 no such user here", ReportKind.BOUNCED),
        ("5.7.1", "550 5.7.1 No such user", ReportKind.BOUNCED),
        ("5.2.2", "552 5.2.2 Mailbox full", ReportKind.SOFT_BOUNCED),
        ("5.0.0", "552 over quota", ReportKind.SOFT_BOUNCED),
        ("5.7.1", "554 5.7.1 blocked by spamhaus", ReportKind.SOFT_BOUNCED),
        ("5.7.26", "550 unauthenticated: DMARC", ReportKind.SOFT_BOUNCED),
        ("5.3.4", "message too big", ReportKind.SOFT_BOUNCED),
        ("4.4.1", "connection timed out", ReportKind.SOFT_BOUNCED),
        ("4.2.1", "no such user? try later", ReportKind.SOFT_BOUNCED),
        ("", "", ReportKind.BOUNCED),
    ],
)
def test_only_a_dead_address_bounces_for_good(status: str, words: str, kind: ReportKind) -> None:
    assert kind_of(status, words) is kind


@pytest.mark.parametrize(
    ("status", "words", "gone"),
    [
        ("5.1.1", "5.1.1 <anna@example.net>: user unknown", True),
        ("5.1.1", "5.1.1 The account that you tried to reach is nowhere", True),
        ("5.1.2", "5.1.2 bad destination", True),
        ("5.1.10", "5.1.10 takes no mail (null MX)", True),
        ("5.2.1", "5.2.1 disabled", True),
        ("", "No such user here", True),
        ("5.1.0", "5.1.0 Recipient unknown", True),
        ("5.1.1", "5.1.1 blocked: policy", False),
        ("5.7.1", "5.7.1 No such user", False),  # it may say so to whomever it distrusts
        ("5.7.26", "5.7.26 unauthenticated", False),
        ("5.1.8", "5.1.8 Sender address rejected: domain does not exist", False),
        ("5.1.7", "5.1.7 bad sender", False),
        ("5.1.0", "5.1.0 Sender address does not exist", False),
        ("5.2.2", "5.2.2 mailbox full", False),
        ("5.5.1", "5.5.1 no valid recipients", False),
        ("", "Requested action not taken: mailbox unavailable", False),  # many say so of spam
        ("", "", False),
    ],
)
def test_a_refused_recipient_is_gone_only_if_the_server_says_so(status: str, words: str, gone: bool) -> None:
    assert says_gone(status, words) is gone


@pytest.mark.parametrize(
    ("action", "kinds"),
    [
        ("delayed", [ReportKind.DEFERRED]),
        ("delivered", [ReportKind.DELIVERED]),
        ("relayed", []),
        ("expanded (to list)", []),
        ("vanished", [ReportKind.UNKNOWN]),
    ],
)
def test_not_every_notification_is_a_failure(action: str, kinds: list[ReportKind]) -> None:
    assert [one.kind for one in READER.read(letter(samples.failed(BOUNCE, "4.4.1", "wait", action)))] == kinds


def test_a_bounce_in_a_form_of_its_own() -> None:
    [report] = READER.read(letter(samples.EXIM.format(to=BOUNCE)))
    assert (report.kind, report.recipient) == (ReportKind.BOUNCED, "anna@example.net")


def test_a_bounce_that_nobody_can_read_is_kept() -> None:
    source = f"Return-Path: <>\nTo: {BOUNCE}\nSubject: computer says no\n\nNo, thank you.\n"
    [report] = READER.read(letter(source))
    assert (report.kind, report.reason) == (ReportKind.UNKNOWN, "No, thank you.")


def test_who_has_no_signed_address_bounces_nobody() -> None:
    forged = "b-" + "a" * 42 + "@in.example.com"
    assert READER.read(letter(samples.failed(forged), forged)) == []
    assert READER.read(letter(samples.failed("hello@example.com"))) == []


def test_the_same_letter_has_the_same_key_whichever_way_it_comes() -> None:
    source = samples.failed(BOUNCE)
    [first] = READER.read(letter(source))
    [again] = READER.read(letter("Received: from mx.example.net by in.example.com\nDelivered-To: x@y\n" + source))
    [other] = READER.read(letter(source.replace("4711@", "4712@")))
    assert first.key == again.key != other.key


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("abuse", ReportKind.COMPLAINED),
        ("fraud", ReportKind.COMPLAINED),
        ("opt-out", ReportKind.UNSUBSCRIBED),
        ("not-spam", ReportKind.UNKNOWN),
        ("zapped", ReportKind.UNKNOWN),
    ],
)
def test_feedback_reports_by_the_return_path(kind: str, expected: ReportKind) -> None:
    hints = f"Original-Mail-From: <{BOUNCE}>\nOriginal-Rcpt-To: <anna@example.net>\n"
    [report] = READER.read(letter(samples.feedback(kind, hints)))
    assert (report.kind, report.message_id, report.recipient) == (expected, NUMBER, "anna@example.net")


def test_feedback_reports_by_the_original_letter() -> None:
    token = LINKS.sign(NUMBER, datetime(2026, 11, 1, tzinfo=UTC))
    for headers in (
        f"Return-Path: <{BOUNCE}>\n",
        f"Reply-To: {REPLY}\n",
        f"List-Unsubscribe: <https://kaskad.example.com/u/{token}>\n",
    ):
        [report] = READER.read(letter(samples.feedback("abuse", headers=headers)))
        assert (report.kind, report.message_id) == (ReportKind.COMPLAINED, NUMBER)
    forged = f"List-Unsubscribe: <https://kaskad.example.com/u/{'A' * 60}>\n"
    assert READER.read(letter(samples.feedback("abuse", headers=forged))) == []


def test_a_reply_says_what_its_writer_wrote() -> None:
    text = "Да, хочу!\n\n23.11.2026 12:00, Kaskad пишет:\n> Привет, вам интересно?\n> Ответьте да."
    [report] = READER.read(letter(samples.REPLY.format(to=REPLY, text=text)))
    assert (report.kind, report.message_id) == (ReportKind.ANSWERED, NUMBER)
    assert report.details == {"text": "Да, хочу!", "subject": "Re: Привет"}


def test_a_reply_without_plain_text() -> None:
    page = "<html><head><style>p{}</style></head><p>Yes &amp; <b>more</b></p><blockquote>old</blockquote></html>"
    source = samples.REPLY.format(to=REPLY, text=page).replace("text/plain", "text/html")
    [report] = READER.read(letter(source))
    assert report.details["text"] == "Yes & more"


@pytest.mark.parametrize(
    "mark",
    [
        "Auto-Submitted: auto-generated",
        "Precedence: bulk",
        "X-Autoreply: yes",
        "Return-Path: <>",
        "List-Id: <dev.example.net>",
    ],
)
def test_machines_do_not_reply(mark: str) -> None:
    assert READER.read(letter(f"{mark}\n" + samples.REPLY.format(to=REPLY, text="yes"))) == []


def test_who_is_out_of_office_neither_replies_nor_bounces() -> None:
    assert READER.read(letter(samples.OUT_OF_OFFICE.format(to=REPLY))) == []
    assert READER.read(letter(samples.OUT_OF_OFFICE.format(to=BOUNCE))) == []


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("Yes\n\nOn Mon, 23 Nov 2026 at 12:00, Kaskad <x@y.com> wrote:\n\n> Hi", "Yes"),
        ("Yes\n\nOn Mon, 23 Nov 2026 at 12:00, Kaskad\n<x@y.com> wrote:\n\n> Hi", "Yes"),
        ("Ok\n________________________________\nFrom: Kaskad <x@y.com>\nSent: Monday\n\nHi", "Ok"),
        ("Ok\n\n-----Original Message-----\nFrom: a\n\nHi", "Ok"),
        ("Нет\n\nПонедельник, 23 ноября 2026, 12:00 +03:00 от Kaskad <x@y.com>:\n>\n>Привет\n>Как дела", "Нет"),
        ("да\n\nпн, 23 нояб. 2026 г. в 12:00, Kaskad <x@y.com>:\n> Привет", "да"),
        ("1\n-- \nAnna\nCEO", "1"),
        ("2\n\nSent from my iPhone", "2"),
        ("just a word", "just a word"),
        ("> quoted first\nanswer below", "answer below"),
        ("", ""),
    ],
)
def test_quotes_and_signatures_are_cut(text: str, own: str) -> None:
    assert cut(text) == own


@given(st.text(max_size=2000))
def test_cutting_takes_any_text(text: str) -> None:
    assert len(cut(text)) <= TEXT_LIMIT


@given(st.binary(max_size=3000))
def test_any_bytes_are_read_without_an_error(source: bytes) -> None:
    READER.read(Incoming(source, AT, (BOUNCE,)))
    READER.read(Incoming(b"Content-Type: multipart/report; boundary=a\n\n--a\n" + source, AT, (REPLY,)))


@given(st.lists(st.integers(0, 60), max_size=8), st.binary(min_size=1, max_size=8))
def test_a_mangled_notification_is_read_without_an_error(lines: list[int], junk: bytes) -> None:
    source = letter(samples.failed(BOUNCE)).source.split(b"\r\n")
    for line in lines:
        source[line % len(source)] = junk
    READER.read(Incoming(b"\r\n".join(source), AT, (BOUNCE,)))


_ODD_PAGES = (
    "<![foo[",
    "<![CDATA[",
    "<!-",
    "<!doctype html [ <!x",
    "<?",
    "<![if x]>",
    "</",
    "<",
    "&#xffffffff;",
    "<a href='",
    "<!--",
)


@given(st.lists(st.one_of(st.sampled_from(_ODD_PAGES), st.text(max_size=20)), max_size=20))
def test_any_page_is_read_without_an_error(pieces: list[str]) -> None:
    source = samples.REPLY.format(to=REPLY, text="".join(pieces).replace("\r", "")).replace("text/plain", "text/html")
    incoming = Incoming(source.encode("utf-8", "replace"), AT, (REPLY,))
    assert [report.kind for report in READER.read(incoming)] == [ReportKind.ANSWERED]


@pytest.mark.parametrize(
    "charset", ["a\0b", "undefined", "hex", "punycode", "idna", "unicode_escape", "../x", "mbcs", ""]
)
def test_whatever_a_letter_calls_its_charset_it_is_read(charset: str) -> None:
    source = samples.REPLY.format(to=REPLY, text="yes").replace("charset=utf-8", f'charset="{charset}"')
    [report] = READER.read(letter(source))
    assert report.details["text"] == "yes"


@given(
    st.sampled_from(["Content-Type", "Content-Disposition", "Content-Transfer-Encoding", "To", "Subject"]), st.text()
)
def test_whatever_stands_in_a_header_is_read(name: str, value: str) -> None:
    source = f"{name}: {value}\n".encode("utf-8", "surrogatepass") + letter(samples.REPLY).source
    assert READER.read(Incoming(source, AT, (REPLY,)))[0].reason != "a letter that cannot be read"


@pytest.mark.parametrize(
    "source",
    [
        *(f"Content-Type: text/html\n\n{piece * 60_000}" for piece in ("<a ", "<!--", "</", "<![CDATA[", '<a x="')),
        f'Content-Type: text/plain; a="{";b" * 60_000}"\n\nyes',
        f"Content-Type: text/plain; charset=punycode\n\na-{'b' * 200_000}",
        "Content-Type: text/plain\n\n" + "\n>\n" * 60_000,
        f"Subject: {'=?a?q?' * 30_000}\n\nyes",
    ],
)
def test_what_is_made_to_take_long_does_not(source: str) -> None:
    """By the square of its length, each of these takes from ten seconds to minutes."""
    began = time.process_time()
    READER.read(Incoming(source.encode(), AT, (REPLY,)))
    assert time.process_time() - began < 3


def test_a_letter_that_nobody_can_read_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(_message: object) -> bool:
        raise AssertionError("nobody thought of this")

    monkeypatch.setattr("channels.email.inbound.replies.is_automatic", stumble)
    source = samples.REPLY.format(to=REPLY, text="yes")
    for incoming in (letter(source), letter(source.replace(REPLY, "hidden"), REPLY)):
        [report] = READER.read(incoming)
        assert (report.kind, report.message_id) == (ReportKind.UNKNOWN, NUMBER)


def test_an_address_that_failed_in_both_ways_failed_for_good() -> None:
    message = message_from_string("Subject: x\n\nx")
    with patch(
        "channels.email.inbound.bounces.all_failures", lambda _: ({b"a@b.example", b"c@d.example"}, {b"a@b.example"})
    ):
        found = recognised(message)
    assert found == [(ReportKind.BOUNCED, "a@b.example"), (ReportKind.SOFT_BOUNCED, "c@d.example")]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<title>no</title><p>a &lt; b<br>c<!-- <p>no</p> --><script>if (a<b) '<p>no'</script>d", "a < b\ncd"),
        ("a < b, and 3 > 2", "a < b, and 3 > 2"),
        (
            "<div>one</div><DIV CLASS='x'>two</DIV><blockquote>old<blockquote>older</blockquote></blockquote>end",
            "one\ntwoend",
        ),
        ("<style>a<b</style>x<!-- never ends <p>no", "x"),
        ("<![if !mso]>yes<![endif]>", "yes"),
    ],
)
def test_a_page_as_text(page: str, text: str) -> None:
    source = samples.REPLY.format(to=REPLY, text=page).replace("text/plain", "text/html")
    [report] = READER.read(letter(source))
    assert report.details["text"] == text


def test_a_letter_nested_without_end_is_left() -> None:
    deep = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(3000))
    READER.read(letter(f"To: {BOUNCE}\n{deep}"))
