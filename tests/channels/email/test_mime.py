"""The bytes of a letter, read back by the standard library's parser."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.email import mime
from channels.provider import Attachment, Letter
from core.errors import InvalidInput

AT = datetime(2026, 11, 22, 9, 30, 15, 123, tzinfo=UTC)
ID = UUID("018f3b5e-0000-8000-8000-000000000001")

# What cannot be in a letter at all: lone surrogates anywhere; line breaks and nulls in headers.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=200)


def letter(**changes: Any) -> Letter:
    values: dict[str, Any] = {
        "message_id": ID,
        "sender": "Export <news@export.example>",
        "recipient": "anna@shop.example",
        "subject": "Hello",
        "html": "<p>Hello</p>\n",
        "text": "Hello\n",
        "headers": {},
    }
    return Letter(**{**values, **changes})


def read(made: mime.Mime) -> EmailMessage:
    return message_from_bytes(made.head() + made.body, policy=policy.default)


def unified(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def content(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    assert part is not None
    payload = cast("bytes", part.get_payload(decode=True))
    return payload.decode().replace("\r\n", "\n")


def test_letter_reads_back() -> None:
    headers = {
        "List-Unsubscribe": "<https://export.example/u/abc>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "Reply-To": "Помощь <help@export.example>",
    }
    message = read(mime.build(letter(headers=headers), AT))
    assert message["From"] == "Export <news@export.example>"
    assert message["To"] == "anna@shop.example"
    assert message["Date"].datetime == AT.replace(microsecond=0)
    assert message["Message-ID"] == f"<{ID}@export.example>"
    assert message["MIME-Version"] == "1.0"
    assert message["List-Unsubscribe"] == "<https://export.example/u/abc>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["Reply-To"].addresses[0].display_name == "Помощь"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert not message.defects


@given(subject=lines, html=texts, text=texts)
def test_any_subject_and_content_reads_back(subject: str, html: str, text: str) -> None:
    made = mime.build(letter(subject=subject, html=html + ".", text=text + "."), AT)
    message = read(made)
    assert message["Subject"] == subject
    assert content(message, "html") == unified(html) + "."
    assert content(message, "plain") == unified(text) + "."


@given(name=lines)
def test_any_display_name_reads_back(name: str) -> None:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    made = mime.build(letter(sender=f'"{escaped}" <a@b.example>'), AT)
    # The newer parser of Python 3.11 keeps the space between two encoded words of a display name; this one does not.
    raw = message_from_bytes(made.head(), policy=policy.compat32)["From"]
    shown, address = parseaddr(raw)
    assert address == "a@b.example"
    assert str(make_header(decode_header(shown))) == name.strip()


@given(subject=lines, content=texts, name=st.text(max_size=30))
def test_lines_are_short_and_end_with_crlf(subject: str, content: str, name: str) -> None:
    try:
        made = mime.build(letter(subject=subject, html=content, text=content, sender=f"{name} <a@b.example>"), AT)
    except InvalidInput:
        return
    whole = made.head() + made.body
    assert whole.replace(b"\r\n", b"").count(b"\n") == 0
    assert whole.replace(b"\r\n", b"").count(b"\r") == 0
    assert max(map(len, whole.split(b"\r\n"))) <= mime.HARD_LIMIT


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "Hi\r\nBcc: all@shop.example"},
        {"subject": "Hi\nthere"},
        {"subject": "nul\0"},
        {"sender": "Mallory\r\nBcc: x@y.example <news@export.example>"},
        {"sender": '"Mal\nlory" <news@export.example>'},
        {"sender": "news@export.example>\r\nBcc: <x@y.example"},
        {"recipient": "anna@shop.example\r\nBcc: x@y.example"},
        {"recipient": "anna@shop.example, x@y.example"},
        {"recipient": "anna@shop.example> RCPT TO:<x@y.example"},
        {"recipient": "an na@shop.example"},
        {"recipient": "anna"},
        {"recipient": "anna@"},
        {"recipient": "@shop.example"},
        {"recipient": "anna@-shop.example"},
        {"recipient": "anna@sh op.example"},
        {"recipient": "anna@" + "a" * 64 + ".example"},
        {"recipient": "a" * 65 + "@shop.example"},
        {"recipient": "an\ud800na@shop.example"},
        {"headers": {"X-Tag": "a\r\nBcc: x@y.example"}},
        {"headers": {"X-Tag": "a\nb"}},
        {"headers": {"X-Tag\r\nBcc": "x"}},
        {"headers": {"X Tag": "x"}},
        {"headers": {"X:Tag": "x"}},
        {"headers": {"": "x"}},
        {"headers": {"bcc": "x@y.example"}},
        {"headers": {"From": "x@y.example"}},
        {"headers": {"Reply-To": "a@b.example\r\nBcc: x@y.example"}},
        {"headers": {"X-Long": "x" * 1000}},
        {"subject": "\ud800"},
        {"text": "\ud800"},
    ],
    ids=repr,
)
def test_what_would_break_out_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        mime.build(letter(**changes), AT)


def test_international_domain_and_name() -> None:
    made = mime.build(letter(sender="Почта России <news@Почта.рф>", recipient="anna@münchen.example"), AT)
    assert made.sender.spec == "news@xn--80a1acny.xn--p1ai"
    assert made.recipient.spec == "anna@xn--mnchen-3ya.example"
    assert made.recipient.domain == "xn--mnchen-3ya.example"
    assert not made.needs_utf8
    assert (made.head() + made.body).isascii()
    assert read(made)["From"].addresses[0].display_name == "Почта России"


def test_international_local_part_needs_smtputf8() -> None:
    made = mime.build(letter(recipient="анна@shop.example"), AT)
    assert made.needs_utf8
    assert "анна@shop.example".encode() in made.head()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain text\n", b"7bit"),
        ("x" * 998, b"7bit"),
        ("x" * 999, b"quoted-printable"),
        ("From here\n", b"quoted-printable"),
        ("a\nFrom here", b"quoted-printable"),
        ("--=_018f", b"quoted-printable"),
        ("nul\0", b"quoted-printable"),
        ("mostly English, one naïve word", b"quoted-printable"),
        ("Здравствуйте, Анна", b"base64"),
        ("こんにちは", b"base64"),
    ],
)
def test_encoding_is_chosen(text: str, encoding: bytes) -> None:
    assert mime.encode(text)[0] == encoding


def test_content_cannot_close_its_part() -> None:
    trick = f"--=_{ID.hex}--\n\nend"
    message = read(mime.build(letter(html=trick, text=trick), AT))
    assert content(message, "html") == trick


@pytest.mark.parametrize(
    ("html", "text", "kind"), [("<p>x</p>", "", "text/html"), ("", "x", "text/plain"), ("", "", "text/plain")]
)
def test_one_part_alone(html: str, text: str, kind: str) -> None:
    message = read(mime.build(letter(html=html, text=text), AT))
    assert message.get_content_type() == kind
    assert message.get_content().rstrip() == html + text


def test_long_subject_is_folded() -> None:
    subject = "word " * 60 + "end"
    made = mime.build(letter(subject=subject), AT)
    assert max(map(len, made.head().split(b"\r\n"))) <= 78
    assert read(made)["Subject"] == subject


def test_files_pictures_and_an_invitation_stand_where_mail_programs_look_for_them() -> None:
    files = (
        Attachment("счёт.pdf", "application/pdf", b"%PDF" * 100),
        Attachment("logo.png", "image/png", b"png", content_id="logo"),
        Attachment("invite.ics", "text/calendar; method=REQUEST; charset=utf-8", b"BEGIN:VCALENDAR"),
    )
    built = mime.build(letter(attachments=files), AT)
    message = message_from_bytes(built.head() + built.body, policy=policy.default)
    assert not message.defects
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed", "multipart/related", "multipart/alternative", "text/plain", "text/html", "text/calendar",
        "image/png", "application/pdf",
    ]  # fmt: skip
    [file] = list(message.iter_attachments())
    assert (file.get_filename(), file.get_content()) == ("счёт.pdf", b"%PDF" * 100)
    assert message.get_body(("plain",)) is not None


@pytest.mark.parametrize(("name", "kind"), [("a\r\nBcc: x", "text/plain"), ("a", "text/plain\r\nBcc: x"), ("a", "x")])
def test_a_file_whose_name_or_type_would_break_out_is_refused(name: str, kind: str) -> None:
    with pytest.raises(InvalidInput):
        mime.build(letter(attachments=(Attachment(name, kind, b""),)), AT)
